"""Secrets that somebody has typed into a form which could not be used yet: kept for a while in memory, so that they
need neither be typed again nor be sent back in a page."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping

_KEEP_S = 900.0
_MOST = 50


class KeptSecrets:
    """clock: monotonic seconds. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def keep(self, values: Mapping[str, str]) -> str:
        """What the page sends along in place of them; "" for none."""
        found = {name: value for name, value in values.items() if value}
        if not found:
            return ""
        ticket = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[ticket] = self._clock(), found
            while len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]
        return ticket

    def take(self, ticket: str) -> dict[str, str]:
        """What was kept under it, this once; nothing when it was too long ago."""
        now = self._clock()
        with self._lock:
            self._kept = {name: one for name, one in self._kept.items() if now - one[0] < _KEEP_S}
            return self._kept.pop(ticket, (0.0, {}))[1]
