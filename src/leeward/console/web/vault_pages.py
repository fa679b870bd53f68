"""The vault: whether it is open, what it holds, how it grows, and what checks of it have found."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, operator, viewer
from leeward.console.vault_care import VaultCare
from leeward.console.web.charts import Spark, spark
from leeward.console.web.forms import Posted
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import Trouble, go, trouble_of
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, Quote, phrase
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Moment
from leeward.domain.errors import LeewardError
from leeward.domain.growth import DAY_S, full_in_s, per_day
from leeward.network.apart import apart
from leeward.state.database import acting
from leeward.vault.facade import VaultInfo

_SHOWN_S = 30 * DAY_S
_POINTS = 120
_CHECKS = 10
_PATIENCE_S = 5.0


class Inventory:
    """What the vault holds, for a page that does not wait as long as counting may take. Thread-safe."""

    def __init__(self, care: VaultCare) -> None:
        self._care = care
        self._asked: Future[tuple[VaultInfo, float]] | None = None
        self._lock = threading.Lock()

    def look(self) -> tuple[VaultInfo | None, float]:
        """(what it holds, as of when in UTC seconds); None while it is counted. Raises what the vault raises."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = apart(self._care.inventory, "inventory")
            asked = self._asked
        return asked.result() if wait([asked], _PATIENCE_S).done else (None, 0.0)


@dataclass(frozen=True, slots=True)
class Forecast:
    """a_day: bytes that come to it; full_s: seconds until its disk is full. None: nobody knows, or never. free: of
    the disk it lies on, None elsewhere. curve: of the last thirty days."""

    a_day: float | None
    free: int | None
    full_s: float | None
    curve: Spark | None
    since: float | None


def forecast(care: VaultCare, free: int | None) -> Forecast:
    sizes = care.sizes(_SHOWN_S)
    growth = per_day(sizes)
    every = max(len(sizes) // _POINTS, 1)
    values = [float(size.bytes) for size in sizes[::-every]][::-1]
    curve = spark(values, None, width=720, height=72, most=_POINTS + 1) if len(values) > 1 else None
    return Forecast(growth, free, full_in_s(free, growth), curve, sizes[0].at if sizes else None)


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    care = parts.care
    inventory = Inventory(care)

    def vault_page(request: Request, status: int = 200, trouble: Trouble | None = None) -> Response:
        moment = parts.watch.look()
        state, info, counted = moment.vault, None, 0.0
        why: Phrase | Quote | None = None
        if state is VaultState.OPEN:
            try:
                info, counted = inventory.look()
                if info is None:
                    why = phrase(N_("What it holds is still being counted: come back in a moment."))
            except LeewardError as error:
                why = Quote(error.message)
        room = moment.room
        return parts.painter.page(
            request,
            "vault.html",
            status,
            trouble=trouble,
            state=state.value,
            place=parts.places.view(),
            renewed=request.query_params.get("renewed") == "1",
            info=info,
            counted=counted,
            why=why,
            forecast=forecast(care, room.free if room else None),
            progress=care.progress,
            checks=care.checks(_CHECKS),
        )

    @pages.get("/vault", dependencies=viewer)
    def vault(request: Request) -> Response:
        return vault_page(request)

    @pages.get("/vault/live", dependencies=viewer)
    def vault_live(request: Request) -> Response:
        pieces = parts.painter.pieces(parts.painter.reader(request), "vault_pieces.html")

        def view(_: Moment) -> Sequence[Piece]:
            progress, checks = care.progress, care.checks(_CHECKS)
            return [Piece("vault-checks", (progress, checks), lambda: str(pieces.checks(progress, checks)))]

        return stream(request, parts.watch, view)

    @pages.post("/vault/check", dependencies=operator)
    def check(request: Request, form: Posted) -> Response:
        deep = form.given("deep")
        about(request, parts.door.url[:200], "deep" if deep else "")
        try:
            care.begin(deep=deep, by=acting.get())
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return vault_page(request, status, trouble)
        return go(request, "/vault#vault-checks")

    @pages.post("/vault/check/call-off", dependencies=operator)
    def call_off(request: Request) -> Response:
        about(request, parts.door.url[:200])
        care.call_off()
        return go(request, "/vault#vault-checks")

    return pages
