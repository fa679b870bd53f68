"""The vault: whether it is open, what it holds, how much space that takes."""

from __future__ import annotations

import threading
import time

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, viewer
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import Quote
from leeward.console.web.vault_door import VaultDoor, VaultState
from leeward.domain.errors import LeewardError
from leeward.vault.facade import VaultInfo

# Listing everything takes as long as the store needs for that.
_FRESH_S = 60.0


class Inventory:
    """What the vault holds, counted at most once a minute. Thread-safe: readers wait for one count together."""

    def __init__(self, door: VaultDoor) -> None:
        self._door = door
        self._known: tuple[float, float, VaultInfo] | None = None
        self._lock = threading.Lock()

    def look(self) -> tuple[VaultInfo, float]:
        """(what it holds, as of when in UTC seconds). Raises what the vault raises."""
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_S:
                self._known = (time.monotonic(), time.time(), self._door.info())
            return self._known[2], self._known[1]


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    inventory = Inventory(parts.door)

    @pages.get("/vault", dependencies=viewer)
    def vault_page(request: Request) -> Response:
        state, info, counted, why = parts.door.state(), None, 0.0, None
        if state is VaultState.OPEN:
            try:
                info, counted = inventory.look()
            except LeewardError as error:
                why = Quote(error.message)
        return parts.painter.page(
            request, "vault.html", state=state.value, url=parts.door.url, info=info, counted=counted, why=why
        )

    return pages
