"""Reading a recovery point: its disks as random-access images, frame by frame out of the vault."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from leeward.domain.blocks import BLOCK_SIZE, U64, Runs
from leeward.domain.errors import LeewardError, StoreError
from leeward.domain.points import RecoveryPoint
from leeward.vault.hashes import BlockHashes
from leeward.vault.history import History
from leeward.vault.index import SHIFT, STREAM_MASK, DiskMap, MapState, ObjectRef
from leeward.vault.segment import Opened

# Parsed headers kept open; each costs some kilobytes.
_OPENED = 1024
# Adjacent frames fetched with one request at most.
_MERGE = 8

OnRead = Callable[[str, int, int], None]


class PointImage:
    """All disks of one recovery point. Thread-safe. `cache_bytes`: decoded frames kept."""

    def __init__(self, history: History, state: MapState, point: RecoveryPoint, cache_bytes: int) -> None:
        self.point = point
        self.definition = state.definition
        self.firmware = state.firmware
        self.tracking = state.tracking  # token of the tracking point that was made at the same instant
        self.on_read: OnRead | None = None
        self._state = state
        self._hashes = BlockHashes(history)
        self._frames = frames = FrameCache(history, state, cache_bytes)
        self.disks: dict[str, PointDisk] = {
            disk.name: PointDisk(self, disk.name, disk.size, state.maps[disk.name], frames) for disk in state.disks
        }

    @property
    def fetched(self) -> int:
        """Bytes of frames that were read from the vault for this image so far."""
        return self._frames.fetched

    def hashes(self, disk: str, start: int, count: int) -> list[bytes | None]:
        """BLAKE3 of each block, None where it reads as zero. Raises Damaged, StoreError."""
        return self._hashes.of(self._state.objects, self._state.maps[disk].locate(start, count))

    def differs_from(self, other: PointImage) -> dict[str, Runs]:
        """For each disk the blocks that may differ from another point of the same VM; what is zero here as zero runs.

        From the two maps alone, so a block that was only moved in the vault is named as well. Of a disk that the
        other point does not have, all its data.
        """
        mine, theirs = self._state, other._state
        numbers = theirs.objects.numbers_in(mine.objects)
        nothing = DiskMap()
        return {name: mine.maps[name].unlike(theirs.maps.get(name, nothing), numbers) for name in self.disks}

    def close(self) -> None:
        """Let go of the cache."""
        for disk in self.disks.values():
            disk.frames.clear()

    def __enter__(self) -> PointImage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PointDisk:
    """See `leeward.ports.blocks.DiskImage`."""

    def __init__(self, image: PointImage, name: str, size: int, blocks: DiskMap, frames: FrameCache) -> None:
        self._image = image
        self._map = blocks
        self.name = name
        self.size = size
        self.frames = frames

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{offset}+{length} is outside of disk {self.name} ({self.size} bytes)")
        if self._image.on_read:
            self._image.on_read(self.name, offset, length)
        if not length:
            return b""
        first, last = offset // BLOCK_SIZE, (offset + length - 1) // BLOCK_SIZE
        pieces = self.frames.blocks(self._map.locate(first, last - first + 1))
        if len(pieces) == 1:
            begin = offset - first * BLOCK_SIZE
            return bytes(pieces[0][begin : begin + length])
        pieces[0] = pieces[0][offset - first * BLOCK_SIZE :]
        end = offset + length - last * BLOCK_SIZE
        pieces[-1] = pieces[-1][:end]
        return b"".join(pieces)

    def allocation(self, offset: int, length: int) -> list[tuple[int, bool]]:
        first, last = offset // BLOCK_SIZE, (offset + length - 1) // BLOCK_SIZE
        used = self._map.locate(first, last - first + 1) != 0
        edges = np.flatnonzero(np.diff(used)) + 1
        spans = []
        at = offset
        for edge in [*edges.tolist(), len(used)]:
            end = min((first + edge) * BLOCK_SIZE, offset + length)
            spans.append((end - at, bool(used[edge - 1])))
            at = end
        return spans

    def prefetch(self, offset: int, length: int) -> None:
        length = min(length, self.size - offset)
        if length <= 0:
            return
        first, last = offset // BLOCK_SIZE, (offset + length - 1) // BLOCK_SIZE
        try:
            self.frames.blocks(self._map.locate(first, last - first + 1))
        except LeewardError:
            return  # the read that needs it will say so

    def runs(self) -> Runs:
        return self._map.runs()


_ZEROS = memoryview(bytes(BLOCK_SIZE))


class FrameCache:
    """Decoded frames by (object, frame). Two threads that want one frame fetch it once."""

    def __init__(self, history: History, state: MapState, limit: int) -> None:
        self._history = history
        self._state = state
        self._limit = limit
        self.fetched = 0
        self._lock = threading.Lock()
        self._opened: OrderedDict[int, Future[Opened]] = OrderedDict()
        self._frames: OrderedDict[tuple[int, int], Future[bytes]] = OrderedDict()
        self._bytes = 0

    def clear(self) -> None:
        with self._lock:
            self._frames.clear()
            self._opened.clear()
            self._bytes = 0

    def blocks(self, locations: U64) -> list[memoryview]:
        """The content of every location, 64 KiB each, in order. Raises Damaged, StoreError."""
        result: list[memoryview] = [_ZEROS] * len(locations)
        objects = locations >> SHIFT
        for number in np.unique(objects[locations != 0]).tolist():
            opened = self._open(number)
            places = np.flatnonzero(objects == number)
            stream = (locations[places] & STREAM_MASK).astype(np.uint64)
            frames = np.searchsorted(opened.first_block, stream, side="right") - 1
            if int(frames.max()) >= len(opened.header.frames):
                opened.frame_of(int(stream.max()))
            wanted = self._fetch(number, opened, np.unique(frames).tolist())
            for place, block, frame in zip(places.tolist(), stream.tolist(), frames.tolist(), strict=True):
                at = (block - int(opened.first_block[frame])) * BLOCK_SIZE
                result[place] = memoryview(wanted[frame])[at : at + BLOCK_SIZE]
        return result

    def _open(self, number: int) -> Opened:
        with self._lock:
            future = self._opened.get(number)
            mine = future is None
            if future is None:
                future = self._opened[number] = Future()
                while len(self._opened) > _OPENED:
                    self._opened.popitem(last=False)
            else:
                self._opened.move_to_end(number)
        if mine:
            try:
                future.set_result(self._open_object(self._state.objects[number]))
            except BaseException as error:
                with self._lock:
                    self._opened.pop(number, None)
                future.set_exception(error)
        return future.result()

    def _open_object(self, ref: ObjectRef) -> Opened:
        if ref.part >= 0:
            return self._history.open_part(ref.seq, ref.part, ref.digest)
        return self._history.open_log(ref.seq, ref.digest)

    def _fetch(self, number: int, opened: Opened, frames: list[int]) -> dict[int, bytes]:
        """frames: ascending. What is neither cached nor being fetched by another thread is fetched here."""
        waiting: dict[int, Future[bytes]] = {}
        mine: list[int] = []
        with self._lock:
            for frame in frames:
                future = self._frames.get((number, frame))
                if future is None:
                    future = self._frames[number, frame] = Future()
                    mine.append(frame)
                else:
                    self._frames.move_to_end((number, frame))
                waiting[frame] = future
        for first, count in _adjacent(mine):
            self._load(number, opened, first, count, waiting)
        return {frame: future.result() for frame, future in waiting.items()}

    def _load(self, number: int, opened: Opened, first: int, count: int, waiting: dict[int, Future[bytes]]) -> None:
        try:
            found = self._history.reader.frames(opened, first, count)
        except StoreError as error:
            self._fail(number, range(first, first + count), error, waiting)
        except LeewardError as error:
            # One damaged frame must not take its neighbours with it.
            if count == 1:
                self._fail(number, range(first, first + 1), error, waiting)
            else:
                for frame in range(first, first + count):
                    self._load(number, opened, frame, 1, waiting)
        except BaseException as error:
            self._fail(number, range(first, first + count), error, waiting)
            raise
        else:
            for frame, data in enumerate(found, first):
                waiting[frame].set_result(data)
            with self._lock:
                self.fetched += int(opened.offsets[first + count] - opened.offsets[first])
                self._bytes += sum(len(data) for data in found)
                for name in list(self._frames):
                    if self._bytes <= self._limit:
                        break
                    if self._frames[name].done():  # otherwise somebody is fetching it just now
                        self._bytes -= len(self._frames.pop(name).result())

    def _fail(self, number: int, frames: range, error: BaseException, waiting: dict[int, Future[bytes]]) -> None:
        with self._lock:
            for frame in frames:
                self._frames.pop((number, frame), None)
        for frame in frames:
            waiting[frame].set_exception(error)


def _adjacent(frames: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, count), at most _MERGE together."""
    found: list[tuple[int, int]] = []
    for frame in frames:
        if found and sum(found[-1]) == frame and found[-1][1] < _MERGE:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((frame, 1))
    return found
