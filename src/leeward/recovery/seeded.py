"""A disk of a recovery point as an image on this host, made with what is here already.

Every block that an old image (the *seed*) still has as the point wants it, told by its hash, is taken from there, and
only the others come out of the vault. Every block is read back from the new image and its hash compared. So neither
the seed nor what was in the target before need be trusted: a write that was killed goes on with what it finds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE, Runs, block_count
from leeward.domain.errors import Damaged, HypervisorError
from leeward.hypervisors import extents, nbd
from leeward.logs import log
from leeward.recovery.images import ImageProcess
from leeward.replication.chunks import CHUNK_BLOCKS, Chunk, chunks, outside, views
from leeward.vault.log import PointImage

# The vault may be far away: with less under way the distance shows. Memory: twice as many chunks of 2 MiB.
_THREADS = 6
# Zeroed blocks up to this many are read to see that they are zero; for more the image is asked.
_READ_BACK = 1024
ZERO_HASH = blake3(bytes(BLOCK_SIZE)).digest()

# (bytes done, bytes in all, bytes read from the vault)
OnProgress = Callable[[int, int, int], None]


def ignore(done: int, total: int, fetched: int) -> None:
    """Progress that nobody wants."""


def fill(
    image: PointImage,
    disk: str,
    target: ImageProcess,
    *,
    seed: ImageProcess | None = None,
    blank: bool = False,
    only: Runs | None = None,
    progress: OnProgress = ignore,
) -> int:
    """Make `target` hold a disk of the point, byte for byte and durably. Returns the bytes that had to be written.

    target: of the disk's size, writable. seed: of any size. blank: the target is known to read as zeros. only: the
    blocks that may differ from the point; all others are not looked at. Raises Damaged, StoreError, HypervisorError.
    """
    runs = image.disks[disk].runs() if only is None else only
    filler = _Filler(image, disk, target, seed, blank)
    try:
        written = _zero(filler, _zeros(filler, runs, only is None))
        written += _copy(filler, runs, progress)
    finally:
        filler.close()
    target.flush()
    return written


def _zeros(filler: _Filler, runs: Runs, everything: bool) -> list[tuple[int, int]]:
    """(start, count) of blocks that are to be made zero."""
    if filler.blank:
        return []
    if not everything:
        return [(start, count) for start, count, zero in runs if zero]
    return outside(runs, _used(filler.target))


def _used(target: ImageProcess) -> Runs:
    """Blocks of an image that may hold anything but zeros."""
    with target.connect([nbd.ALLOCATION]) as connection:
        return extents.allocated(connection.size, connection.status()[nbd.ALLOCATION], zero_flag=nbd.ZERO)


def _zero(filler: _Filler, ranges: list[tuple[int, int]]) -> int:
    """Zero them and see that they are. Returns bytes."""
    if not ranges:
        return 0
    with filler.target.connect() as connection:
        for start, count in ranges:
            offset = start * BLOCK_SIZE
            connection.zero(min(count * BLOCK_SIZE, filler.size - offset), offset)
        blocks = sum(count for _, count in ranges)
        zero = _reads_zero(connection, filler.size, ranges) if blocks <= _READ_BACK else _holds_zero(filler, ranges)
    if not zero:
        raise HypervisorError("blocks that were zeroed do not read as zeros", subject=str(filler.target.image.path))
    return blocks * BLOCK_SIZE


def _reads_zero(connection: nbd.Nbd, size: int, ranges: list[tuple[int, int]]) -> bool:
    buffer = memoryview(bytearray(CHUNK_BLOCKS * BLOCK_SIZE))
    for chunk in chunks("", Runs.of(*((start, count, False) for start, count in ranges))):
        connection.read_into(views(chunk, size, buffer))
        if any(blake3(_block(buffer, index)).digest() != ZERO_HASH for index in range(len(chunk.blocks))):
            return False
    return True


def _holds_zero(filler: _Filler, ranges: list[tuple[int, int]]) -> bool:
    """From what the image itself says of its blocks: large ranges are not read."""
    blocks = block_count(filler.size)
    wanted = Runs.of(*((start, count, False) for start, count in ranges)).mask(blocks)
    return not bool((wanted & _used(filler.target).mask(blocks)).any())


def _copy(filler: _Filler, runs: Runs, progress: OnProgress) -> int:
    total = runs.data_blocks * BLOCK_SIZE
    done = written = 0
    pending: deque[tuple[int, Future[int]]] = deque()

    def settle() -> None:
        nonlocal done, written
        blocks, future = pending.popleft()
        written += future.result()
        done += blocks * BLOCK_SIZE
        progress(done, total, filler.image.fetched)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="seeded") as pool:
        try:
            for chunk in chunks(filler.disk, runs):
                pending.append((len(chunk.blocks), pool.submit(filler.bring, chunk)))
                if len(pending) >= 2 * _THREADS:
                    settle()
            while pending:
                settle()
        finally:
            for _, future in pending:
                future.cancel()
    progress(total, total, filler.image.fetched)
    return written


@dataclass(slots=True)
class _Tools:
    """What one thread works with. seed: None when there is none, or when it cannot be read."""

    target: nbd.Nbd
    seed: nbd.Nbd | None
    have: memoryview
    other: memoryview


class _Filler:
    """Brings chunks, in any thread."""

    def __init__(
        self, image: PointImage, disk: str, target: ImageProcess, seed: ImageProcess | None, blank: bool
    ) -> None:
        self.image = image
        self.disk = disk
        self.target = target
        self.blank = blank
        self.size = image.disks[disk].size
        if target.size != self.size:
            raise HypervisorError(
                f"the image has {target.size} bytes, not {self.size}", subject=str(target.image.path)
            )
        self._seed = seed
        self._local = threading.local()
        self._opened: list[nbd.Nbd] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    def bring(self, chunk: Chunk) -> int:
        """Make sure that the target holds the chunk. Returns the bytes written."""
        tools = self._tools()
        wanted = self._wanted(chunk)
        missing = list(range(len(chunk.blocks)))
        if not self.blank:
            tools.target.read_into(views(chunk, self.size, tools.have))
            missing = _unlike(tools.have, wanted, missing)
        written = missing
        if missing and tools.seed is not None:
            missing = self._from_seed(tools, chunk, wanted, missing)
        if missing:
            self._from_vault(tools.have, chunk, wanted, missing)
        self._write(tools, chunk, written)
        if _unlike(tools.have, wanted, written):
            raise HypervisorError(
                "what was written does not read back as it was written",
                subject=str(self.target.image.path),
                hint="The host's storage is at fault",
            )
        return len(written) * BLOCK_SIZE

    def _tools(self) -> _Tools:
        if not hasattr(self._local, "tools"):
            target = self._keep(self.target.connect())
            seed = self._keep(self._seed.connect()) if self._seed else None
            room = CHUNK_BLOCKS * BLOCK_SIZE
            self._local.tools = _Tools(target, seed, memoryview(bytearray(room)), memoryview(bytearray(room)))
        tools: _Tools = self._local.tools
        return tools

    def _keep(self, connection: nbd.Nbd) -> nbd.Nbd:
        with self._lock:
            self._opened.append(connection)
        return connection

    def _wanted(self, chunk: Chunk) -> list[bytes]:
        found: list[bytes] = []
        for start, count in chunk.pieces:
            found += [digest or ZERO_HASH for digest in self.image.hashes(self.disk, start, count)]
        return found

    def _from_seed(self, tools: _Tools, chunk: Chunk, wanted: list[bytes], missing: list[int]) -> list[int]:
        """Take over what the seed has; what is missing then. A seed that cannot be read is done without."""
        assert tools.seed is not None
        try:
            tools.seed.read_into(views(chunk, tools.seed.size, tools.other))
        except HypervisorError as error:
            log.warning("the old image cannot be read: its blocks come from the vault", error=str(error))
            tools.seed = None
            return missing
        left = _unlike(tools.other, wanted, missing)
        for index in set(missing) - set(left):
            _block(tools.have, index)[:] = _block(tools.other, index)
        return left

    def _from_vault(self, have: memoryview, chunk: Chunk, wanted: list[bytes], missing: list[int]) -> None:
        for index, count in _runs(chunk, missing):
            offset = int(chunk.blocks[index]) * BLOCK_SIZE
            length = min(count * BLOCK_SIZE, self.size - offset)
            data = self.image.disks[self.disk].read(offset, length)
            at = index * BLOCK_SIZE
            have[at : at + length] = data
            have[at + length : at + count * BLOCK_SIZE] = bytes(count * BLOCK_SIZE - length)
        wrong = _unlike(have, wanted, missing)
        if wrong:
            raise Damaged(
                f"block {chunk.blocks[wrong[0]]} of disk {self.disk} does not have the hash that the vault tells",
                subject=f"recovery point {self.image.point.id}",
            )

    def _write(self, tools: _Tools, chunk: Chunk, indices: list[int]) -> None:
        """Write, and read the same back into the buffer."""
        for index, count in _runs(chunk, indices):
            offset = int(chunk.blocks[index]) * BLOCK_SIZE
            length = min(count * BLOCK_SIZE, self.size - offset)
            view = tools.have[index * BLOCK_SIZE : index * BLOCK_SIZE + length]
            tools.target.pwrite(view, offset)
            tools.target.read_into([(offset, view)])


def _block(buffer: memoryview, index: int) -> memoryview:
    return buffer[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]


def _unlike(buffer: memoryview, wanted: list[bytes], indices: list[int]) -> list[int]:
    """Those of the blocks that do not have the wanted hash."""
    return [index for index in indices if blake3(_block(buffer, index)).digest() != wanted[index]]


def _runs(chunk: Chunk, indices: list[int]) -> list[tuple[int, int]]:
    """Indices of a chunk's blocks as (first, count) whose blocks follow each other on the disk."""
    found: list[tuple[int, int]] = []
    for index in indices:
        last = found[-1] if found else None
        if last and sum(last) == index and int(chunk.blocks[index]) == int(chunk.blocks[index - 1]) + 1:
            found[-1] = (last[0], last[1] + 1)
        else:
            found.append((index, 1))
    return found
