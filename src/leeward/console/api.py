"""The HTTP API, version 1. It only translates: every decision is the service's."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from leeward import __version__
from leeward.console.service import Service
from leeward.console.views import (
    FailbackRequest,
    FailoverRequest,
    HostView,
    ProtectRequest,
    RetryRequest,
    RunView,
    StatusView,
    TestRequest,
    TestView,
    VmView,
)
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, Unavailable
from leeward.domain.lifecycle import Event

_STATUS: list[tuple[type[LeewardError], int]] = [
    (BadInput, 422),
    (NotFound, 404),
    (Refused, 409),
    (Unavailable, 503),
]


def build_api(service: Service) -> FastAPI:
    app = FastAPI(title="Leeward", version=__version__, docs_url=None, redoc_url=None)

    @app.exception_handler(LeewardError)
    async def failed(_: Request, error: LeewardError) -> JSONResponse:
        status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
        return JSONResponse({"error": {**error.as_dict(), "exit_code": error.exit_code}}, status)

    # Plain functions, not coroutines: they block, and FastAPI runs such in its thread pool.
    @app.get("/api/v1/health")
    def health() -> dict[str, str]:
        return {"version": __version__}

    @app.get("/api/v1/hosts")
    def hosts() -> list[HostView]:
        return service.hosts()

    @app.get("/api/v1/vms")
    def vms() -> list[VmView]:
        return service.vms()

    @app.get("/api/v1/status")
    def status(vm: str | None = None) -> list[StatusView]:
        return service.status(vm)

    @app.get("/api/v1/events")
    def events(limit: int = 100) -> list[dict[str, str]]:
        return service.events(limit)

    @app.put("/api/v1/vms/{vm}/protection")
    def protect(vm: str, request: ProtectRequest) -> StatusView:
        return service.protect(vm, request)

    @app.delete("/api/v1/vms/{vm}/protection")
    def unprotect(vm: str) -> dict[str, Any]:
        service.unprotect(vm)
        return {"vm": vm, "state": "disabled"}

    @app.post("/api/v1/vms/{vm}/pause")
    def pause(vm: str) -> StatusView:
        return service.set_paused(vm, True)

    @app.post("/api/v1/vms/{vm}/resume")
    def resume(vm: str) -> StatusView:
        return service.set_paused(vm, False)

    @app.get("/api/v1/test-failovers")
    def tests() -> list[TestView]:
        return service.tests()

    @app.post("/api/v1/vms/{vm}/test-failover", status_code=202)
    def start_test(vm: str, request: TestRequest) -> TestView:
        return service.start_test(vm, request.point)

    @app.get("/api/v1/vms/{vm}/test-failover")
    def test(vm: str) -> TestView:
        return service.test(vm)

    @app.delete("/api/v1/vms/{vm}/test-failover")
    def cleanup(vm: str) -> TestView:
        return service.cleanup_test(vm)

    @app.post("/api/v1/vms/{vm}/failover/planned", status_code=202)
    def planned(vm: str, request: FailoverRequest) -> RunView:
        return service.failover(vm, Event.PLANNED, request)

    @app.post("/api/v1/vms/{vm}/failover/unplanned", status_code=202)
    def unplanned(vm: str, request: FailoverRequest) -> RunView:
        return service.failover(vm, Event.UNPLANNED, request)

    @app.post("/api/v1/vms/{vm}/failback", status_code=202)
    def failback(vm: str, request: FailbackRequest) -> RunView:
        return service.failback(vm, request)

    @app.post("/api/v1/vms/{vm}/commit", status_code=202)
    def commit(vm: str) -> RunView:
        return service.commit(vm)

    @app.post("/api/v1/vms/{vm}/retry", status_code=202)
    def retry(vm: str, request: RetryRequest) -> RunView:
        return service.retry(vm, request)

    @app.post("/api/v1/vms/{vm}/cancel", status_code=202)
    def cancel(vm: str) -> RunView:
        return service.cancel(vm)

    @app.get("/api/v1/vms/{vm}/run")
    def last_run(vm: str) -> RunView:
        return service.last_run(vm)

    @app.get("/api/v1/runs")
    def runs(vm: str | None = None, limit: int = 50) -> list[RunView]:
        return service.runs(vm, limit)

    @app.get("/api/v1/runs/{run}")
    def run(run: str) -> RunView:
        return service.run(run)

    return app
