"""Runs: what is or was done with VMs, step by step, live for everybody who looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, operator, viewer
from leeward.console.views import RetryRequest, RunView
from leeward.console.web.forms import Posted
from leeward.console.web.live import Piece, stream
from leeward.console.web.offers import alone
from leeward.console.web.painter import Trouble, go, trouble_of
from leeward.console.web.parts import Parts
from leeward.console.web.watch import Moment
from leeward.domain.errors import LeewardError

_PAGE = 50


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_list(pages, parts)
    _add_run(pages, parts)
    return pages


def _add_list(pages: APIRouter, parts: Parts) -> None:
    paint, service = parts.painter.page, parts.service

    @pages.get("/runs", dependencies=viewer)
    def runs(request: Request) -> Response:
        return paint(request, "runs.html", runs=service.runs(None, _PAGE), most=_PAGE)

    @pages.get("/runs/live", dependencies=viewer)
    def runs_live(request: Request) -> Response:
        pieces = parts.painter.pieces(parts.painter.reader(request), "run_pieces.html")

        def view(_: Moment) -> Sequence[Piece]:
            found = service.runs(None, _PAGE)
            key = [(run.id, run.state, _done(run)) for run in found]
            return [Piece("runs", key, lambda: str(pieces.table(found)))]

        return stream(request, parts.watch, view)


def _done(run: RunView) -> list[str]:
    return [step.state for step in (*run.steps, *run.undo)]


def _add_run(pages: APIRouter, parts: Parts) -> None:
    paint, service = parts.painter.page, parts.service

    def run_page(request: Request, run_id: str, status: int = 200, trouble: Trouble | None = None) -> Response:
        run, moment = service.run(run_id), parts.watch.look()
        without = alone(run, moment.status(run.vm_id), moment.vault)
        return paint(request, "run.html", status, trouble=trouble, run=run, alone=without)

    @pages.get("/runs/{run_id}", dependencies=viewer)
    def run(request: Request, run_id: str) -> Response:
        return run_page(request, run_id)

    @pages.get("/runs/{run_id}/live", dependencies=viewer)
    def run_live(request: Request, run_id: str) -> Response:
        service.run(run_id)
        pieces = parts.painter.pieces(parts.painter.reader(request), "run_pieces.html")

        def view(moment: Moment) -> Sequence[Piece]:
            found = service.run(run_id)
            without = alone(found, moment.status(found.vm_id), moment.vault)
            head = (found.state, found.failure, found.reversible, found.cancelling, found.phase)
            return [
                Piece("run-head", head, lambda: str(pieces.head(found))),
                Piece("run-steps", tuple(map(str, found.steps)), lambda: str(pieces.forward(found))),
                Piece("run-undo", tuple(map(str, found.undo)), lambda: str(pieces.backward(found))),
                Piece("run-tasks", (head, without is None), lambda: str(pieces.tasks(found, without))),
            ]

        return stream(request, parts.watch, view)

    @pages.post("/runs/{run_id}/retry", dependencies=operator)
    def retry(request: Request, run_id: str, form: Posted) -> Response:
        run = service.run(run_id)
        about(request, run.vm)
        wanted = RetryRequest(force=form.ticked("force"), without_vault=form.ticked("without_vault"))
        return asked(request, run, lambda: service.retry(run.vm_id, wanted))

    @pages.post("/runs/{run_id}/cancel", dependencies=operator)
    def cancel(request: Request, run_id: str) -> Response:
        run = service.run(run_id)
        about(request, run.vm)
        return asked(request, run, lambda: service.cancel(run.vm_id))

    def asked(request: Request, run: RunView, ask: Callable[[], object]) -> Response:
        try:
            ask()
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return run_page(request, run.id, status, trouble)
        parts.watch.fresh()
        return go(request, f"/runs/{run.id}")
