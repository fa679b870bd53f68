"""Leaving a VM alone for the moment in which its guest agent connects.

libvirt 9.0 handles «the agent has opened its channel» in its one event thread, with a job that waits for a running
backup to end; but the end of that backup is told by an event that queues behind it in the same thread. The knot opens
only when libvirt's lock times out after 30 seconds (libvirtd's log: «Cannot start job (modify migration safe)»),
and the agent stays unknown to libvirt until it connects anew. Agents connect once a boot, so no backup is begun on a
VM that has just been started until its agent is there or has had its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Longer than most guests need to boot; a VM without an agent inside pays it once a start.
GRACE_S = 30.0
_POLL_S = 0.1


class Settling:
    """Knows since when each run of a VM is known. Thread-safe."""

    def __init__(
        self,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._grace_s = grace_s
        self._clock = clock
        self._sleep = sleep
        self._seen: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def wait(self, vm_id: str, run: int, awaited: Callable[[], bool]) -> None:
        """Return once the agent is there or `run` (libvirt's id of this start) is older than the grace.

        awaited: asks anew whether the agent's channel is still closed.
        """
        with self._lock:
            known = self._seen.get(vm_id)
            if known is None or known[0] != run:
                known = self._seen[vm_id] = (run, self._clock())
        ends = known[1] + self._grace_s
        while self._clock() < ends and awaited():
            self._sleep(_POLL_S)
