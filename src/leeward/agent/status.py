"""What is known of one protected VM: facts written by its worker, read by reports. Decisions are in `state_of`."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from leeward.domain.errors import Damaged
from leeward.domain.points import RecoveryPoint
from leeward.domain.protection import ProtectionState
from leeward.replication.replicator import CycleResult, Kind
from leeward.vault.log import VmLog

# A cycle that fails now and then (a busy host, a blip of the vault) is no news; the state becomes `error` when the
# newest recoverable instant is older than this many targets (and these seconds), or when the failure is one that time
# does not mend.
LATE_FACTOR, LATE_AT_LEAST_S = 3.0, 10.0
ENABLED = ProtectionState.ENABLED
BEHIND = "behind its target until the cycle under way is complete"


@dataclass(slots=True)
class Facts:
    """Times in UTC ns. failure: the last cycle's error, one line. sent_bytes: stored by all cycles of this worker.

    unsent: points that are not known to be in the vault, oldest first; waiting: how many of them are in the spool.
    away: why the vault does not take what is in the spool, "" when it does or nothing is there. marked_ns: the
    instant of the newest point in the vault that has a mark of the VM's consistency group.

    newest_at, verified_at, and recorded (point id → …, of those unsent): monotonic times at which these instants were
    over at the latest. The host's clock may be set back.
    """

    known: bool = False  # the vault has been read since this worker started
    newest: RecoveryPoint | None = None
    newest_at: float = 0.0
    verified_ns: int | None = None
    verified_at: float = 0.0
    recorded: dict[str, float] = field(default_factory=dict)
    marked_ns: int | None = None
    kind: Kind | None = None
    kind_reason: str = ""
    running: bool = False
    failure: str = ""
    permanent: bool = False
    paused: bool = False
    cycles: int = 0
    last_cycle_s: float | None = None
    last_cycle_bytes: int = 0
    sent_bytes: int = 0
    note: str = ""
    unsent: deque[RecoveryPoint] = field(default_factory=deque)
    waiting: int = 0
    away: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, result: CycleResult) -> None:
        with self.lock:
            self.cycles += 1
            self.failure, self.permanent = "", False
            self.last_cycle_s = result.seconds
            self.last_cycle_bytes = result.stored
            self.sent_bytes += result.stored
            self.note = "; ".join(result.warnings)
            self.verified_ns, self.verified_at = result.time_ns, time.monotonic()
            if result.point is not None:
                self.unsent.append(result.point)
                self.recorded[result.point.id] = self.verified_at
            self.kind = Kind.DELTA
            self.kind_reason = ""

    def in_vault(self, point: RecoveryPoint) -> None:
        """This one is the newest that anybody could bring back now. With the lock held."""
        self.newest, self.newest_at = point, self.recorded.pop(point.id, self.newest_at)
        if point.mark is not None:
            self.marked_ns = point.mark.time_ns

    def age_s(self, now_ns: int) -> float | None:
        """Of the newest instant that anybody could bring back from the vault now. With the lock held.

        A clock that was set back makes nothing younger than it is known to be.
        """
        if self.newest is None:
            return None
        instant, at = self.newest.time_ns, self.newest_at
        if not self.unsent and self.verified_ns:
            # Nothing is waiting in the spool: a later cycle that found no change proves the point still current.
            instant, at = self.verified_ns, self.verified_at
        return round(max(0.0, (now_ns - instant) / 1e9, time.monotonic() - at), 3)

    def fail(self, failure: str, *, permanent: bool) -> None:
        with self.lock:
            self.failure, self.permanent = failure, permanent

    def begin(self, kind: Kind, reason: str) -> None:
        with self.lock:
            self.kind, self.kind_reason = kind, reason


def state_of(facts: Facts, rpo_s: float, actual_s: float | None) -> tuple[ProtectionState, str]:
    """The state that a person sees, and why. actual_s: age of the newest recoverable instant, None: none yet."""
    if facts.permanent:
        return ProtectionState.ERROR, facts.failure
    if facts.paused:
        waiting = f"; {_waiting(facts.waiting)} to be sent" if facts.waiting else ""
        return ProtectionState.PAUSED, f"paused by the operator; existing recovery points stay usable{waiting}"
    if not facts.known:
        if facts.failure:
            return ProtectionState.ERROR, f"the vault's newest point is not known: {facts.failure}"
        return ProtectionState.REPLICATING, "starting: reading the vault"
    if facts.newest is None:
        return _first_copy(facts)
    late = actual_s is None or actual_s > max(rpo_s * LATE_FACTOR, LATE_AT_LEAST_S)
    if facts.kind is Kind.RESYNC:
        why = facts.kind_reason or "change tracking was lost"
        if facts.failure and late:
            return ProtectionState.ERROR, f"comparing every block ({why}) cannot go on: {facts.failure}"
        return ProtectionState.RESYNCHRONIZING, f"comparing every block with the vault: {why}"
    if facts.failure:
        return (ProtectionState.ERROR, facts.failure) if late else (ENABLED, f"retrying: {facts.failure}")
    if facts.away:
        return (ProtectionState.ERROR if late else ENABLED), f"{_waiting(facts.waiting)}: {facts.away}"
    if facts.waiting:
        return ENABLED, f"catching up: {_waiting(facts.waiting)} to be sent"
    if late:
        # Nothing has failed: much was written, the line or its limit is slow, or there was a pause. It goes on, and
        # whoever sees the age of the newest point is told why.
        return ENABLED, "; ".join(filter(None, (BEHIND, facts.note)))
    return ENABLED, facts.note


def _first_copy(facts: Facts) -> tuple[ProtectionState, str]:
    if facts.failure:
        return ProtectionState.ERROR, f"the first copy cannot go on: {facts.failure}"
    if facts.away:
        return ProtectionState.ERROR, f"the first copy waits in the local spool: {facts.away}"
    return ProtectionState.REPLICATING, "the first copy is under way; failover opens when it is complete"


def _waiting(points: int) -> str:
    return "1 point waits in the local spool" if points == 1 else f"{points} points wait in the local spool"


def unreadable(error: Damaged, vm_log: VmLog, name: str) -> Damaged:
    """Why nothing is added to a log whose end cannot be read, and what its operator can do. The source must not go on
    behind that by itself: somebody may have taken the VM over in just what cannot be read."""
    breach = vm_log.breach()
    point = breach.state.last_point if breach is not None else None
    hint = (
        "Put that object back from a copy of the vault: until then nothing is replicated. If there is none and the "
        f"VM runs nowhere else, `leeward protect {name} --past-damage` goes on without it"
    )
    if point is not None:
        hint = (
            "Put that object back from a copy of the vault: until then nothing is replicated. If there is none and "
            f"the VM runs nowhere else, `leeward protect {name} --past-damage` goes on without it. Should the site "
            f"be lost meanwhile, `leeward failover unplanned {name} --point {point.id}` brings it up from the newest "
            "point that can be read"
        )
    return Damaged(f"its log cannot be read to its end: {error.message}", subject=error.subject, hint=hint)
