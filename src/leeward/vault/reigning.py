"""Who writes a VM's log now, and how that came to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leeward.domain.errors import ObjectNotFound
from leeward.vault import keyspace
from leeward.vault.format import Kind
from leeward.vault.history import History


@dataclass(frozen=True, slots=True)
class Reign:
    """The newest epoch of a log. info: what its writer said on beginning it ({} when that has been pruned): writer,
    reason, and for a failover host and run. time_ns: when, UTC ns; 0 when not known."""

    epoch: int
    info: dict[str, Any]
    time_ns: int

    @property
    def reason(self) -> str:
        return str(self.info.get("reason", ""))


def reign(history: History) -> Reign | None:
    """Who writes this log now, by its newest epoch entry; None of an empty log. Raises Damaged, StoreError."""
    tail = history.tail()
    if not tail:
        return None
    newest = history.epoch_at(tail)
    # Epochs never fall along the log, and it is dense behind its horizon: the entry that began the newest epoch
    # is found by halving.
    low, high = min(history.horizon().base + 1, tail), tail
    while low < high:
        middle = (low + high) // 2
        if history.epoch_at(middle) < newest:
            low = middle + 1
        else:
            high = middle
    try:
        opened = history.reader.open(keyspace.log(history.vm_id, low))
    except ObjectNotFound:
        return Reign(newest, {}, 0)
    identity = opened.header.identity
    if identity.kind is not Kind.EPOCH:
        return Reign(newest, {}, 0)  # its beginning has been pruned
    return Reign(newest, history.reader.meta(opened).info, identity.time_ns)
