"""Reading a VM's log: its entries, its state at any of them, and its recovery points."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from leeward.domain.errors import BadInput, Damaged, NotFound, ObjectNotFound
from leeward.domain.points import RecoveryPoint
from leeward.vault import checkpoint, keyspace
from leeward.vault.checkpoint import Checkpoint, Listing
from leeward.vault.folding import Breach, Entry, Part, Passed, Span, fold
from leeward.vault.format import Kind
from leeward.vault.horizon import Horizon
from leeward.vault.index import MapState
from leeward.vault.segment import Meta, ObjectReader, Opened, decrypt_from

# Requests under way at once when the log's tail is read: hides the distance to a cloud, bounds memory.
PARALLEL = 16
# Entries fetched ahead of the fold, which may be slower than a near store: a long log must not pile up in memory.
_AHEAD = 4 * PARALLEL

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class History:
    """The log of one VM, read-only. Every method looks at the store anew.

    vm_id: a UUID in any spelling; anything else raises BadInput.
    """

    def __init__(self, reader: ObjectReader, vm_id: str) -> None:
        try:
            self.vm_uuid = uuid.UUID(vm_id)
        except ValueError:
            raise BadInput("a VM is named by its UUID here", subject=vm_id) from None
        self.reader = reader
        # Objects stand under the one spelling that their headers give, or they would be refused when read.
        self.vm_id = str(self.vm_uuid)

    # --- entries ------------------------------------------------------------------------------------

    def entry(self, seq: int, *, parts: bool = True) -> Entry:
        """Raises ObjectNotFound, Damaged."""
        opened = self.reader.open(keyspace.log(self.vm_id, seq))
        meta = self.reader.meta(opened)
        named = meta.info.get("parts", []) if parts else []
        if not named:
            return Entry(opened, meta, ())
        with ThreadPoolExecutor(PARALLEL) as pool:
            found = tuple(pool.map(lambda part: self.part(seq, part[0], bytes.fromhex(part[1])), named))
        return Entry(opened, meta, found)

    def readable(self, seq: int) -> Entry | None:
        """Without its parts; None: there is none. Raises Damaged for one that listings leave out because it cannot be
        read."""
        with suppress(ObjectNotFound):
            return self.entry(seq, parts=False)
        return None

    def part(self, seq: int, number: int, digest: bytes | None = None) -> Part:
        """digest: header hash that a commit names; None for a part of a dead attempt."""
        opened = self.open_part(seq, number, digest)
        return Part.of(opened, self.reader.meta(opened))

    def open_log(self, seq: int, digest: bytes) -> Opened:
        """digest: header hash that a map names. Raises Damaged, also where it is missing."""
        key = keyspace.log(self.vm_id, seq)
        try:
            return self.reader.open(key, digest)
        except ObjectNotFound:
            raise Damaged("a log entry is missing", subject=key) from None

    def open_part(self, seq: int, number: int, digest: bytes | None) -> Opened:
        key = keyspace.part(self.vm_id, seq, number)
        try:
            return self.reader.open(key, digest)
        except ObjectNotFound:
            raise Damaged("a part that the log names is missing", subject=key) from None

    def listed(self, after: int, upto: int | None = None) -> list[int]:
        """Numbers of the entries in (after, upto] that the store shows, gaps and all."""
        found = []
        infos = self.reader.store.scan(f"vm/{self.vm_id}/log/", keyspace.log(self.vm_id, after))
        for seq, _ in keyspace.numbered(infos):
            if upto is not None and seq > upto:
                break
            found.append(seq)
        return found

    def entries(self, after: int, upto: int) -> Iterator[Entry | Damaged]:
        """Those in (after, upto], in order, fetched in parallel; in place of one that cannot be read, why."""
        # Every number, not those that a listing shows: a folder that is listed while entries are put may show a later
        # one and not the one before.
        return _in_order(self._try_entry, range(after + 1, upto + 1))

    def _try_entry(self, seq: int) -> Entry | Damaged:
        try:
            return self.entry(seq)
        except ObjectNotFound:
            return Damaged("a log entry is missing", subject=keyspace.log(self.vm_id, seq))
        except Damaged as error:
            return error

    def exists(self, seq: int) -> bool:
        """True when the store has a log entry of this number."""
        try:
            self.reader.store.size(keyspace.log(self.vm_id, seq))
        except ObjectNotFound:
            return False
        return True

    def tail(self) -> int:
        """Number of the log's last entry; 0 of an empty log. Lists no more than what came after the newest map."""
        newest = max(self.maps(), default=0)
        found = self.listed(newest, None)
        return found[-1] if found else newest

    def tail_epoch(self) -> int:
        """The epoch that the log's last entry was written in; 0 of an empty log."""
        tail = self.tail()
        return self.epoch_at(tail) if tail else 0

    def epoch_at(self, seq: int) -> int:
        """The epoch of a log entry: also by a map in its place, where it has been pruned or cannot be read. Raises
        ObjectNotFound or Damaged when neither tells."""
        try:
            return self.reader.open(keyspace.log(self.vm_id, seq)).header.identity.epoch
        except (ObjectNotFound, Damaged):
            with suppress(ObjectNotFound, Damaged):
                return self.reader.open(keyspace.map_(self.vm_id, seq)).header.identity.epoch
            raise

    def certain_epoch(self, seq: int) -> int | None:
        """As `epoch_at`; None where that cannot be read."""
        try:
            return self.epoch_at(seq)
        except (Damaged, ObjectNotFound):
            return None

    # --- state --------------------------------------------------------------------------------------

    def maps(self) -> dict[int, int]:
        """Sequence numbers that have a map checkpoint, ascending, and the maps' sizes in bytes."""
        infos = self.reader.store.scan(f"vm/{self.vm_id}/map/")
        return {seq: info.size for seq, info in keyspace.numbered(infos)}

    def checkpoint(self, seq: int) -> Checkpoint:
        """Raises Damaged, ObjectNotFound."""
        opened, meta = self._map(seq)
        return checkpoint.decode(seq, meta.info, decrypt_from(self.reader, opened, 0))

    def listing(self, seq: int) -> Listing:
        """The points of a map, without its map: of a large one only the end is fetched. Raises as `checkpoint`."""
        opened, meta = self._map(seq)
        at = checkpoint.points_start(meta.info)
        return checkpoint.decode_points(meta.info, decrypt_from(self.reader, opened, at))

    def _map(self, seq: int) -> tuple[Opened, Meta]:
        opened = self.reader.open(keyspace.map_(self.vm_id, seq))
        meta = self.reader.meta(opened)
        if bytes.fromhex(meta.info["head"]) != opened.header.prev:
            raise Damaged("the map does not belong to its log entry", subject=opened.key)
        return opened, meta

    def horizon(self) -> Horizon:
        """The newest one; of a log that was never pruned, one that hides nothing. Raises Damaged."""
        newest = max(
            (number for number, _ in keyspace.numbered(self.reader.store.scan(f"vm/{self.vm_id}/horizon/"))),
            default=0,
        )
        if not newest:
            return Horizon()
        opened = self.reader.open(keyspace.horizon(self.vm_id, newest))
        header = opened.header
        info = self.reader.meta(opened).info
        return Horizon.of(newest, header.identity.seq, header.identity.epoch, header.prev, info)

    def state(self, upto: int | None = None) -> MapState:
        """The state as of log entry `upto` (None = the tail).

        Raises Damaged, or NotFound when there is nothing at `upto`: not yet, or not any more.
        """
        while True:
            horizon = self.horizon()
            try:
                return self.state_in(horizon, upto)
            except (Damaged, ObjectNotFound):
                # What was just read may have been pruned meanwhile; then the newer horizon says so.
                if self.horizon().number == horizon.number:
                    raise

    def state_in(self, horizon: Horizon, upto: int | None = None, *, before_map: bool = False) -> MapState:
        """As `state`, as far as this horizon sees.

        before_map: start from an older map than one at `upto` itself, to see whether the log agrees with that map.
        """
        if upto is not None and upto < horizon.base:
            if not horizon.holds(upto):
                raise NotFound(f"there is nothing at {upto} any more", subject=self.vm_id, hint="It has been pruned")
            return self.checkpoint(upto).state
        if upto is not None and upto > horizon.base and not self.exists(upto):
            raise NotFound(f"there is nothing at {upto}", subject=self.vm_id)
        state, _, error = self._fold(horizon, upto, before_map)
        if error is not None:
            raise error
        return state

    def _fold(
        self, horizon: Horizon, upto: int | None, before_map: bool = False
    ) -> tuple[MapState, int, Damaged | None]:
        """→ the state at `upto` (None: the tail), the number of the last entry, and no error; or the last state that
        can be had on the way there, and the first thing that is wrong after it."""
        maps = self.maps()
        state = self._nearest(horizon, maps, upto if not before_map or upto is None else upto - 1)
        # A map that cannot be read tells as well that there was such an entry.
        last = upto if upto is not None else max([state.seq, *maps, *self.listed(state.seq)])
        error: Damaged | None = None
        for found in self.entries(state.seq, last):
            if isinstance(found, Damaged):
                error = error or found
                continue
            try:
                if found.opened.header.identity.passes:
                    # What it passes over may have been put back since, or a map of it: it goes on from before that.
                    state = state if state.seq == found.follows else self.state_in(horizon, found.follows)
                elif error is not None:
                    continue
                fold(state, found)
                error = None
            except Damaged as wrong:
                error = error or wrong
            except NotFound as pruned:
                error = error or Damaged(pruned.message, subject=found.opened.key)
        return state, last, error

    def breach(self) -> Breach | None:
        """Where the log cannot be read on; None: it can be, to its end. Raises Damaged when nothing of it can."""
        while True:
            horizon = self.horizon()
            state, last, error = self._fold(horizon, None)
            if error is None:
                return None
            if self.horizon().number == horizon.number:  # else it may be just what has been pruned meanwhile
                return self._breach(state, last, error)

    def _breach(self, state: MapState, last: int, error: Damaged) -> Breach:
        behind = range(state.seq + 1, last + 1)
        epochs = dict(zip(behind, _in_order(self.certain_epoch, behind), strict=True))
        unread = tuple(seq for seq, epoch in epochs.items() if epoch is None)
        return Breach(state, last, max([state.epoch, *(epoch or 0 for epoch in epochs.values())]), unread, error)

    def _nearest(self, horizon: Horizon, maps: Collection[int], upto: int | None) -> MapState:
        """The newest map not after `upto` that can be read. A damaged one is passed over: the log has it all."""
        for seq in sorted(maps, reverse=True):
            if horizon.base <= seq and (upto is None or seq <= upto):
                try:
                    return self.checkpoint(seq).state
                except (Damaged, ObjectNotFound):
                    continue
        if horizon.base:
            raise Damaged(
                "the map that the pruned log rests on cannot be read",
                subject=keyspace.map_(self.vm_id, horizon.base),
            )
        return MapState()

    # --- points -------------------------------------------------------------------------------------

    def points(self) -> list[RecoveryPoint]:
        """All that can be recovered, ascending, without those that the log has gone on without."""
        return self.span().shown()

    def span(self) -> Span:
        """The whole log's. Stretches without a readable map are read from the log entries."""
        horizon = self.horizon()
        found = Span(list(horizon.points))
        covered = horizon.base
        maps = [seq for seq in self.maps() if seq > covered]
        for seq, listing in zip(maps, _in_order(self._try_listing, maps), strict=True):
            if listing is None:
                continue
            if listing.prev_map > covered:
                self._span_into(found, covered, listing.prev_map)
                covered = listing.prev_map
            found.points.extend(point for point in listing.points if point.seq > covered)
            found.passed.extend(listing.passed)
            # These may have been put back since the map was made.
            for again in _in_order(self._try_outline, [seq for seq in listing.unread if seq > covered]):
                found.add(again)
            covered = seq
        self._span_into(found, covered, None)
        found.points.sort(key=lambda point: point.seq)
        return found

    def _try_listing(self, seq: int) -> Listing | None:
        try:
            return self.listing(seq)
        except (Damaged, ObjectNotFound):
            return None

    def span_between(self, after: int, upto: int | None) -> Span:
        """That of (after, upto], from the entries themselves; a damaged one is left out and named by `check`."""
        found = Span()
        self._span_into(found, after, upto)
        return found

    def _span_into(self, found: Span, after: int, upto: int | None) -> None:
        last = upto if upto is not None else max(self.listed(after), default=after)
        for one in _in_order(self._try_outline, range(after + 1, last + 1)):
            found.add(one)

    def _try_outline(self, seq: int) -> RecoveryPoint | Passed | int | None:
        try:
            entry = self.entry(seq, parts=False)
        except (Damaged, ObjectNotFound):
            return seq
        if entry.opened.header.identity.passes:
            return Passed(entry.follows, seq)
        return entry.point() if entry.kind is Kind.COMMIT else None


def _in_order(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """work(item) of every item, in order, done in parallel and only a little ahead of the consumer."""
    pending: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(PARALLEL) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
