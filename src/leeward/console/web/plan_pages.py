"""Recovery plans: looked at, run, and steered while they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, operator, viewer
from leeward.console.plan_views import PlanApproveRequest, PlanAskRequest, PlanRetryRequest, PlanRunRequest
from leeward.console.web.forms import Form, Posted, timeout_field
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.plan_draft import draft_of
from leeward.console.web.watch import Moment
from leeward.domain.errors import LeewardError, NotFound
from leeward.domain.plan_asks import Ask, refused
from leeward.domain.plans import PlanKind
from leeward.state.database import acting

KINDS = {
    PlanKind.TEST: N_(
        "Copies of all its VMs are started together, apart from production. To see whether it would work."
    ),
    PlanKind.PLANNED: N_("All its VMs are shut down, their last changes follow, then they start there, in order."),
    PlanKind.UNPLANNED: N_("The home site is gone: they start there from recovery points, in order."),
}
ASKS = {
    Ask.APPROVE: N_("Approve"),
    Ask.PAUSE: N_("Pause"),
    Ask.RESUME: N_("Continue"),
    Ask.RETRY: N_("Try again what failed"),
    Ask.ABORT: N_("Abort"),
    Ask.CLEANUP: N_("Clean up test"),
}


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_looking(pages, parts)
    _add_starting(pages, parts)
    _add_asking(pages, parts)
    return pages


def open_asks(parts: Parts, run_id: str) -> list[tuple[str, str]]:
    """(ask, its label) of what can be asked of a run now."""
    run = parts.database.plans.plan_run(run_id)
    return [(ask.value, label) for ask, label in ASKS.items() if refused(run, ask) is None]


def _add_looking(pages: APIRouter, parts: Parts) -> None:
    paint, plans = parts.painter.page, parts.plans

    @pages.get("/plans", dependencies=viewer)
    def all_plans(request: Request) -> Response:
        return paint(request, "plans.html", plans=plans.all())

    @pages.get("/plans/{plan}", dependencies=viewer)
    def plan_page(request: Request, plan: str) -> Response:
        return show_plan(parts, request, plan)

    @pages.get("/plans/{plan}/live", dependencies=viewer)
    def plan_live(request: Request, plan: str) -> Response:
        plans.get(plan)
        pieces = parts.painter.pieces(parts.painter.reader(request), "plan_pieces.html")
        drills = parts.painter.pieces(parts.painter.reader(request), "drill_pieces.html")

        def view(moment: Moment) -> Sequence[Piece]:
            drill = moment.plan_drill(plan)
            runs = plans.runs.all(plan, 1)
            run = runs[0] if runs else None
            asks = open_asks(parts, run.id) if run else []
            return [
                Piece("plan-run", str(run), lambda: str(pieces.run(run))),
                Piece("plan-asks", (run and run.id, asks), lambda: str(pieces.asks(run, asks))),
                Piece("plan-drill", drill, lambda: str(drills.card(plan, drill))),
            ]

        return stream(request, parts.watch, view)


def show_plan(
    parts: Parts, request: Request, plan: str, status: int = 200, trouble: Trouble | None = None
) -> Response:
    found, kept = parts.plans.get(plan), parts.plans.kept(plan)
    runs = parts.plans.runs.all(plan, 10)
    asks = open_asks(parts, runs[0].id) if runs else []
    return parts.painter.page(
        request,
        "plan.html",
        status,
        trouble=trouble,
        plan=found,
        draft=draft_of(kept.plan),
        names={member.vm_id: member.vm_name for member in kept.plan.members},
        run=runs[0] if runs else None,
        runs=runs,
        asks=asks,
        drill=parts.service.drills.of_plan(plan, parts.watch.look().tested),
    )


def _add_starting(pages: APIRouter, parts: Parts) -> None:
    def start_page(
        request: Request, plan: str, values: Form, status: int = 200, trouble: Trouble | None = None
    ) -> Response:
        kind = values["type"] if values["type"] in set(PlanKind) else PlanKind.TEST.value
        return parts.painter.page(
            request,
            "plan_start.html",
            status,
            trouble=trouble,
            plan=parts.plans.get(plan),
            kind=kind,
            kinds=[(one.value, text) for one, text in KINDS.items()],
            values=values,
        )

    @pages.get("/plans/{plan}/start", dependencies=operator)
    def start(request: Request, plan: str, type: str = "test") -> Response:
        return start_page(request, plan, Form([("type", type)]))

    @pages.post("/plans/{plan}/start", dependencies=operator)
    def begin_plan(request: Request, plan: str, form: Posted) -> Response:
        name = parts.plans.get(plan).name
        bad: dict[str, Phrase] = {}
        if form["type"] not in set(PlanKind):
            bad["type"] = phrase(N_("Choose one of the three."))
        timeout = timeout_field(form, bad)
        if form["type"] in ("planned", "unplanned") and form["confirm"].strip() != name:
            bad["confirm"] = phrase(N_("Type the plan's name, {plan}, to confirm."), plan=name)
        about(request, name, form["type"][:16])
        if bad:
            return start_page(request, plan, form, 422, wrong(bad))
        planned = form["type"] == PlanKind.PLANNED
        wanted = PlanRunRequest(
            kind=PlanKind(form["type"]),
            point="app" if form["point"] == "app" and not planned else "latest",
            force=form.ticked("force"),
            timeout_s=timeout,
        )
        try:
            parts.plans.runs.begin(name, wanted, acting.get())
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return start_page(request, plan, form, status, trouble)
        return go(request, request.url.path.removesuffix("/start"))


def _add_asking(pages: APIRouter, parts: Parts) -> None:
    runs = parts.plans.runs

    @pages.post("/plans/{plan}/ask/{ask}", dependencies=operator)
    def ask_plan(request: Request, plan: str, ask: str, form: Posted) -> Response:
        run, who = form["run"] or None, acting.get()
        deeds: dict[str, Callable[[], object]] = {
            Ask.APPROVE: lambda: runs.approve(
                plan, PlanApproveRequest(run=run, group=form["group"] or None, note=form["note"][:500]), who
            ),
            Ask.PAUSE: lambda: runs.pause(plan, PlanAskRequest(run=run), who),
            Ask.RESUME: lambda: runs.resume(plan, PlanAskRequest(run=run), who),
            Ask.RETRY: lambda: runs.retry(plan, PlanRetryRequest(run=run), who),
            Ask.ABORT: lambda: runs.abort(plan, PlanAskRequest(run=run), who),
            Ask.CLEANUP: lambda: runs.cleanup(plan, PlanAskRequest(run=run), who),
        }
        about(request, plan, ask[:16])
        if ask not in deeds:
            raise NotFound("there is nothing of this kind to be done", subject=ask[:64])
        try:
            deeds[ask]()
        except LeewardError as error:
            parts.plans.get(plan)
            trouble, status = trouble_of(request, error)
            return show_plan(parts, request, plan, status, trouble)
        return go(request, request.url.path.removesuffix(f"/ask/{ask}"))
