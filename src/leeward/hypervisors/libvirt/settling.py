"""Leaving a VM alone for the moment in which its guest agent connects, and the one in which it leaves.

libvirt 9.0 handles «the agent has opened (or closed) its channel» in its one event thread, with a job that waits for
a running backup to end; but the end of that backup is told by an event that queues behind it in the same thread. The
knot opens only when libvirt's lock times out after 30 seconds (libvirtd's log: «Cannot start job (modify migration
safe)»), and the agent stays unknown to libvirt until it connects anew. Agents connect once a boot, so no backup is
begun on a VM that has just been started until its agent is there or has had its time; and once a guest has been asked
to shut down, none until its agent has left, which it does early on the way down. Without that a shutdown takes half a
minute longer now and then: libvirt cannot even tell that the VM is off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Longer than most guests need to boot; a VM without an agent inside pays it once a start.
GRACE_S = 30.0
# A guest that does not obey goes on being replicated, also while it is asked again and again without a pause.
_LEAVE_S = 20.0
_PAUSE_S = 60.0
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
        self._asked: dict[str, tuple[int, float, float]] = {}  # run, since when, last time
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

    def leaves(self, vm_id: str, run: int) -> None:
        """Its guest is about to be asked to shut down."""
        with self._lock:
            now, known = self._clock(), self._asked.get(vm_id)
            goes_on = known is not None and known[0] == run and now < known[2] + _PAUSE_S
            self._asked[vm_id] = (run, known[1] if known and goes_on else now, now)

    def leaving(self, vm_id: str, run: int) -> bool:
        """Whether its agent, if it is still there, may leave at any moment."""
        with self._lock:
            known = self._asked.get(vm_id)
        return known is not None and known[0] == run and self._clock() < known[1] + _LEAVE_S
