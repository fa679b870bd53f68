"""The HTTP API of recovery plans. It only translates: every decision is made elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query

from leeward.console.access import GuardedRoute, operator, viewer
from leeward.console.plan_views import (
    PlanApproveRequest,
    PlanAskRequest,
    PlanRetryRequest,
    PlanRunRequest,
    PlanRunView,
    PlanView,
)
from leeward.console.plans import Plans
from leeward.state.database import acting

# A plan's document is read by `plan_documents`, whose errors name the field as the operator wrote it.
Document = Annotated[Any, Body()]
Limit = Annotated[int, Query(ge=1, le=1000)]


def build_router(plans: Plans) -> APIRouter:
    router = APIRouter(prefix="/api/v1", route_class=GuardedRoute)
    _add_plans(router, plans)
    _add_runs(router, plans)
    _add_asks(router, plans)
    return router


def _add_plans(router: APIRouter, plans: Plans) -> None:
    @router.get("/plans", dependencies=viewer)
    def all_plans() -> list[PlanView]:
        return plans.all()

    @router.post("/plans", status_code=201, dependencies=operator)
    def create_plan(document: Document) -> PlanView:
        return plans.create(document, acting.get())

    @router.get("/plans/{plan}", dependencies=viewer)
    def plan(plan: str) -> PlanView:
        return plans.get(plan)

    @router.put("/plans/{plan}", dependencies=operator)
    def replace_plan(plan: str, document: Document) -> PlanView:
        return plans.replace(plan, document, acting.get())

    @router.delete("/plans/{plan}", dependencies=operator)
    def delete_plan(plan: str) -> dict[str, Any]:
        plans.delete(plan, acting.get())
        return {"plan": plan, "state": "deleted"}


def _add_runs(router: APIRouter, plans: Plans) -> None:
    @router.post("/plans/{plan}/runs", status_code=202, dependencies=operator)
    def begin_plan(plan: str, request: PlanRunRequest) -> PlanRunView:
        return plans.runs.begin(plan, request, acting.get())

    @router.get("/plans/{plan}/runs", dependencies=viewer)
    def plan_runs(plan: str, limit: Limit = 50) -> list[PlanRunView]:
        return plans.runs.all(plan, limit)

    @router.get("/plans/{plan}/run", dependencies=viewer)
    def last_plan_run(plan: str) -> PlanRunView:
        return plans.runs.last(plan)

    @router.get("/plan-runs/{run}", dependencies=viewer)
    def plan_run(run: str) -> PlanRunView:
        return plans.runs.get(run)


def _add_asks(router: APIRouter, plans: Plans) -> None:
    @router.post("/plans/{plan}/approve", status_code=202, dependencies=operator)
    def approve_plan(plan: str, request: PlanApproveRequest) -> PlanRunView:
        return plans.runs.approve(plan, request, acting.get())

    @router.post("/plans/{plan}/pause", status_code=202, dependencies=operator)
    def pause_plan(plan: str, request: PlanAskRequest) -> PlanRunView:
        return plans.runs.pause(plan, request, acting.get())

    @router.post("/plans/{plan}/resume", status_code=202, dependencies=operator)
    def resume_plan(plan: str, request: PlanAskRequest) -> PlanRunView:
        return plans.runs.resume(plan, request, acting.get())

    @router.post("/plans/{plan}/abort", status_code=202, dependencies=operator)
    def abort_plan(plan: str, request: PlanAskRequest) -> PlanRunView:
        return plans.runs.abort(plan, request, acting.get())

    @router.post("/plans/{plan}/retry", status_code=202, dependencies=operator)
    def retry_plan(plan: str, request: PlanRetryRequest) -> PlanRunView:
        return plans.runs.retry(plan, request, acting.get())

    @router.post("/plans/{plan}/cleanup", status_code=202, dependencies=operator)
    def cleanup_plan(plan: str, request: PlanAskRequest) -> PlanRunView:
        return plans.runs.cleanup(plan, request, acting.get())
