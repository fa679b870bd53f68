"""One point in the making: frames filled by many threads, objects uploaded as they fill up, one commit at the end."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leeward.domain.blocks import U64, Runs
from leeward.domain.errors import Damaged, ObjectExists
from leeward.domain.points import Mark, RecoveryPoint
from leeward.domain.vm import Consistency, Disk, FirmwareState
from leeward.vault import keyspace
from leeward.vault.firmware import firmware_info
from leeward.vault.folding import Part
from leeward.vault.format import HASH_SIZE, OBJECT_FRAMES, Identity, Kind
from leeward.vault.hashes import BlockHashes
from leeward.vault.history import History
from leeward.vault.index import DiskMap, MapState, ObjectRef, run_rows
from leeward.vault.marks import mark_info
from leeward.vault.segment import EMPTY_FRAME, Frame, Meta, Sealer, header_hash

# Full objects of one point that wait for the store at once: two keep a line busy while one is being acknowledged.
_SENDING = 2


@dataclass(slots=True)
class _Draft:
    """One object being filled. Guarded by the transaction's lock except for the frames' own slots."""

    sealer: Sealer
    frames: list[Frame | None] = field(default_factory=list)
    blocks: list[tuple[str, U64] | None] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    filled: int = 0
    stored: int = 0
    closed: bool = False

    @property
    def complete(self) -> bool:
        return self.closed and self.filled == len(self.frames)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A reserved place for one frame."""

    draft: _Draft
    number: int


class PointTransaction:
    """See the module's head. One dispatcher calls reserve, zero, commit, abort; fill runs in any thread."""

    def __init__(
        self,
        history: History,
        state: MapState,
        put_entry: Callable[[list[bytes], Meta, PointTransaction], RecoveryPoint | None],
        *,
        time_ns: int,
        consistency: Consistency,
        disks: Sequence[Disk],
        definition: str,
        tracking: str,
        firmware: FirmwareState | None,
        compare: bool,
        kind: Kind = Kind.COMMIT,
        mark: Mark | None = None,
        sender: Executor | None = None,
    ) -> None:
        """firmware: None when it is not known; that of the point before is carried on then. mark: see `Mark`.

        kind: COMMIT, or MOVE when the content stays as it is and only lies elsewhere from then on.

        sender: puts full objects into the store while others are filled; None: whoever completes one puts it.
        """
        self.kind = kind
        self.history = history
        self.seq = state.seq + 1
        self.epoch = state.epoch
        self.time_ns = time_ns
        self.consistency = consistency
        self.disks = tuple(disks)
        self.definition = definition
        self.tracking = tracking
        self.firmware = state.firmware if firmware is None else firmware
        self.compare = compare
        self.mark = mark
        self._before = state
        self._base = state
        self._put_entry = put_entry
        self._names = [disk.name for disk in self.disks]
        self._lock = threading.Lock()
        self._sender = sender
        self._sending: deque[Future[None]] = deque()
        # All that are not in the store yet; the last one is being filled.
        self._drafts = [self._new_draft()]
        self._parts: list[Part] = []
        self._reused: list[Part] = []
        self._zeros: list[tuple[int, int, int, int]] = []
        self._hashes = BlockHashes(history, mending=True)
        self._uploaded = 0
        if compare:
            self._reuse_parts()

    # --- base ---------------------------------------------------------------------------------------

    def _reuse_parts(self) -> None:
        """Apply what a dead attempt at this point left in the vault. Order does not matter for correctness: the
        caller compares every block with the outcome."""
        history = self.history
        prefix = keyspace.parts(history.vm_id, self.seq)
        found = [keyspace.number_of(info.key) for info in history.reader.store.scan(prefix)]
        if not found:
            return
        self._base = self._before.copy()
        for number in found:
            try:
                part = history.part(self.seq, number)
            except Damaged:
                continue  # its blocks are sent again
            if set(part.disks) <= set(self._names):  # otherwise a disk has gone since
                self._base.apply_runs(ObjectRef(self.seq, number, part.digest), part.disks, part.runs)
                self._reused.append(part)
        self._base.set_disks(self.disks)

    def base_runs(self, disk: str) -> Runs:
        """Data of the disk in the base (parts of a dead attempt included when comparing)."""
        found = self._base.maps.get(disk)
        return found.runs() if found else Runs.empty()

    def base_hashes(self, disk: str, start: int, count: int) -> list[bytes | None]:
        """BLAKE3 of each block in the base, None where it reads as zero, b"" where it cannot be read.
        Thread-safe."""
        found: DiskMap | None = self._base.maps.get(disk)
        if found is None:
            return [None] * count
        return self._hashes.of(self._base.objects, found.locate(start, count))

    # --- filling ------------------------------------------------------------------------------------

    @property
    def stored(self) -> int:
        """Bytes uploaded by this transaction so far, and those encrypted but still in memory."""
        with self._lock:
            return self._uploaded + sum(draft.stored for draft in self._drafts)

    def reserve(self) -> Ticket:
        """A place for one frame. Waits while the store is too far behind; raises what befell an earlier object."""
        self._await_sent(_SENDING)
        ready = None
        with self._lock:
            draft = self._drafts[-1]
            if len(draft.frames) >= OBJECT_FRAMES:
                draft.closed = True
                ready = draft if draft.complete else None
                draft = self._new_draft()
                self._drafts.append(draft)
            draft.frames.append(None)
            draft.blocks.append(None)
            draft.hashes.append(b"")
            ticket = Ticket(draft, len(draft.frames) - 1)
        if ready is not None:
            self._send(ready)
        return ticket

    def fill(self, ticket: Ticket, disk: str, blocks: U64, data: memoryview, hashes: Sequence[bytes]) -> None:
        """Compress, encrypt and hash one frame. Whoever completes a closed object has it sent."""
        draft, frame = ticket.draft, EMPTY_FRAME
        if len(blocks):
            frame = draft.sealer.frame(ticket.number, data, len(blocks))
            draft.blocks[ticket.number] = (disk, blocks.copy())
            draft.hashes[ticket.number] = b"".join(hashes)
        draft.frames[ticket.number] = frame
        with self._lock:
            draft.filled += 1
            draft.stored += len(frame.ciphertext)
            complete = draft.complete
        if complete:
            self._send(draft)

    def zero(self, disk: str, start: int, count: int) -> None:
        index = self._names.index(disk)
        if self._zeros:
            last_disk, _, last_start, last_count = self._zeros[-1]
            if last_disk == index and last_start + last_count == start:
                self._zeros[-1] = (index, 1, last_start, last_count + count)
                return
        self._zeros.append((index, 1, start, count))

    def _new_draft(self) -> _Draft:
        history = self.history
        return _Draft(Sealer.make(history.reader.keys, history.vm_uuid, self.epoch, self.seq))

    def _send(self, draft: _Draft) -> None:
        if self._sender is None:
            self._upload(draft)
            return
        with self._lock:
            self._sending.append(self._sender.submit(self._upload, draft))

    def _await_sent(self, most: int) -> None:
        """Return when at most `most` objects are on their way to the store. Raises what befell one."""
        while True:
            with self._lock:
                if len(self._sending) <= most:
                    return
                oldest = self._sending.popleft()
            oldest.result()

    def _upload(self, draft: _Draft) -> None:
        """Put a full object as a part. Its number is random: no listing is needed to find a free one."""
        frames, rows, hashes = self._content(draft)
        if not rows:
            with self._lock:
                self._drafts.remove(draft)
            return
        meta = Meta({"disks": self._names}, run_rows(rows), hashes)
        for _ in range(8):
            number = secrets.randbelow(2**32 - 1) + 1
            identity = self._identity(Kind.PART, number)
            buffers, header = draft.sealer.seal(identity, bytes(HASH_SIZE), meta, frames)
            try:
                key = keyspace.part(self.history.vm_id, self.seq, number)
                self.history.reader.store.put(key, buffers)
            except ObjectExists:
                continue  # taken by a part of a dead attempt: one in four thousand million
            with self._lock:
                part = Part(number, header_hash(buffers[0]), header.total, self._names, meta.runs)
                self._parts.append(part)
                self._uploaded += header.total
                self._drafts.remove(draft)
            return
        raise ObjectExists("no free part number was found", subject=keyspace.parts(self.history.vm_id, self.seq))

    def _content(self, draft: _Draft) -> tuple[list[Frame], list[tuple[int, int, int, int]], bytes]:
        frames: list[Frame] = []
        rows: list[tuple[int, int, int, int]] = []
        hashes: list[bytes] = []
        for frame, owned, digests in zip(draft.frames, draft.blocks, draft.hashes, strict=True):
            if frame is None:
                raise AssertionError("a reserved frame was never filled")
            if owned is None:
                frames.append(EMPTY_FRAME)
                continue
            frames.append(frame)
            hashes.append(digests)
            disk = self._names.index(owned[0])
            for start, count in _runs(owned[1]):
                if rows and rows[-1][0] == disk and rows[-1][2] + rows[-1][3] == start:
                    rows[-1] = (disk, 0, rows[-1][2], rows[-1][3] + count)
                else:
                    rows.append((disk, 0, start, count))
        while frames and frames[-1] is EMPTY_FRAME:
            frames.pop()
        return frames, rows, b"".join(hashes)

    def _identity(self, kind: Kind, part: int) -> Identity:
        reader = self.history.reader
        return Identity(kind, reader.keys.vault_id, self.history.vm_uuid, self.epoch, self.seq, part, self.time_ns)

    # --- the end ------------------------------------------------------------------------------------

    def commit(self, *, keep_empty: bool = False) -> RecoveryPoint | None:
        """Put the commit object; from then on the point exists.

        Returns None, and writes nothing, when nothing changed and `keep_empty` is False. Raises Fenced when another
        writer's epoch has begun, StoreError otherwise; after StoreUnavailable the point may or may not exist.
        """
        self._await_sent(0)
        draft = self._drafts[-1]
        frames, rows, hashes = self._content(draft)
        before = self._before
        unchanged = not (rows or self._zeros or self._parts or self._reused)
        same = (before.disks, before.definition, before.firmware) == (self.disks, self.definition, self.firmware)
        if unchanged and same and not keep_empty and before.last_point is not None:
            return None
        info: dict[str, Any] = {
            "disks": [[disk.name, disk.size] for disk in self.disks],
            "consistency": self.consistency.value,
            "tracking": self.tracking,
            "parts": [[part.number, part.digest.hex()] for part in (*self._reused, *self._parts)],
            "stored": sum(part.total for part in self._parts),
            "compared": self.compare,
        }
        if before.definition != self.definition:
            info["definition"] = self.definition
        if before.firmware != self.firmware:
            info["firmware"] = firmware_info(self.firmware)
        if self.mark is not None:
            info["mark"] = mark_info(self.mark)
        # Zeros come first: in an object's runs the order counts, and a block is in at most one of the two anyway.
        meta = Meta(info, run_rows(self._zeros + rows), hashes)
        buffers, header = draft.sealer.seal(self._identity(self.kind, 0), before.head, meta, frames)
        point = self._put_entry(buffers, meta, self)
        with self._lock:
            self._drafts = [self._new_draft()]
            self._uploaded += header.total
        return point

    def abort(self) -> None:
        """Let go of what is in memory. Uploaded parts stay for a later attempt that compares; what is on its way to
        the store just now is waited for."""
        with self._lock:
            sending, self._sending = self._sending, deque()
        for one in sending:
            if not one.cancel():
                one.exception()
        with self._lock:
            self._drafts = [self._new_draft()]

    def part_entries(self) -> tuple[Part, ...]:
        """All parts that the commit names, in order."""
        return (*self._reused, *self._parts)


def _runs(blocks: U64) -> list[tuple[int, int]]:
    """Ascending block numbers as (start, count) runs."""
    breaks = np.flatnonzero(np.diff(blocks) != 1) + 1
    first = np.concatenate(([0], breaks))
    counts = np.diff(np.concatenate((first, [len(blocks)])))
    return list(zip(blocks[first].tolist(), counts.tolist(), strict=True))
