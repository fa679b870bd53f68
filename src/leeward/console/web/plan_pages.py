"""Recovery plans and their newest runs, to look at."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, viewer
from leeward.console.web.live import Piece, stream
from leeward.console.web.parts import Parts
from leeward.console.web.watch import Moment


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    paint, plans = parts.painter.page, parts.plans

    @pages.get("/plans", dependencies=viewer)
    def all_plans(request: Request) -> Response:
        return paint(request, "plans.html", plans=plans.all())

    @pages.get("/plans/{plan}", dependencies=viewer)
    def plan_page(request: Request, plan: str) -> Response:
        found = plans.get(plan)
        runs = plans.runs.all(plan, 10)
        return paint(request, "plan.html", plan=found, run=runs[0] if runs else None, runs=runs)

    @pages.get("/plans/{plan}/live", dependencies=viewer)
    def plan_live(request: Request, plan: str) -> Response:
        plans.get(plan)
        pieces = parts.painter.pieces(parts.painter.reader(request), "plan_pieces.html")

        def view(_: Moment) -> Sequence[Piece]:
            runs = plans.runs.all(plan, 1)
            run = runs[0] if runs else None
            return [Piece("plan-run", str(run), lambda: str(pieces.run(run)))]

        return stream(request, parts.watch, view)

    return pages
