"""How fast something grows, and when its place will be full. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DAY_S = 86_400.0
# What was longer ago says little about the weeks to come; less than this says too little.
_WINDOW_S = 14 * DAY_S
_LEAST_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Size:
    """at: UTC seconds. bytes: of all that lies there."""

    at: float
    bytes: int


def per_day(sizes: Sequence[Size]) -> float | None:
    """Bytes a day, by the straight line that fits the last two weeks best; negative where it shrinks. None: the
    sizes, oldest first, are of less than six hours."""
    if not sizes:
        return None
    recent = [size for size in sizes if size.at >= sizes[-1].at - _WINDOW_S]
    if len(recent) < 2 or recent[-1].at - recent[0].at < _LEAST_S:
        return None
    middle = sum(size.at for size in recent) / len(recent)
    mean = sum(size.bytes for size in recent) / len(recent)
    spread = sum((size.at - middle) ** 2 for size in recent)
    return sum((size.at - middle) * (size.bytes - mean) for size in recent) / spread * DAY_S


def full_in_s(free: int | None, growth: float | None) -> float | None:
    """Seconds until nothing is free any more at this growth (bytes a day). None: never, or nobody knows."""
    if free is None or growth is None or growth <= 0:
        return None
    return free / growth * DAY_S
