"""How old each VM's newest recoverable instant was over the last hour, for the small curves."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable

from leeward.console.views import StatusView

# One value every ten seconds, for an hour.
SAMPLE_S = 10.0
_SAMPLES = 360
# So many more are kept before the oldest are dropped: not for each new one.
_SLACK = 60


class Curves:
    """Thread-safe. Single precision: of ten thousand VMs an hour is 16 MB."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, array[float]] = {}
        self._sampled = 0.0

    def of(self, vm_id: str) -> tuple[float, ...]:
        """Actual RPO in seconds, oldest first."""
        with self._lock:
            values = self._values.get(vm_id)
            return tuple(values[-_SAMPLES:]) if values else ()

    def sample(self, now: float, statuses: Iterable[StatusView]) -> None:
        """now: UTC seconds. Nothing until it is time for the next value, or the clock has been set back."""
        if now - self._sampled < SAMPLE_S and self._sampled <= now:
            return
        self._sampled = now
        with self._lock:
            kept: dict[str, array[float]] = {}
            for one in statuses:
                if one.rpo_actual_s is not None:
                    kept[one.vm_id] = values = self._values.get(one.vm_id) or array("f")
                    values.append(one.rpo_actual_s)
                    if len(values) > _SAMPLES + _SLACK:
                        del values[:-_SAMPLES]
            self._values = kept
