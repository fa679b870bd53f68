"""When a recovery plan's test run comes round, as a page."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, operator
from leeward.console.web.forms import Posted
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import Phrase
from leeward.console.web.policy_form import DRILL, drill_filled, read_drill
from leeward.domain.errors import LeewardError
from leeward.state.database import acting


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    drills = parts.service.drills

    def page(
        request: Request, plan: str, values: Mapping[str, str], status: int = 200, trouble: Trouble | None = None
    ) -> Response:
        groups = parts.plans.kept(plan).plan.groups
        return parts.painter.page(
            request,
            "plan_drill.html",
            status,
            trouble=trouble,
            plan=parts.plans.get(plan),
            values=values,
            approvals=any(group.approval for group in groups),
        )

    @pages.get("/plans/{plan}/drill", dependencies=operator)
    def plan_drill(request: Request, plan: str) -> Response:
        return page(request, plan, drill_filled(drills.of_plan(plan)))

    @pages.post("/plans/{plan}/drill", dependencies=operator)
    def schedule_plan_drill(request: Request, plan: str, form: Posted) -> Response:
        name = parts.plans.kept(plan).plan.name
        about(request, name)
        bad: dict[str, Phrase] = {}
        found = read_drill(form, bad)
        if bad:
            return page(request, name, form.values(*DRILL), 422, wrong(bad))
        try:
            drills.wish_plan(name, found.request if found else None, acting.get())
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return page(request, name, form.values(*DRILL), status, trouble)
        parts.watch.fresh()
        return go(request, request.url.path.removesuffix("/drill"))

    return pages
