"""Who writes a VM's log now, and how that came to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leeward.domain.errors import ObjectNotFound
from leeward.vault import keyspace
from leeward.vault.format import Kind
from leeward.vault.history import History

# Reasons of an epoch that mean: the VM itself runs at the writer's host from here on.
MOVES = ("failover", "failback", "undo")


@dataclass(frozen=True, slots=True)
class Reign:
    """An epoch of a log. info: what its writer said on beginning it ({} when that has been pruned): writer, host,
    reason, and for a failover its run. time_ns: when, UTC ns; 0 when not known."""

    epoch: int
    info: dict[str, Any]
    time_ns: int

    @property
    def reason(self) -> str:
        return str(self.info.get("reason", ""))


def reign(history: History) -> Reign | None:
    """Who writes this log now, by its newest epoch entry; None of an empty log. Raises Damaged, StoreError."""
    tail = history.tail()
    return _reign(history, history.epoch_at(tail), tail) if tail else None


def last_move(history: History, passing: Callable[[Reign], bool] = lambda found: False) -> Reign | None:
    """The newest epoch that moved the VM, later ones of other reasons passed over; None: it never moved, as far as
    the log and its horizon know. passing: moves to pass over as well. Raises as `reign`.

    An agent that has lost its memory begins an epoch to go on protecting; the VM does not move by that.
    """
    tail = history.tail()
    if not tail:
        return None
    known = move_of(history)
    for epoch in range(history.epoch_at(tail), known.epoch if known else 0, -1):
        found = _reign(history, epoch, tail)
        if found.reason in MOVES and not passing(found):
            return found
        if not found.info:
            break  # older ones have been pruned as well
    return known if known and not passing(known) else None


def move_of(history: History) -> Reign | None:
    """The move that the horizon remembers, since pruning takes the epoch entry with the points before it."""
    kept = history.horizon().move
    return Reign(int(kept["epoch"]), dict(kept["info"]), int(kept["time_ns"])) if kept else None


def _reign(history: History, epoch: int, tail: int) -> Reign:
    # Epochs never fall along the log, and it is dense behind its horizon: the entry that began an epoch is found by
    # halving.
    low, high = min(history.horizon().base + 1, tail), tail
    while low < high:
        middle = (low + high) // 2
        if history.epoch_at(middle) < epoch:
            low = middle + 1
        else:
            high = middle
    try:
        opened = history.reader.open(keyspace.log(history.vm_id, low))
    except ObjectNotFound:
        return _pruned(history, epoch)
    identity = opened.header.identity
    if identity.kind is not Kind.EPOCH or identity.epoch != epoch:
        return _pruned(history, epoch)
    return Reign(epoch, history.reader.meta(opened).info, identity.time_ns)


def _pruned(history: History, epoch: int) -> Reign:
    known = move_of(history)
    return known if known is not None and known.epoch == epoch else Reign(epoch, {}, 0)
