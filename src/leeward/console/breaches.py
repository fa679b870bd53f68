"""Runs to an older point of a log that cannot be read to its end: what they may pass over, and what is said of it.

Only who names the point has agreed to lose what comes after it. The newest point is never silently an older one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from leeward.domain.errors import Damaged
from leeward.domain.points import RecoveryPoint
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run
from leeward.vault.log import Reign, VmLog


@dataclass(frozen=True, slots=True)
class Over:
    """passing: see `leeward.domain.runs.passing`. epoch: the newest that is certain; reign: whose it is, None where
    that is not known. told: for people."""

    passing: dict[str, Any]
    epoch: int
    reign: Reign | None
    told: str


@contextmanager
def reading(run: Run, vm_log: VmLog) -> Iterator[None]:
    """What cannot be read of the point that is wanted is told together with the point that can be."""
    try:
        yield
    except Damaged as error:
        breach = vm_log.breach()
        raise _refused(run, error, breach.state.last_point if breach else vm_log.tail().point) from error


def over(run: Run, vm_log: VmLog, point: RecoveryPoint) -> Over | None:
    """None: the log can be read to its end, and it is known who had it. point: of the run, which can be read. Raises
    Damaged where nobody has named that point."""
    breach = vm_log.breach()
    if breach is None:
        return _nobody_known(run, vm_log, point)
    if not run.options.get("explicit"):
        raise breach.error
    reign, _ = vm_log.certain()
    # Found in the pages' catalogue by `leeward.console.web.sentences`.
    told = (
        f"point {point.id}: behind entry {breach.state.seq} the log cannot be read ({breach.error.subject}: "
        f"{breach.error.message}); what came there is given up"
    )
    if breach.unread or reign is None:
        told = f"{told}; whether another site had taken the VM over there is not known"
    passing = {"point": point.seq, "unread": list(breach.unread)}
    return Over(passing, breach.epoch, reign, told)


def _nobody_known(run: Run, vm_log: VmLog, point: RecoveryPoint) -> Over | None:
    """Of a log in which nothing but the beginning of its newest epoch cannot be read."""
    try:
        vm_log.reign()
    except Damaged:
        if not run.options.get("explicit"):
            raise
        told = (
            f"point {point.id}; the beginning of epoch {vm_log.epoch()} cannot be read: who had the VM is not known"
        )
        return Over({"point": point.seq, "unread": []}, vm_log.epoch(), None, told)
    return None


def _refused(run: Run, error: Damaged, point: RecoveryPoint | None) -> Damaged:
    """point: the newest that can be read."""
    if run.kind is Kind.PLANNED:
        hint = "Put that object back from a copy of the vault, then retry: a planned failover brings the newest data"
        return Damaged(error.message, subject=error.subject, hint=hint)
    if point is None:
        return Damaged(error.message, subject=error.subject, hint=error.hint)
    return Damaged(
        f"{error.message}. The newest point that can be read is {point.id}",
        subject=error.subject,
        hint=f"To go back to it, take this run back with `leeward failover cancel {run.vm_name}` and begin anew with "
        f"`--point {point.id}`",
    )
