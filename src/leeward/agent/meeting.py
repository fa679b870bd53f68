"""One instant for several VMs: their backup jobs begin while all of their guests stand still.

Nothing that one of them has sent after its instant can have been received by another before its own, since nobody
runs between the first and the last of these instants. Each VM's worker comes with its own thread, when all that takes
time has been done; then

1. who is there waits for the others, for a moment; if one does not come, all go on without a mark;
2. the guests that are to be stopped are written down (see `standstill`), and each worker stops its own;
3. when all stand still, each fixes its instant;
4. when all have done so, each lets its guest go on, and the points may carry the mark.

A watch resumes the guests when that takes too long or goes wrong; what was begun then are points as any other.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

from leeward.agent.standstill import Standstill
from leeward.domain.errors import LeewardError
from leeward.domain.points import Mark
from leeward.domain.vm import Power
from leeward.logs import log
from leeward.ports.hypervisor import Hypervisor

# The longest that guests may stand still. A fifth of a second is the rule; a host that has much to write out when it
# stops a guest takes longer.
HOLD_S = 2.0


class Phase(Enum):
    GATHERING = auto()
    STOPPING = auto()
    BEGINNING = auto()
    CLOSING = auto()
    OVER = auto()


class Meeting:
    """One round. Each member uses `moment` once, or `withdraw`; later ones find it over.

    mark: once it is over, what the points of this instant carry; None when it came to nothing, and `why` says why.
    stood_s: how long the guests stood still. on_step: told named instants (the crash tests kill the process there).
    """

    def __init__(
        self,
        host: str,
        group: str,
        members: frozenset[str],
        hypervisor: Hypervisor,
        standstill: Standstill,
        patience_s: float,
        hold_s: float = HOLD_S,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.host, self.group, self.members = host, group, members
        self._hypervisor = hypervisor
        self._standstill = standstill
        self._ends = time.monotonic() + patience_s
        self._hold_s = hold_s
        self._on_step = on_step
        self._changed = threading.Condition()
        self._phase = Phase.GATHERING
        self._arrived: set[str] = set()
        self._stopping: set[str] = set()  # a call that stops this one may be under way
        self._still: set[str] = set()
        self._stopped: set[str] = set()  # by us
        self._ours: set[str] = set()  # of these, not let go on yet
        self._fixed: set[str] = set()
        self._gone_on: set[str] = set()
        self._time_ns = 0
        self._began = 0.0
        self.mark: Mark | None = None
        self.why = ""
        self.stood_s = 0.0

    @property
    def gathering(self) -> bool:
        return self._phase is Phase.GATHERING

    @property
    def over(self) -> bool:
        return self._phase is Phase.OVER

    def withdraw(self, vm_id: str, why: str) -> None:
        """This one does not come. Nothing when the meeting has begun."""
        with self._changed:
            if self._phase is Phase.GATHERING:
                self._void(why)

    @contextmanager
    def moment(self, vm_id: str) -> Iterator[None]:
        """Around what fixes the instant of this VM. When it was left, `mark` is what its point may carry."""
        joined = self._gather(vm_id) and self._stop(vm_id)
        try:
            yield
        except BaseException as error:
            if joined:
                with self._changed:
                    self._void(f"one could not begin: {error}")
            raise
        if joined:
            self._close(vm_id)

    # --- its phases ---------------------------------------------------------------------------------

    def _void(self, why: str) -> None:
        """With the lock held: from here on there will be no mark. The watch lets go on whom we have stopped."""
        if self._phase is not Phase.OVER:
            self._phase, self.why, self.mark = Phase.OVER, why, None
            self._changed.notify_all()

    def _gather(self, vm_id: str) -> bool:
        """True when all have come."""
        with self._changed:
            if self._phase is not Phase.GATHERING:
                return False
            self._arrived.add(vm_id)
            if self._arrived == self.members:
                self._set_out()
            else:
                self._changed.wait_for(
                    lambda: self._phase is not Phase.GATHERING, max(0.0, self._ends - time.monotonic())
                )
                if self._phase is Phase.GATHERING:
                    self._void("somebody came too late")
            return not self.over

    def _set_out(self) -> None:
        """By the last one who came, with the lock held: write down who is to be stopped, then begin."""
        try:
            running = [vm_id for vm_id in self.members if self._hypervisor.vm(vm_id).power is Power.RUNNING]
            self._standstill.begin(self.host, running)
        except LeewardError as error:
            self._void(str(error))
            return
        self._on_step("noted")
        self._began = time.monotonic()
        self._phase = Phase.STOPPING
        self._changed.notify_all()
        threading.Thread(target=self._watch, name=f"meeting-{self.group}", daemon=True).start()

    def _stop(self, vm_id: str) -> bool:
        """True when all stand still."""
        ours, trouble = False, ""
        with self._changed:
            if self._phase is not Phase.STOPPING:
                return False  # it went wrong before this one's turn
            self._stopping.add(vm_id)
        try:
            ours = self._hypervisor.pause(vm_id)
        except Exception as error:  # also of a bug the watch must hear
            trouble = str(error)
        with self._changed:
            if ours:
                self._ours.add(vm_id)
                self._stopped.add(vm_id)
            self._stopping.discard(vm_id)
            self._changed.notify_all()  # the watch waits for the last of these calls
            if trouble:
                self._void(f"one cannot be stopped: {trouble}")
            self._still.add(vm_id)
            if self._phase is Phase.STOPPING and self._still == self.members:
                self._time_ns = time.time_ns()
                self._phase = Phase.BEGINNING
                self._on_step("all-still")
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._phase is not Phase.STOPPING)
            if self._phase is not Phase.OVER:
                return True
        if ours:
            self._let_go(vm_id)  # the watch may have been through before it stood still
        return False

    def _close(self, vm_id: str) -> None:
        """This one's instant is fixed; wait until all are, let it go on, and wait for the verdict."""
        with self._changed:
            if self._phase is not Phase.BEGINNING:
                return
            self._fixed.add(vm_id)
            if self._fixed == self.members:
                self._phase = Phase.CLOSING
                self._on_step("all-fixed")
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._phase is not Phase.BEGINNING)
            if self._phase is Phase.OVER:
                return
        undisturbed = self._let_go(vm_id) if vm_id in self._stopped else self._stayed(vm_id)
        with self._changed:
            if not undisturbed:
                self._void("one was let go on by somebody else")
            self._gone_on.add(vm_id)
            if self._phase is Phase.CLOSING and self._gone_on == self.members:
                self.stood_s = time.monotonic() - self._began
                members = tuple(sorted(self.members))
                self.mark = Mark(secrets.token_hex(8), self.group, self._time_ns, members)
                self._phase = Phase.OVER
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._phase is Phase.OVER)

    # --- going on -----------------------------------------------------------------------------------

    def _let_go(self, vm_id: str) -> bool:
        """Of one that we have stopped. True when it stood still until now."""
        try:
            stood = self._hypervisor.resume(vm_id)
        except LeewardError as error:
            log.warning("a guest cannot be let go on", vm_id=vm_id, error=str(error))
            return False
        with self._changed:
            self._ours.discard(vm_id)
            self._changed.notify_all()
        return stood

    def _stayed(self, vm_id: str) -> bool:
        """Of one that was off or stopped by its operator: True when it still is."""
        try:
            ran = self._hypervisor.pause(vm_id)
            if ran:
                self._hypervisor.resume(vm_id)
        except LeewardError as error:
            log.warning("a guest cannot be looked at", vm_id=vm_id, error=str(error))
            return False
        return not ran

    def _watch(self) -> None:
        """Whatever happens: nobody stands still for longer than that."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._phase is Phase.OVER, self._hold_s):
                self._void(f"not all had begun within {self._hold_s:g} s")
            standing = sorted(self._ours)
        for vm_id in standing:
            threading.Thread(target=self._let_go, args=(vm_id,), daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: not self._stopping)
            self._changed.wait_for(lambda: not self._ours, self._hold_s)
            left = set(self._ours)
        self._standstill.end(self.host, self.members - left)
        for vm_id in left:
            self._standstill.abandon(self.host, vm_id)
