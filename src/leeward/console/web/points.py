"""Recovery points as pages ask for them: read from the vault, kept for a few seconds, of a few VMs."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, wait

from leeward.console.checks import VaultOpener
from leeward.domain.errors import StoreUnavailable
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency
from leeward.network.apart import apart

_FRESH_S = 3.0
_MOST = 32
# A page is shown without its points rather than not at all.
_PATIENCE_S = 4.0


class PointBook:
    """Thread-safe."""

    def __init__(self, vault: VaultOpener) -> None:
        self._vault = vault
        self._known: OrderedDict[str, tuple[float, list[RecoveryPoint]]] = OrderedDict()
        self._asked: dict[str, Future[list[RecoveryPoint]]] = {}
        self._lock = threading.Lock()

    def of(self, vm_id: str) -> list[RecoveryPoint]:
        """Ascending. Raises what the vault raises, StoreUnavailable when it does not answer within a few seconds."""
        with self._lock:
            known = self._known.get(vm_id)
            if known and time.monotonic() - known[0] < _FRESH_S:
                return known[1]
            asked = self._asked.get(vm_id)
            if asked is None or asked.done():
                asked = self._asked[vm_id] = apart(lambda: self._vault.open().log(vm_id).points(), "points")
        if not wait([asked], _PATIENCE_S).done:
            raise StoreUnavailable("it does not answer", subject=vm_id)
        with self._lock:
            if self._asked.get(vm_id) is asked:
                del self._asked[vm_id]
        found = asked.result()
        with self._lock:
            self._known[vm_id] = (time.monotonic(), found)
            self._known.move_to_end(vm_id)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found


def newest_app(points: list[RecoveryPoint]) -> RecoveryPoint | None:
    return next((point for point in reversed(points) if point.consistency is Consistency.APP), None)
