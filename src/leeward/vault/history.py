"""Reading a VM's log: its entries, its state at any of them, and its recovery points."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leeward.domain.errors import Damaged, ObjectNotFound
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency, Disk
from leeward.vault import checkpoint, keyspace
from leeward.vault.checkpoint import Checkpoint
from leeward.vault.format import Kind
from leeward.vault.index import MapState, ObjectRef
from leeward.vault.segment import Meta, ObjectReader, Opened, decrypt_all

# Requests under way at once when the log's tail is read: hides the distance to a cloud, bounds memory.
PARALLEL = 16


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
        )


def fold(state: MapState, entry: Entry) -> None:
    """Advance `state` by one entry. Raises Damaged when the entry does not follow it."""
    identity = entry.opened.header.identity
    if identity.seq != state.seq + 1 or entry.opened.header.prev != state.head:
        raise Damaged("the log's chain is broken here", subject=entry.opened.key)
    if entry.kind is Kind.COMMIT:
        info = entry.meta.info
        for part in entry.parts:
            state.apply_runs(ObjectRef(identity.seq, part.number, part.digest), part.disks, part.runs)
        names = [name for name, _ in info["disks"]]
        state.apply_runs(ObjectRef(identity.seq, -1, entry.opened.digest), names, entry.meta.runs)
        state.set_disks(tuple(Disk(name, size) for name, size in info["disks"]))
        state.tracking = info["tracking"]
        state.definition = info.get("definition", state.definition)
        state.last_point = entry.point()
    state.epoch, state.seq, state.head = identity.epoch, identity.seq, entry.opened.digest


class History:
    """The log of one VM, read-only. Every method looks at the store anew."""

    def __init__(self, reader: ObjectReader, vm_id: str) -> None:
        self.reader = reader
        self.vm_id = vm_id
        self.vm_uuid = uuid.UUID(vm_id)

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

    def part(self, seq: int, number: int, digest: bytes | None = None) -> Part:
        """digest: header hash that a commit names; None for a part of a dead attempt."""
        opened = self.open_part(seq, number, digest)
        return Part.of(opened, self.reader.meta(opened))

    def open_part(self, seq: int, number: int, digest: bytes | None) -> Opened:
        key = keyspace.part(self.vm_id, seq, number)
        try:
            return self.reader.open(key, digest)
        except ObjectNotFound:
            raise Damaged("a part that the log names is missing", subject=key) from None

    def seqs(self, after: int, upto: int | None) -> list[int]:
        """Numbers of the entries in (after, upto] that the store has. Raises Damaged for a gap."""
        found = []
        for info in self.reader.store.scan(f"vm/{self.vm_id}/log/", keyspace.log(self.vm_id, after)):
            seq = keyspace.number_of(info.key)
            if upto is not None and seq > upto:
                break
            found.append(seq)
        for expected, seq in enumerate(found, after + 1):
            if seq != expected:
                raise Damaged("a log entry is missing", subject=keyspace.log(self.vm_id, expected))
        if upto is not None and len(found) < upto - after:
            raise Damaged("a log entry is missing", subject=keyspace.log(self.vm_id, after + len(found) + 1))
        return found

    def entries(self, seqs: Iterable[int]) -> Iterator[Entry]:
        """In order, fetched in parallel."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            yield from pool.map(self.entry, seqs)

    def exists(self, seq: int) -> bool:
        """True when the store has a log entry of this number."""
        try:
            self.reader.store.size(keyspace.log(self.vm_id, seq))
        except ObjectNotFound:
            return False
        return True

    # --- state --------------------------------------------------------------------------------------

    def maps(self) -> list[int]:
        """Sequence numbers that have a map checkpoint, ascending."""
        infos = self.reader.store.scan(f"vm/{self.vm_id}/map/")
        return [keyspace.number_of(info.key) for info in infos]

    def checkpoint(self, seq: int) -> Checkpoint:
        """Raises Damaged, ObjectNotFound."""
        opened = self.reader.open(keyspace.map_(self.vm_id, seq))
        meta = self.reader.meta(opened)
        found = checkpoint.decode(seq, meta.info, decrypt_all(self.reader, opened))
        if found.state.head != opened.header.prev:
            raise Damaged("the map does not belong to its log entry", subject=opened.key)
        return found

    def state(self, upto: int | None = None) -> MapState:
        """The state as of log entry `upto` (None = the tail). Raises Damaged."""
        state = self._nearest(upto)
        seqs = self.seqs(state.seq, upto)
        for entry in self.entries(seqs):
            fold(state, entry)
        return state

    def _nearest(self, upto: int | None) -> MapState:
        """The newest map not after `upto` that can be read. A damaged one is passed over: the log has it all."""
        for seq in reversed(self.maps()):
            if upto is None or seq <= upto:
                try:
                    return self.checkpoint(seq).state
                except (Damaged, ObjectNotFound):
                    continue
        return MapState()

    # --- points -------------------------------------------------------------------------------------

    def points(self) -> list[RecoveryPoint]:
        """All committed points, ascending. Spans without a readable map are read from the log entries."""
        found: list[RecoveryPoint] = []
        covered = 0
        with ThreadPoolExecutor(PARALLEL) as pool:
            for loaded in pool.map(self._try_checkpoint, self.maps()):
                if loaded is None or loaded.state.seq <= covered:
                    continue
                if loaded.prev_map > covered:
                    found += self._points_between(covered, loaded.prev_map)
                found += [point for point in loaded.points if point.seq > covered]
                covered = loaded.state.seq
        return found + self._points_between(covered, None)

    def _try_checkpoint(self, seq: int) -> Checkpoint | None:
        try:
            return self.checkpoint(seq)
        except (Damaged, ObjectNotFound):
            return None

    def _points_between(self, after: int, upto: int | None) -> list[RecoveryPoint]:
        """From the entries themselves; a damaged one is left out here and named by `check`."""
        start = keyspace.log(self.vm_id, after)
        seqs = []
        for info in self.reader.store.scan(f"vm/{self.vm_id}/log/", start):
            seq = keyspace.number_of(info.key)
            if upto is not None and seq > upto:
                break
            seqs.append(seq)
        with ThreadPoolExecutor(PARALLEL) as pool:
            return [point for point in pool.map(self._try_point, seqs) if point is not None]

    def _try_point(self, seq: int) -> RecoveryPoint | None:
        try:
            entry = self.entry(seq, parts=False)
        except (Damaged, ObjectNotFound):
            return None
        return entry.point() if entry.kind is Kind.COMMIT else None
