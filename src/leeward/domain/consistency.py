"""Consistency groups: VMs whose points agree at marked instants. Pure rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from leeward.domain.durations import show
from leeward.domain.points import Mark, RecoveryPoint
from leeward.domain.retention import Retention, kept

# The newest common mark is taken without asking while it is not older than the newest points by more than this: marks
# that were missed now and then are no news, a group that has not met for an hour is.
LATE_INTERVALS, LATE_S = 10.0, 600.0

Points = Mapping[str, Sequence[RecoveryPoint]]


def common_marks(points: Points) -> list[Mark]:
    """Marks that every one of these VMs has a point with, ascending. points: by VM, each ascending.

    What comes later in the log is later, also where its host's clock was set back in between.
    """
    by_vm = [{point.mark.id: point.mark for point in found if point.mark} for found in points.values()]
    if not by_vm:
        return []
    shared = set.intersection(*(set(marks) for marks in by_vm))
    return [mark for name, mark in by_vm[0].items() if name in shared]


def point_of(points: Sequence[RecoveryPoint], mark: Mark) -> RecoveryPoint | None:
    return next((point for point in reversed(points) if point.mark and point.mark.id == mark.id), None)


def newer_by(points: Sequence[RecoveryPoint], point: RecoveryPoint) -> float:
    """By how many seconds the newest one is newer. Where the clock was set back in between, nothing counts."""
    later = points[points.index(point) :]
    return sum(max(after.time_ns - before.time_ns, 0) for before, after in pairwise(later)) / 1e9


def kept_together(points: Points, by: Mapping[str, Retention], now_ns: int) -> set[str]:
    """Ids of the common marks that the rules of at least one VM keep: so they stay in all of them, or in none."""
    common = {mark.id for mark in common_marks(points)}
    found = set()
    for vm_id, its_points in points.items():
        favoured = [point.id for point in its_points if point.mark and point.mark.id in common]
        stay = kept(its_points, by[vm_id], now_ns, favoured=favoured)
        found |= {point.mark.id for point in stay if point.mark and point.mark.id in common}
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """What VMs of a group are brought back to. points: VM → point id; empty: each to its newest.

    note: for people. late: why somebody has to decide, "" when nobody has.
    """

    points: dict[str, str]
    note: str
    late: str = ""


def choose(group: str, every_s: float, points: Points) -> Choice:
    """The newest instant at which all of these VMs agree."""
    marks = common_marks(points)
    if not marks:
        return Choice({}, f"the newest point of each: group {group} has no instant yet that all of its VMs have")
    mark = marks[-1]
    chosen = {vm_id: point for vm_id, found in points.items() if (point := point_of(found, mark)) is not None}
    behind_s = max(newer_by(found, chosen[vm_id]) for vm_id, found in points.items())
    told = f"one instant of group {group}"
    if behind_s > 0:
        told = f"one instant of group {group}, {show(behind_s)} older than the newest point"
    late = ""
    if behind_s > max(every_s * LATE_INTERVALS, LATE_S):
        late = f"the VMs of group {group} last agree {show(behind_s)} before their newest points"
    return Choice({vm_id: point.id for vm_id, point in chosen.items()}, told, late)
