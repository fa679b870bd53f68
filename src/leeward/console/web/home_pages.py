"""Home: health at a glance, what needs attention, the services."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, viewer
from leeward.console.web.attention import health, matters, next_drill
from leeward.console.web.live import Piece, stream
from leeward.console.web.parts import Parts
from leeward.console.web.replicated import replicated
from leeward.console.web.rpo import rpo_piece
from leeward.console.web.services import cards
from leeward.console.web.watch import Moment

_EVENTS = 8


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    paint, watch = parts.painter.page, parts.watch

    @pages.get("/", dependencies=viewer)
    def home(request: Request) -> Response:
        moment = watch.look()
        return paint(
            request, "home.html", tab="home", health=health(moment), matters=matters(moment), moment=moment,
            events=parts.service.events(_EVENTS), drill=next_drill(moment), replicated=replicated(moment),
        )  # fmt: skip

    @pages.get("/live", dependencies=viewer)
    def home_live(request: Request) -> Response:
        reader = parts.painter.reader(request)
        pieces = parts.painter.pieces(reader, "home_pieces.html")
        counter = parts.painter.pieces(reader, "alert_pieces.html")
        recovery = parts.painter.pieces(reader, "recovery_pieces.html")

        def view(moment: Moment) -> Sequence[Piece]:
            found, troubles, drill = health(moment), matters(moment), next_drill(moment)
            events = parts.service.events(_EVENTS)
            count, vms = parts.open_alerts(), replicated(moment)
            return [
                Piece("alerts-open", count, lambda: str(counter.count(count))),
                Piece("tiles", (found, str(drill)), lambda: str(pieces.tiles(found, drill))),
                Piece("matters", troubles, lambda: str(pieces.attention(troubles))),
                Piece("replicated", (vms.rows, vms.count), lambda: str(pieces.replicated(vms))),
                *(rpo_piece(recovery, vms, row) for row in vms.rows),
                Piece("under-way", _shown(moment), lambda: str(pieces.under_way(moment))),
                Piece("events", str(events), lambda: str(pieces.happened(events))),
            ]

        return stream(request, watch, view)

    @pages.get("/services", dependencies=viewer)
    def services(request: Request) -> Response:
        return paint(request, "services.html", tab="services", cards=cards(watch.look(), len(parts.plans.all())))

    return pages


def _shown(moment: Moment) -> object:
    return [(run.id, run.state, [step.state for step in (*run.steps, *run.undo)]) for run in moment.open_runs]
