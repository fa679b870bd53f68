"""The HTTP API, version 1. It only translates: every decision is the service's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Response

from leeward import __version__
from leeward.console.access import everybody, guard, operator, unguarded, viewer
from leeward.console.drills_api import add_drills_api
from leeward.console.errors import install
from leeward.console.evidence_api import add_evidence_api
from leeward.console.identity import Identity
from leeward.console.listing import Order, Page
from leeward.console.service import Service
from leeward.console.users_api import add_users_api
from leeward.console.views import (
    FailbackRequest,
    FailoverRequest,
    HostView,
    LossRequest,
    LossView,
    ProtectRequest,
    RetryRequest,
    RunView,
    StatusView,
    TestRequest,
    TestView,
    VmView,
)
from leeward.domain.lifecycle import Event
from leeward.state.database import acting

Limit = Annotated[int, Query(ge=1, le=10_000)]
# How many rows there are on all pages.
TOTAL = "X-Total-Count"


def _page(
    search: Annotated[str, Query(description="part of a VM's or its host's name", max_length=200)] = "",
    order: Order = Order.NAME,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Limit | None = None,
) -> Page:
    return Page(search, order, offset, limit)


Paging = Annotated[Page, Depends(_page)]


def build_api(service: Service, identity: Identity, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """Every endpoint declares who may call it: `dependencies=` everybody, viewer, operator or admin.

    routers: of what the console does besides protecting and moving VMs.
    """
    app = FastAPI(title="Leeward", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    install(app)
    guard(app, identity.gate, identity.trail)

    # Plain functions, not coroutines: they block, and FastAPI runs such in its thread pool.
    @app.get("/api/v1/health", dependencies=everybody)
    def health() -> dict[str, str]:
        return {"version": __version__, "state": "active"}

    @app.get("/api/v1/hosts", dependencies=viewer)
    def hosts() -> list[HostView]:
        return service.hosts()

    @app.get("/api/v1/vms", dependencies=viewer)
    def vms(page: Paging, response: Response) -> list[VmView]:
        found, count = service.vms(page)
        response.headers[TOTAL] = str(count)
        return found

    @app.get("/api/v1/status", dependencies=viewer)
    def status(page: Paging, response: Response, vm: str | None = None) -> list[StatusView]:
        if vm is not None:
            return service.status(vm)
        found, count = service.statuses(page)
        response.headers[TOTAL] = str(count)
        return found

    @app.get("/api/v1/events", dependencies=viewer)
    def events(limit: Limit = 100) -> list[dict[str, str]]:
        return service.events(limit)

    @app.put("/api/v1/vms/{vm}/protection", dependencies=operator)
    def protect(vm: str, request: ProtectRequest) -> StatusView:
        return service.protect(vm, request)

    @app.delete("/api/v1/vms/{vm}/protection", dependencies=operator)
    def unprotect(vm: str, force: bool = False) -> dict[str, Any]:
        given_up = service.unprotect(vm, force)
        return {"vm": vm, "state": "disabled", "given_up_bytes": given_up}

    @app.post("/api/v1/vms/{vm}/pause", dependencies=operator)
    def pause(vm: str) -> StatusView:
        return service.set_paused(vm, True)

    @app.post("/api/v1/vms/{vm}/resume", dependencies=operator)
    def resume(vm: str) -> StatusView:
        return service.set_paused(vm, False)

    @app.get("/api/v1/test-failovers", dependencies=viewer)
    def tests() -> list[TestView]:
        return service.tests()

    @app.post("/api/v1/vms/{vm}/test-failover", status_code=202, dependencies=operator)
    def start_test(vm: str, request: TestRequest) -> TestView:
        return service.start_test(vm, request.point, acting.get())

    @app.get("/api/v1/vms/{vm}/test-failover", dependencies=viewer)
    def test(vm: str) -> TestView:
        return service.test(vm)

    @app.delete("/api/v1/vms/{vm}/test-failover", dependencies=operator)
    def cleanup(vm: str) -> TestView:
        return service.cleanup_test(vm, acting.get())

    @app.post("/api/v1/vms/{vm}/failover/planned", status_code=202, dependencies=operator)
    def planned(vm: str, request: FailoverRequest) -> RunView:
        return service.failover(vm, Event.PLANNED, request, acting.get())

    @app.post("/api/v1/vms/{vm}/failover/unplanned", status_code=202, dependencies=operator)
    def unplanned(vm: str, request: FailoverRequest) -> RunView:
        return service.failover(vm, Event.UNPLANNED, request, acting.get())

    @app.get("/api/v1/vms/{vm}/loss", dependencies=viewer)
    def loss(vm: str, wanted: Annotated[LossRequest, Query()]) -> LossView:
        return service.loss(vm, wanted)

    @app.post("/api/v1/vms/{vm}/failback", status_code=202, dependencies=operator)
    def failback(vm: str, request: FailbackRequest) -> RunView:
        return service.failback(vm, request, acting.get())

    @app.post("/api/v1/vms/{vm}/commit", status_code=202, dependencies=operator)
    def commit(vm: str) -> RunView:
        return service.commit(vm, acting.get())

    @app.post("/api/v1/vms/{vm}/retry", status_code=202, dependencies=operator)
    def retry(vm: str, request: RetryRequest) -> RunView:
        return service.retry(vm, request)

    @app.post("/api/v1/vms/{vm}/cancel", status_code=202, dependencies=operator)
    def cancel(vm: str) -> RunView:
        return service.cancel(vm)

    @app.get("/api/v1/vms/{vm}/run", dependencies=viewer)
    def last_run(vm: str) -> RunView:
        return service.last_run(vm)

    @app.get("/api/v1/runs", dependencies=viewer)
    def runs(vm: str | None = None, limit: Limit = 50) -> list[RunView]:
        return service.runs(vm, limit)

    @app.get("/api/v1/runs/{run}", dependencies=viewer)
    def run(run: str) -> RunView:
        return service.run(run)

    @app.get("/api/v1/openapi.json", dependencies=viewer, include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()

    for router in routers:
        app.include_router(router)
    add_drills_api(app, service)
    add_evidence_api(app, service)
    add_users_api(app, identity.reception, identity.audit, identity.authority)
    if open_doors := unguarded(app):
        raise RuntimeError(f"nobody guards {', '.join(open_doors)}")
    return app
