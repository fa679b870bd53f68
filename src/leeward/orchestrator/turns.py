"""Walks of runs take turns: of several that carry on the same run in this process, only one does something."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from leeward.logs import log

_AGAIN_S = 1.0


@dataclass(slots=True)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class Turns:
    """stopping: true once this console shuts down; no turn is taken then."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._turns: dict[str, _Turn] = {}
        self._guard = threading.Lock()

    def take(self, run_id: str, advance: Callable[[str], bool]) -> bool:
        """Advance the run while no other walk of it does anything; whether there is more to do."""
        with self._guard:
            turn = self._turns.setdefault(run_id, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                return not self._stopping() and self._carefully(run_id, advance)
        finally:
            with self._guard:
                turn.users -= 1
                if not turn.users:
                    del self._turns[run_id]

    def _carefully(self, run_id: str, advance: Callable[[str], bool]) -> bool:
        """A database that hiccups must not end the run's walk: what failed is done again."""
        try:
            return advance(run_id)
        except Exception:
            log.exception("a run cannot be carried on; trying again", run=run_id)
            time.sleep(_AGAIN_S)
            return not self._stopping()
