"""Which recovery points are kept: pure rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from leeward.domain.points import RecoveryPoint


@dataclass(frozen=True, slots=True)
class Retention:
    """All points for `window_s`; beyond it the newest of each hour for `hourly_s`, of each day (UTC) for `daily_s`.

    All three are ages in seconds, counted from now; 0 switches a rule off, except that the newest point always stays.
    """

    window_s: float
    hourly_s: float = 0.0
    daily_s: float = 0.0


def ages(points: Sequence[RecoveryPoint], now_ns: int, window_s: float) -> list[float]:
    """How old each point counts as being, in seconds; points ascending by log order.

    Ages run from the newest point, not from the clock: a VM that has been off for a week keeps the points from
    before. For the same reason, and because a clock that jumped ahead must not make a whole log look old at once, a
    stretch without points counts for at most half the window.
    """
    if not points:
        return []
    result = [0.0] * len(points)
    for index in range(len(points) - 2, -1, -1):
        gap = (min(points[index + 1].time_ns, now_ns) - min(points[index].time_ns, now_ns)) / 1e9
        result[index] = result[index + 1] + min(max(gap, 0.0), window_s / 2)
    return result


def kept(
    points: Sequence[RecoveryPoint],
    retention: Retention,
    now_ns: int,
    pinned: Collection[str] = (),
    favoured: Collection[str] = (),
) -> list[RecoveryPoint]:
    """The points that stay, ascending. pinned: ids that stay whatever their age. favoured: ids that are taken before
    others where one of many stays (the VMs of a consistency group then keep the same instants)."""
    old = ages(points, now_ns, retention.window_s)
    favoured = frozenset(favoured)
    wanted = set(pinned)
    wanted.update(_newest_of(points, old, retention.hourly_s, "%Y-%m-%d %H", favoured))
    wanted.update(_newest_of(points, old, retention.daily_s, "%Y-%m-%d", favoured))
    last = len(points) - 1
    return [
        point
        for index, point in enumerate(points)
        if index == last or old[index] <= retention.window_s or point.id in wanted
    ]


def _newest_of(
    points: Sequence[RecoveryPoint], old: Sequence[float], upto_s: float, period: str, favoured: Collection[str]
) -> Iterator[str]:
    """Ids of the newest point of each period that is at most `upto_s` old: a favoured one where there is any."""
    if upto_s <= 0:
        return
    found: dict[str, RecoveryPoint] = {}
    for point, age in zip(reversed(points), reversed(old), strict=True):
        if age > upto_s:
            break
        # Of a mark all points count as being of its own time, or they could fall into two periods.
        favour = point.id in favoured and point.mark is not None
        time_ns = point.mark.time_ns if favour and point.mark else point.time_ns
        name = datetime.fromtimestamp(time_ns / 1e9, UTC).strftime(period)
        if name not in found or (favour and found[name].id not in favoured):
            found[name] = point
    yield from (point.id for point in found.values())
