"""A log entry, what it makes of the state before it, and where a log cannot be read on.

Each entry follows one other. That is the one before it, but for an epoch that begins behind damaged entries: it
passes over these and follows the last one that could be read. So entries form a tree with one long branch, and the
state at any of them does not depend on what is damaged, or has been put back since.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from leeward.domain.errors import Damaged
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency, Disk
from leeward.vault.firmware import firmware_of
from leeward.vault.format import Kind
from leeward.vault.index import MapState, ObjectRef
from leeward.vault.marks import mark_of
from leeward.vault.segment import Meta, Opened


@dataclass(frozen=True, slots=True)
class Part:
    """A part that a commit names. disks: the names that its runs count by. total: bytes in the store."""

    number: int
    digest: bytes
    total: int
    disks: list[str]
    runs: NDArray[np.void]

    @staticmethod
    def of(opened: Opened, meta: Meta) -> Part:
        header = opened.header
        return Part(header.identity.part, opened.digest, header.total, meta.info["disks"], meta.runs)


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry with its parts, in the order in which they apply."""

    opened: Opened
    meta: Meta
    parts: tuple[Part, ...]

    @property
    def seq(self) -> int:
        return self.opened.header.identity.seq

    @property
    def kind(self) -> Kind:
        return self.opened.header.identity.kind

    @property
    def follows(self) -> int:
        """Sequence number of the entry that it follows; 0: none."""
        return self.opened.header.identity.follows

    def point(self) -> RecoveryPoint:
        identity, info = self.opened.header.identity, self.meta.info
        disks = tuple(Disk(name, size) for name, size in info["disks"])
        return RecoveryPoint(
            str(identity.seq),
            identity.epoch,
            identity.time_ns,
            Consistency(info["consistency"]),
            disks,
            info["stored"] + self.opened.header.total,
            mark_of(info.get("mark")),
        )


@dataclass(frozen=True, slots=True)
class Passed:
    """The entries in (follows, seq) were passed over by the epoch at `seq`."""

    follows: int
    seq: int

    def covers(self, seq: int) -> bool:
        return self.follows < seq < self.seq


@dataclass(frozen=True, slots=True)
class Span:
    """What a stretch of the log has: points, ascending, and what was passed over in it. unread: entries that could
    not be read, and may be either."""

    points: list[RecoveryPoint] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)

    def add(self, found: RecoveryPoint | Passed | int | None) -> None:
        """found: a number is that of an entry that cannot be read; None: one of another kind."""
        if isinstance(found, RecoveryPoint):
            self.points.append(found)
        elif isinstance(found, Passed):
            self.passed.append(found)
        elif found is not None:
            self.unread.append(found)

    def hides(self, seq: int) -> bool:
        return any(one.covers(seq) for one in self.passed)

    def shown(self) -> list[RecoveryPoint]:
        """The points without those that were passed over: the log has gone on without them."""
        return [point for point in self.points if not self.hides(point.seq)]


@dataclass(frozen=True, slots=True)
class Breach:
    """Where a log cannot be read on. state: as of the last entry that can be had. tail: number of the log's last one.

    epoch: the newest that is certain. unread: entries of which not even the epoch can be read: each may have begun a
    newer one. error: the first thing that is wrong.
    """

    state: MapState
    tail: int
    epoch: int
    unread: tuple[int, ...]
    error: Damaged


def fold(state: MapState, entry: Entry) -> None:
    """Advance `state` by one entry. Raises Damaged when the entry does not follow it; it is as it was then."""
    identity = entry.opened.header.identity
    if entry.follows != state.seq or entry.opened.header.prev != state.head:
        raise Damaged("the log's chain is broken here", subject=entry.opened.key)
    if identity.epoch != _epoch_after(state, entry):
        raise Damaged(f"epoch {identity.epoch} cannot follow epoch {state.epoch}", subject=entry.opened.key)
    if entry.kind in (Kind.COMMIT, Kind.MOVE):
        info = entry.meta.info
        for part in entry.parts:
            state.apply_runs(ObjectRef(identity.seq, part.number, part.digest), part.disks, part.runs)
        names = [name for name, _ in info["disks"]]
        state.apply_runs(ObjectRef(identity.seq, -1, entry.opened.digest), names, entry.meta.runs)
        state.set_disks(tuple(Disk(name, size) for name, size in info["disks"]))
    if entry.kind is Kind.COMMIT:
        info = entry.meta.info
        state.tracking = info["tracking"]
        state.definition = info.get("definition", state.definition)
        if "firmware" in info:
            state.firmware = firmware_of(info["firmware"])
        state.last_point = entry.point()
    if identity.passes:
        # Whoever goes on from here compares every block: that there is a tracking point of just this instant still
        # is possible, that somebody is wrong about it would be silent.
        state.tracking = ""
    state.epoch, state.seq, state.head = identity.epoch, identity.seq, entry.opened.digest


def _epoch_after(state: MapState, entry: Entry) -> int:
    """Of an epoch that passes over entries its own sequence number: every epoch takes an entry, so whatever could not
    be read there, none before can have come as far."""
    if entry.opened.header.identity.passes:
        return entry.seq
    return state.epoch + (entry.kind is Kind.EPOCH)
