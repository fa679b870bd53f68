"""Recovery points as pages ask for them: read from the vault, kept for a few seconds, of a few VMs."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from leeward.console.checks import VaultOpener
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency

_FRESH_S = 3.0
_MOST = 32


class PointBook:
    """Thread-safe."""

    def __init__(self, vault: VaultOpener) -> None:
        self._vault = vault
        self._known: OrderedDict[str, tuple[float, list[RecoveryPoint]]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, vm_id: str) -> list[RecoveryPoint]:
        """Ascending. Raises what the vault raises."""
        with self._lock:
            known = self._known.get(vm_id)
        if known and time.monotonic() - known[0] < _FRESH_S:
            return known[1]
        found = self._vault.open().log(vm_id).points()
        with self._lock:
            self._known[vm_id] = (time.monotonic(), found)
            self._known.move_to_end(vm_id)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found


def newest_app(points: list[RecoveryPoint]) -> RecoveryPoint | None:
    return next((point for point in reversed(points) if point.consistency is Consistency.APP), None)
