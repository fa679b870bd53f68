"""Small pictures as SVG geometry. Pure: numbers in, coordinates out; templates draw them. Attributes only, no styles,
as the content security policy wants it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency


@dataclass(frozen=True, slots=True)
class Spark:
    """points: of a polyline, "x,y x,y …". limit: where the target lies, None above the picture. top: of the scale."""

    points: str
    limit: float | None
    width: int
    height: int
    top: float


def spark(values: Sequence[float], target: float | None, width: int = 88, height: int = 22, most: int = 60) -> Spark:
    """The newest values, evenly spaced; the scale reaches from 0 to the greatest value or the target."""
    shown = list(values)[-most:]
    top = max([*shown, (target or 0.0) * 1.25, 1e-9])
    step = width / max(len(shown) - 1, 1)
    inner = height - 2
    at = [f"{n * step:.1f},{1 + inner * (1 - value / top):.1f}" for n, value in enumerate(shown)]
    limit = None if not target or target > top else round(1 + inner * (1 - target / top), 1)
    return Spark(" ".join(at), limit, width, height, top)


@dataclass(frozen=True, slots=True)
class Bar:
    """A slice of time; x and width in percent of the picture, height in pixels. count, apps: how many points it has,
    and how many of them are application-consistent."""

    x: float
    width: float
    height: float
    begins: float
    ends: float
    count: int
    apps: int
    bytes: int
    newest: str


@dataclass(frozen=True, slots=True)
class Timeline:
    begins: float
    ends: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, float], ...]
    height: int
    most: int


# Steps between marks of a time axis, seconds.
_STEPS = (
    1,
    5,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    86_400,
    2 * 86_400,
    7 * 86_400,
)
_SLICES = 60


def timeline(
    points: Sequence[RecoveryPoint], begins: float, ends: float, *, by_bytes: bool, height: int = 84
) -> Timeline:
    """Points of one VM between two moments (UTC seconds), gathered in slices. by_bytes: bars as high as what the
    points added to the vault, else as how many there are."""
    span = max(ends - begins, 1.0)
    slices: list[list[RecoveryPoint]] = [[] for _ in range(_SLICES)]
    for point in points:
        at = point.time_ns / 1e9
        if begins <= at <= ends:
            slices[min(int((at - begins) / span * _SLICES), _SLICES - 1)].append(point)
    weights = [sum(p.stored for p in found) if by_bytes else len(found) for found in slices]
    most = max([*weights, 1])
    bars = []
    for number, found in enumerate(slices):
        if not found:
            continue
        start = begins + span * number / _SLICES
        bars.append(
            Bar(
                x=round(100 * (number + 0.1) / _SLICES, 2),
                width=round(100 * 0.8 / _SLICES, 2),
                height=round(max(3.0, height * math.sqrt(weights[number] / most)), 1),
                begins=start,
                ends=start + span / _SLICES,
                count=len(found),
                apps=sum(p.consistency is Consistency.APP for p in found),
                bytes=sum(p.stored for p in found),
                newest=found[-1].id,
            )
        )
    return Timeline(begins, ends, tuple(bars), _ticks(begins, ends), height, most)


def _ticks(begins: float, ends: float) -> tuple[tuple[float, float], ...]:
    """(x in percent, UTC seconds) of four to eight round moments."""
    span = max(ends - begins, 1.0)
    step = next((step for step in _STEPS if span / step <= 7), 30 * 86_400)
    first = math.ceil(begins / step) * step
    marks: list[tuple[float, float]] = []
    while first < ends and len(marks) < 10:
        marks.append((round(100 * (first - begins) / span, 2), float(first)))
        first += step
    return tuple(marks)
