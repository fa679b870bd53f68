"""The log of one VM: what the layers above the vault use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leeward.domain.errors import Damaged, NotFound, Unavailable
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency, FirmwareState
from leeward.vault import keyspace
from leeward.vault.compaction import compact
from leeward.vault.folding import Breach, Entry, Span
from leeward.vault.following import Since, grown, since
from leeward.vault.format import Kind
from leeward.vault.history import History
from leeward.vault.image import PointImage
from leeward.vault.reigning import Reign, certain, last_move, reign
from leeward.vault.segment import ObjectReader
from leeward.vault.transaction import PointTransaction, Ticket
from leeward.vault.writer import Consent, LogWriter

__all__ = [
    "Breach",
    "Consent",
    "LogWriter",
    "PointImage",
    "PointTransaction",
    "Reign",
    "Since",
    "Tail",
    "Ticket",
    "VmLog",
]


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a log. epoch: that reigns there; point: the newest one; tracking: the token that it carries."""

    epoch: int
    point: RecoveryPoint | None
    tracking: str

    def gap(self, point_id: str, token: str) -> str:
        """Why a machine made from this point cannot be replicated on by what changes in it, "" when it can.

        The point must be the newest and its epoch over. A former writer that still reigns may add points that carry
        the same token (a VM that is off keeps its tracking point), and nobody would see that they are missing.
        """
        if not token:
            return "the point carries no tracking token"
        if self.point is None or self.point.id != point_id or self.tracking != token:
            return "the point is not the newest"
        if self.epoch == self.point.epoch:
            return "the epoch in which the point was made is not over"
        return ""


class VmLog:
    """Points of one VM, and the way to write more. Errors: Damaged, StoreError."""

    def __init__(self, reader: ObjectReader, vm_id: str) -> None:
        self.vm_id = vm_id
        self._history = History(reader, vm_id)

    def points(self) -> list[RecoveryPoint]:
        """All committed points, ascending."""
        return self._history.points()

    def point(self, point_id: str) -> RecoveryPoint:
        """By id, or "latest". Raises NotFound, or Damaged for one that is there and cannot be read.

        Also of the newest: whoever is content with an older one has to say so.
        """
        span = self._history.span()
        points = span.shown()
        if point_id == "latest":
            newest = self._newest(points, span)
            if newest is not None:
                return newest
        for point in span.points:  # also one that the log has gone on without: what was put back can be had
            if point.id == point_id:
                return point
        if point_id.isdecimal():
            self._history.readable(int(point_id))
        hint = f"It has points {points[0].id} … {points[-1].id}" if points else "It has none yet"
        raise NotFound(f"there is no recovery point {point_id}", subject=self.vm_id, hint=hint)

    def _newest(self, points: list[RecoveryPoint], span: Span) -> RecoveryPoint | None:
        """Of these, or one that came after them and is not listed: the map that would have to list it was made while
        it could not be read. Raises Damaged when something came after them that cannot be read now."""
        newest = points[-1] if points else None
        try:
            after = newest.seq if newest else self._history.horizon().base  # every entry since has to be there
            for seq in range(after + 1, max(self._history.listed(after), default=after) + 1):
                entry = None if span.hides(seq) else self._present(seq)
                if entry is not None and entry.kind is Kind.COMMIT:
                    newest = entry.point()
            return newest
        except Damaged as error:
            raise self.newest_damaged(error) from error

    def _present(self, seq: int) -> Entry | None:
        """An entry that has to be there, since later ones are; None: it was pruned meanwhile. Raises Damaged."""
        entry = self._history.readable(seq)
        if entry is None and seq > self._history.horizon().base:
            raise Damaged("this log entry is missing", subject=keyspace.log(self.vm_id, seq))
        return entry

    def newest_damaged(self, error: Damaged) -> Damaged:
        """Of a log whose end cannot be read: what is wrong, and which point can be had all the same."""
        breach = self.breach()
        point = breach.state.last_point if breach is not None else None
        hint = f"The newest one that can be read is {point.id}: choose it by its id" if point else ""
        return Damaged(f"the newest recovery point is damaged: {error.message}", subject=error.subject, hint=hint)

    def breach(self) -> Breach | None:
        """Where this log cannot be read on; None: it can be, to its end. Raises Damaged when nothing of it can."""
        return self._history.breach()

    def choose(self, wanted: str) -> RecoveryPoint:
        """latest, app (the newest application-consistent one) or an id. Raises NotFound."""
        if wanted != "app":
            return self.point(wanted)
        for point in reversed(self.points()):
            if point.consistency is Consistency.APP:
                return point
        raise NotFound(
            "there is no application-consistent recovery point", subject=self.vm_id, hint="Use the newest one"
        )

    def tail(self) -> Tail:
        state = self._history.state()
        return Tail(state.epoch, state.last_point, state.tracking)

    def untracked(self, point_id: str, token: str) -> str:
        """As `Tail.gap`, also where the vault cannot be asked or its newest entries cannot be read."""
        try:
            return self.tail().gap(point_id, token)
        except (Unavailable, Damaged) as error:
            return f"whether the point is the newest is not known ({error})"

    def open_point(self, point_id: str, *, cache_bytes: int = 64 << 20) -> PointImage:
        """The disks of a point. Raises NotFound, or Damaged when the log up to it cannot be read."""
        if point_id == "latest":
            state = self._history.state()
            if state.last_point is None:
                raise NotFound("there is no recovery point yet", subject=self.vm_id)
            return PointImage(self._history, state, state.last_point, cache_bytes)
        if not point_id.isdecimal():
            raise NotFound(f"there is no recovery point {point_id}", subject=self.vm_id)
        try:
            state = self._history.state(int(point_id))
        except NotFound:
            return self._missing(point_id)
        if state.last_point is None or state.last_point.id != str(int(point_id)):
            return self._missing(point_id)
        return PointImage(self._history, state, state.last_point, cache_bytes)

    def _missing(self, point_id: str) -> PointImage:
        self.point(point_id)
        raise NotFound(f"there is no recovery point {point_id}", subject=self.vm_id)

    def grown(self, seq: int) -> bool:
        """Whether the log may have anything after entry `seq`. Two small requests."""
        return grown(self._history, seq)

    def since(self, point_id: str, time_ns: int, definition: str, firmware: FirmwareState) -> Since | None:
        """What came after a point; see `leeward.vault.following.since`."""
        return since(self._history, int(point_id), time_ns, definition, firmware)

    def compact(self, writer: LogWriter, budget: int) -> int:
        """One slice of compaction with this log's writer; see `leeward.vault.compaction.compact`."""
        return compact(self._history, writer, budget)

    def open_writer(
        self, *, writer: str, new_epoch: bool = False, reason: str = "", expect_epoch: int | None = None
    ) -> LogWriter:
        """The writer at the tail.

        new_epoch, or an empty log: an epoch entry is put, which fences every other writer for good. expect_epoch:
        the epoch in which this writer reigned; raises Fenced when the log's newest is another.
        """
        return LogWriter.open(
            self._history, writer=writer, new_epoch=new_epoch, reason=reason, expect_epoch=expect_epoch
        )

    def take_epoch(self, claim: int, info: dict[str, Any], consent: Consent | None = None) -> LogWriter:
        """Begin the epoch after `claim`, which fences the writer of epoch `claim` for good.

        claim: the epoch that whoever allows this has seen; 0 of an empty log. info: who begins it and why (writer,
        reason, …), plain JSON, alike for every try of one and the same taking: a try that began the epoch and died is
        recognized by it. consent: to go on from an older point where the log cannot be read to its end. Raises Fenced
        when the log is in any other epoch; Damaged without consent, or when more is damaged than that is for.
        """
        return LogWriter.take(self._history, claim, info, consent)

    def epoch(self) -> int:
        """The newest epoch; 0 of an empty log. Cheaper than `reign`."""
        return self._history.tail_epoch()

    def begun(self) -> bool:
        """Whether there is anything in this log, readable or not."""
        return self._history.tail() > 0

    def reign(self) -> Reign | None:
        """Who writes this log now; None of an empty log."""
        return reign(self._history)

    def certain(self) -> tuple[Reign | None, Reign | None]:
        """`reign` and `last_move` as of when the log could still be read; None for what cannot be told."""
        return certain(self._history)

    def last_move(self, passing: Callable[[Reign], bool] = lambda found: False) -> Reign | None:
        """The epoch in which the VM came to where it runs; None: it never moved. passing: moves to pass over."""
        return last_move(self._history, passing)
