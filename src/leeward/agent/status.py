"""What is known of one protected VM: facts written by its worker, read by reports. Decisions are in `state_of`."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from leeward.domain.points import RecoveryPoint
from leeward.domain.protection import ProtectionState
from leeward.replication.replicator import CycleResult, Kind

# A cycle that fails now and then (a busy host, a blip of the vault) is no news; the state becomes `error` when the
# newest recoverable instant is older than this many targets, or when the failure is one that time does not mend.
LATE_FACTOR = 3.0


@dataclass(slots=True)
class Facts:
    """Times in UTC ns. points: committed by this writer lately, oldest first. failure: the last error's one line."""

    known: bool = False  # the vault has been read since this worker started
    newest: RecoveryPoint | None = None
    verified_ns: int | None = None
    kind: Kind | None = None
    kind_reason: str = ""
    running: bool = False
    failure: str = ""
    permanent: bool = False
    paused: bool = False
    cycles: int = 0
    last_cycle_s: float | None = None
    last_cycle_bytes: int = 0
    note: str = ""
    unsent: deque[RecoveryPoint] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, result: CycleResult) -> None:
        with self.lock:
            self.cycles += 1
            self.failure, self.permanent = "", False
            self.last_cycle_s = result.seconds
            self.last_cycle_bytes = result.stored
            self.note = "; ".join(result.warnings)
            if result.point is not None:
                self.unsent.append(result.point)
            self.verified_ns = result.time_ns
            self.kind = Kind.DELTA
            self.kind_reason = ""

    def fail(self, failure: str, *, permanent: bool) -> None:
        with self.lock:
            self.failure, self.permanent = failure, permanent

    def begin(self, kind: Kind, reason: str) -> None:
        with self.lock:
            self.kind, self.kind_reason = kind, reason


def state_of(facts: Facts, rpo_s: float, actual_s: float | None) -> tuple[ProtectionState, str]:
    """The state that a person sees, and why. actual_s: age of the newest recoverable instant, None: none yet."""
    if facts.paused:
        return ProtectionState.PAUSED, "paused by the operator; existing recovery points stay usable"
    if facts.permanent:
        return ProtectionState.ERROR, facts.failure
    if not facts.known:
        if facts.failure:
            return ProtectionState.ERROR, f"the vault's newest point is not known: {facts.failure}"
        return ProtectionState.REPLICATING, "starting: reading the vault"
    if facts.newest is None:
        reason = "the first copy is under way; failover opens when it is complete"
        if facts.failure:
            return ProtectionState.ERROR, f"the first copy cannot go on: {facts.failure}"
        return ProtectionState.REPLICATING, reason
    if facts.kind is Kind.RESYNC:
        why = facts.kind_reason or "change tracking was lost"
        return ProtectionState.RESYNCHRONIZING, f"comparing every block with the vault: {why}"
    if facts.failure and (actual_s is None or actual_s > max(rpo_s * LATE_FACTOR, 10.0)):
        return ProtectionState.ERROR, facts.failure
    if facts.failure:
        return ProtectionState.ENABLED, f"retrying: {facts.failure}"
    return ProtectionState.ENABLED, facts.note
