"""Actual against target RPO of VMs in a list, with its curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leeward.console.web.charts import Spark, spark
from leeward.console.web.live import Piece
from leeward.console.web.rows import Row
from leeward.console.web.watch import Moment, ages


@dataclass(frozen=True, slots=True)
class Shown:
    """What a list shows as of a moment."""

    moment: Moment

    @property
    def ages(self) -> Mapping[str, float]:
        return ages(self.moment)

    def spark(self, row: Row) -> Spark | None:
        curve = self.moment.curves.of(row.vm_id)
        return spark(curve, row.target_s) if row.kind == "vm" and len(curve) > 1 else None


def rpo_piece(pieces: Any, shown: Shown, row: Row) -> Piece:
    age, line = shown.ages.get(row.vm_id), shown.spark(row)
    key = (None if age is None else int(age), row.late, line)
    return Piece(f"rpo-{row.vm_id}", key, lambda: str(pieces.rpo(shown, row)))
