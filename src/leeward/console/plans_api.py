"""The HTTP API of recovery plans. It only translates: every decision is made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from fastapi.params import Depends
from fastapi.routing import APIRoute

from leeward.console.plan_views import (
    PlanApproveRequest,
    PlanAskRequest,
    PlanRetryRequest,
    PlanRunRequest,
    PlanRunView,
    PlanView,
)
from leeward.console.plans import Plans

# A plan's document is read by `plan_documents`, whose errors name the field as the operator wrote it.
Document = Annotated[Any, Body()]


def _operator(_: Request) -> str:
    return "operator"


def build_router(
    plans: Plans,
    *,
    who: Callable[[Request], str] = _operator,
    look: Sequence[Depends] = (),
    act: Sequence[Depends] = (),
    route_class: type[APIRoute] = APIRoute,
) -> APIRouter:
    """who: names whoever asks. look, act: guards of the endpoints that show, and of those that change something."""
    router = APIRouter(prefix="/api/v1", route_class=route_class)
    _add_plans(router, plans, who, look, act)
    _add_runs(router, plans, who, look, act)
    _add_asks(router, plans, who, act)
    return router


def _add_plans(
    router: APIRouter,
    plans: Plans,
    who: Callable[[Request], str],
    look: Sequence[Depends],
    act: Sequence[Depends],
) -> None:
    @router.get("/plans", dependencies=look)
    def all_plans() -> list[PlanView]:
        return plans.all()

    @router.post("/plans", status_code=201, dependencies=act)
    def create_plan(document: Document, request: Request) -> PlanView:
        return plans.create(document, who(request))

    @router.get("/plans/{plan}", dependencies=look)
    def plan(plan: str) -> PlanView:
        return plans.get(plan)

    @router.put("/plans/{plan}", dependencies=act)
    def replace_plan(plan: str, document: Document, request: Request) -> PlanView:
        return plans.replace(plan, document, who(request))

    @router.delete("/plans/{plan}", dependencies=act)
    def delete_plan(plan: str, request: Request) -> dict[str, Any]:
        plans.delete(plan, who(request))
        return {"plan": plan, "state": "deleted"}


def _add_runs(
    router: APIRouter,
    plans: Plans,
    who: Callable[[Request], str],
    look: Sequence[Depends],
    act: Sequence[Depends],
) -> None:
    @router.post("/plans/{plan}/runs", status_code=202, dependencies=act)
    def begin_plan(plan: str, wanted: PlanRunRequest, request: Request) -> PlanRunView:
        return plans.runs.begin(plan, wanted, who(request))

    @router.get("/plans/{plan}/runs", dependencies=look)
    def plan_runs(plan: str, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[PlanRunView]:
        return plans.runs.all(plan, limit)

    @router.get("/plans/{plan}/run", dependencies=look)
    def last_plan_run(plan: str) -> PlanRunView:
        return plans.runs.last(plan)

    @router.get("/plan-runs/{run}", dependencies=look)
    def plan_run(run: str) -> PlanRunView:
        return plans.runs.get(run)


def _add_asks(router: APIRouter, plans: Plans, who: Callable[[Request], str], act: Sequence[Depends]) -> None:
    @router.post("/plans/{plan}/approve", status_code=202, dependencies=act)
    def approve_plan(plan: str, wanted: PlanApproveRequest, request: Request) -> PlanRunView:
        return plans.runs.approve(plan, wanted, who(request))

    @router.post("/plans/{plan}/pause", status_code=202, dependencies=act)
    def pause_plan(plan: str, wanted: PlanAskRequest, request: Request) -> PlanRunView:
        return plans.runs.pause(plan, wanted, who(request))

    @router.post("/plans/{plan}/resume", status_code=202, dependencies=act)
    def resume_plan(plan: str, wanted: PlanAskRequest, request: Request) -> PlanRunView:
        return plans.runs.resume(plan, wanted, who(request))

    @router.post("/plans/{plan}/abort", status_code=202, dependencies=act)
    def abort_plan(plan: str, wanted: PlanAskRequest, request: Request) -> PlanRunView:
        return plans.runs.abort(plan, wanted, who(request))

    @router.post("/plans/{plan}/retry", status_code=202, dependencies=act)
    def retry_plan(plan: str, wanted: PlanRetryRequest, request: Request) -> PlanRunView:
        return plans.runs.retry(plan, wanted, who(request))

    @router.post("/plans/{plan}/cleanup", status_code=202, dependencies=act)
    def cleanup_plan(plan: str, wanted: PlanAskRequest, request: Request) -> PlanRunView:
        return plans.runs.cleanup(plan, wanted, who(request))
