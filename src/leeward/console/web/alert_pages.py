"""Alerts to look at: what is wrong now, what was wrong, and who has seen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, actor_of, operator, viewer
from leeward.console.alerts.settings import MAIL, WEBHOOK
from leeward.console.web.alert_words import KINDS, LEVELS, SEVERITIES, best, said
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import Trouble, trouble_of
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import Phrase
from leeward.console.web.rows import Level
from leeward.console.web.watch import Moment
from leeward.domain.alerts import AlertKind
from leeward.domain.errors import LeewardError
from leeward.state.alerts import Alert

_PAGE = 100
SHOWS = {"open": False, "past": True}


@dataclass(frozen=True, slots=True)
class Shown:
    """One alert as a row. href: where it is best looked into."""

    alert: Alert
    text: Phrase
    level: Level
    severity: str
    href: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reader wants to see. before: only older ones."""

    show: str = "open"
    kind: str = ""
    before: int | None = None

    def query(self, show: str | None = None) -> list[tuple[str, str]]:
        """As an address tells it; show: of the other half."""
        show = show or self.show
        pairs = [("show", show if show != "open" else ""), ("kind", self.kind)]
        return [pair for pair in pairs if pair[1]]


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    book, settings = parts.alerts.book, parts.alerts.settings

    def found(wish: Wish) -> tuple[list[Shown], bool]:
        """(rows, whether there are more)."""
        kind = AlertKind(wish.kind) if wish.kind else None
        drill_s = settings.rules().limits.drill_s
        rows = book.find(past=SHOWS[wish.show], kind=kind, before=wish.before, limit=_PAGE + 1)
        return [_shown(alert, drill_s) for alert in rows[:_PAGE]], len(rows) > _PAGE

    def telling() -> tuple[list[tuple[str, str, float]], bool]:
        """(channels that do not get through: name, why, since when; whether alerts are told to nobody)."""
        channels = [settings.channel(name) for name in (MAIL, WEBHOOK)]
        on = [one for one in channels if one is not None and one.settings.enabled]
        return [(one.name, one.error, one.failed) for one in on if one.failed is not None], not on

    def page(request: Request, wish: Wish, status: int = 200, trouble: Trouble | None = None) -> Response:
        (rows, more), (silent, nobody) = found(wish), telling()
        return parts.painter.page(
            request, "alerts.html", status, trouble=trouble, wish=wish, rows=rows, more=more, kinds=KINDS,
            silent=silent, nobody=nobody,
        )  # fmt: skip

    @pages.get("/alerts", dependencies=viewer)
    def alerts(request: Request, show: str = "open", kind: str = "", before: int | None = None) -> Response:
        return page(request, _wish(show, kind, before))

    @pages.get("/alerts/live", dependencies=viewer)
    def alerts_live(request: Request, show: str = "open", kind: str = "") -> Response:
        wish = _wish(show, kind, None)
        pieces = parts.painter.pieces(parts.painter.reader(request), "alert_pieces.html")

        def view(_: Moment) -> Sequence[Piece]:
            (rows, more), (silent, nobody) = found(wish), telling()
            count = parts.open_alerts()
            return [
                Piece("alerts-open", count, lambda: str(pieces.count(count))),
                Piece("silent", (silent, nobody), lambda: str(pieces.telling(silent, nobody))),
                Piece("alerts", (tuple(rows), more), lambda: str(pieces.table(rows, wish, more))),
            ]

        return stream(request, parts.watch, view)

    @pages.post("/alerts/{number}/acknowledge", dependencies=operator)
    def acknowledge(request: Request, number: str, show: str = "open", kind: str = "") -> Response:
        wish = _wish(show, kind, None)
        try:
            alert = book.acknowledge(_whole(number), actor_of(request).who, parts.alerts.clock())
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return page(request, wish, status, trouble)
        about(request, alert.name or alert.kind)
        return page(request, wish)

    return pages


def _wish(show: str, kind: str, before: int | None) -> Wish:
    """Of an address that may say anything."""
    return Wish(
        show if show in SHOWS else "open",
        kind if kind in set(AlertKind) else "",
        before if before is not None and 0 < before < 1 << 31 else None,
    )


def _whole(text: str) -> int:
    """An alert's number; 0, which none has, for what is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _shown(alert: Alert, drill_s: float) -> Shown:
    return Shown(
        alert,
        said(alert.kind, alert.name, drill_s),
        Level.OFF if alert.ended is not None else LEVELS[alert.severity],
        SEVERITIES[alert.severity],
        best(alert.kind, alert.subject, alert.name),
    )
