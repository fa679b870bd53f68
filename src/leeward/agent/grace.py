"""How long whoever ran a VM before has had to find out that its log is closed.

Only this process's own monotonic clock counts: the wall clocks of two consoles, or of one before and after it was set
right, would tell a time that has not passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Grace:
    """Thread-safe. In memory alone: an agent that was started anew gives the whole time once more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: monotonic seconds."""
        self._clock = clock
        self._begun: dict[tuple[str, str], tuple[int, float]] = {}

    def begins(self, vm_id: str, host: str, epoch: int) -> None:
        """The log is closed for everyone else. Told again of the same epoch, it began the first time."""
        known = self._begun.get((vm_id, host))
        if known is None or known[0] != epoch:
            self._begun[vm_id, host] = (epoch, self._clock())

    def left(self, vm_id: str, host: str, grace_s: float) -> float:
        """Seconds of grace_s that have still to pass; all of them when nobody here saw the epoch begin."""
        known = self._begun.get((vm_id, host))
        return grace_s if known is None else max(grace_s - (self._clock() - known[1]), 0.0)
