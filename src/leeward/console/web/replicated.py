"""Home's short list of protected VMs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest

from leeward.console.once import once
from leeward.console.web.rows import Row, all_rows
from leeward.console.web.rpo import Shown
from leeward.console.web.watch import Moment

_MOST = 6


@dataclass(frozen=True, slots=True)
class Replicated(Shown):
    """rows: those that are late first, then by name. count: of all protected VMs."""

    rows: tuple[Row, ...]
    count: int


@once
def replicated(moment: Moment) -> Replicated:
    found = [row for row in all_rows(moment) if row.kind == "vm" and row.target_s is not None]
    first = nsmallest(_MOST, found, key=lambda row: (not row.late, row.name, row.vm_id))
    return Replicated(moment, tuple(first), len(found))
