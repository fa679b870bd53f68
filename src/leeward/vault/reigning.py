"""Who writes a VM's log now, and how that came to be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from leeward.domain.errors import Damaged, ObjectNotFound
from leeward.vault import keyspace
from leeward.vault.format import Kind
from leeward.vault.history import History

# An operator's word that it runs where it is replicated from, whatever may stand in the entries that are passed over.
PAST_DAMAGE = "past-damage"
# Reasons of an epoch that mean: the VM itself runs at the writer's host from here on.
MOVES = ("failover", "failback", "undo", PAST_DAMAGE)


@dataclass(frozen=True, slots=True)
class Reign:
    """An epoch of a log. info: what its writer said on beginning it ({} when that has been pruned): writer, host,
    reason, and for a failover its run. time_ns: when, UTC ns; 0 when not known. passes: how many damaged entries it
    began behind."""

    epoch: int
    info: dict[str, Any]
    time_ns: int
    passes: int = 0

    @property
    def reason(self) -> str:
        return str(self.info.get("reason", ""))


def reign(history: History) -> Reign | None:
    """Who writes this log now, by its newest epoch entry; None of an empty log. Raises Damaged, StoreError."""
    tail = history.tail()
    return _reign(history, tail)[0] if tail else None


def last_move(history: History, passing: Callable[[Reign], bool] = lambda found: False) -> Reign | None:
    """The newest epoch that moved the VM, later ones of other reasons passed over; None: it never moved, as far as
    the log and its horizon know. passing: moves to pass over as well. Raises as `reign`.

    An agent that has lost its memory begins an epoch to go on protecting; the VM does not move by that.
    """
    return _move_upto(history, history.tail(), passing)


def certain(history: History) -> tuple[Reign | None, Reign | None]:
    """As `reign` and `last_move`, of a log whose end cannot be read: by the newest entry of which it is certain; None
    for what cannot be told from there. Raises StoreError."""
    places = range(history.tail(), history.horizon().base, -1)
    at = next((place for place in places if history.certain_epoch(place) is not None), None)
    if at is None:
        return None, move_of(history)
    newest = move = None
    with suppress(Damaged):
        newest = _reign(history, at)[0]
    with suppress(Damaged):
        move = _move_upto(history, at, lambda found: False)
    return newest, move


def _move_upto(history: History, tail: int, passing: Callable[[Reign], bool]) -> Reign | None:
    known = move_of(history)
    at = tail or None
    while at is not None:
        found, began = _reign(history, at)
        if known is not None and found.epoch <= known.epoch:
            break
        if found.reason in MOVES and not passing(found):
            return found
        if not found.info:
            break  # older ones have been pruned as well
        at = _before(history, found, began)
    return known if known and not passing(known) else None


def move_of(history: History) -> Reign | None:
    """The move that the horizon remembers, since pruning takes the epoch entry with the points before it."""
    kept = history.horizon().move
    return Reign(int(kept["epoch"]), dict(kept["info"]), int(kept["time_ns"])) if kept else None


def _reign(history: History, at: int) -> tuple[Reign, int]:
    """The one that log entry `at` was written in, and the number of the entry that began it.

    Raises Damaged when `at` cannot be read, or an entry that may have begun it.
    """
    epoch = history.epoch_at(at)
    began, hidden = _began(history, epoch, at)
    try:
        opened = history.reader.open(keyspace.log(history.vm_id, began))
    except ObjectNotFound as error:
        if began > history.horizon().base:  # a map in its place tells of its epoch, not of who began it
            raise Damaged("a log entry is missing", subject=error.subject) from None
        return _pruned(history, epoch), began
    identity = opened.header.identity
    if identity.kind is Kind.EPOCH:
        return Reign(epoch, history.reader.meta(opened).info, identity.time_ns, identity.passes), began
    if hidden is not None and history.horizon().epoch != epoch:
        raise Damaged(
            f"the entry that began epoch {epoch} cannot be read: who writes this log is not known",
            subject=keyspace.log(history.vm_id, hidden),
        )
    return _pruned(history, epoch), began


def _began(history: History, epoch: int, high: int) -> tuple[int, int | None]:
    """The first entry of an epoch that can be read, and one just before it that may be of it as well and cannot.

    high: an entry of this epoch. Epochs never fall along the log, and it is dense behind its horizon: so it is found
    by halving. An entry that cannot be read lies between its readable neighbours in this, too.
    """
    low, hidden = min(history.horizon().base + 1, high), None
    while low < high:
        middle = (low + high) // 2
        probe: int | None = middle
        while probe is not None and (found := history.certain_epoch(probe)) is None:
            probe = probe - 1 if probe > low else None
        if probe is None:  # nothing in low … middle can be read
            low, hidden = middle + 1, middle
        elif found is not None and found >= epoch:
            high = probe
        else:
            low, hidden = middle + 1, middle if probe < middle else None
    return high, hidden


def _before(history: History, found: Reign, began: int) -> int | None:
    """An entry of the epoch before this one; None: it has been pruned. Raises Damaged when it may be one that cannot
    be read, unless this epoch has passed over that."""
    horizon = history.horizon()
    places = range(began - 1, horizon.base, -1)
    at = next((place for place in places if history.certain_epoch(place) is not None), None)
    epoch = horizon.epoch if at is None else history.epoch_at(at)
    if places and epoch < found.epoch - 1 and not found.passes:
        raise Damaged(
            f"the entry that began epoch {found.epoch - 1} cannot be read",
            subject=keyspace.log(history.vm_id, (at or horizon.base) + 1),
        )
    return at


def _pruned(history: History, epoch: int) -> Reign:
    known = move_of(history)
    return known if known is not None and known.epoch == epoch else Reign(epoch, {}, 0)
