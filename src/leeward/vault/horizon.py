"""The horizon: from where on a VM's log is whole, and which older points are still there.

Pruning puts a horizon first and deletes afterwards, so at every instant the newest horizon tells the truth: the chain
of log entries begins after `base`, with the map at `base` as its first state; a kept older point is opened from the
map at its own place; log entries and parts up to `base` are left only where one of these maps needs their data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from leeward.domain.points import RecoveryPoint
from leeward.vault import checkpoint
from leeward.vault.marks import marks_info
from leeward.vault.segment import Meta


@dataclass(frozen=True, slots=True)
class Horizon:
    """number: horizons count up from 1, the highest counts. base: sequence number; 0 where the log is whole.

    head: header hash of log entry `base`, which entry base + 1 names as its `prev`. points: kept ones up to `base`,
    ascending, base's own included when it is one. move: the VM's last move between hosts as it was known then, {}
    when there was none: a host that returns after its points are gone must still find out that the VM runs elsewhere.
    """

    number: int = 0
    base: int = 0
    epoch: int = 0
    head: bytes = bytes(32)
    points: tuple[RecoveryPoint, ...] = ()
    move: dict[str, Any] = field(default_factory=dict)

    def holds(self, seq: int) -> bool:
        """May there be a point `seq` as far as this horizon is concerned?"""
        return seq > self.base or any(point.seq == seq for point in self.points)

    def meta(self) -> Meta:
        layouts, rows = checkpoint.point_rows(self.points)
        marks = marks_info(self.points)
        more = {**({"move": self.move} if self.move else {}), **({"marks": marks} if marks else {})}
        return Meta.of({"layouts": layouts, "points": rows, **more})

    @staticmethod
    def of(number: int, base: int, epoch: int, head: bytes, info: dict[str, Any]) -> Horizon:
        points = tuple(checkpoint.points_of(info["layouts"], info["points"], info.get("marks", {})))
        return Horizon(number, base, epoch, head, points, info.get("move", {}))
