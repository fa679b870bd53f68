"""The copy of one cycle: read, hash, compare, and hand over to the vault's transaction, in parallel.

One dispatcher (the calling thread) keeps a few chunks under way in threads that all VMs share. Their queues are first
in, first out and every copy has only a handful of chunks in them, so VMs take turns chunk by chunk: a terabyte's
first copy does not hold up the neighbour's one-second cycle. Where the vault is slower than the copy, the dispatcher
waits (`PointTransaction.reserve`), and none of the threads that it shares with others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE, U64, Runs
from leeward.domain.vm import Disk
from leeward.ports.blocks import BlockReader
from leeward.replication.chunks import CHUNK_BLOCKS, Chunk, chunks, outside, views
from leeward.replication.limiter import Limiter
from leeward.replication.meter import Meter
from leeward.replication.pool import CopyPool
from leeward.vault.log import PointTransaction, Ticket

ZERO_HASH = blake3(bytes(BLOCK_SIZE)).digest()


class Frozen(Protocol):
    """The part of a hypervisor's cycle that the copy needs."""

    def changes(self, disk: str) -> Runs: ...

    def reader(self, disk: str) -> BlockReader: ...


@dataclass(frozen=True, slots=True)
class Mode:
    """compare: skip blocks whose hash the vault already has. full: what the source does not name reads as zeros."""

    compare: bool
    full: bool


class Stopped(Exception):
    """The copy was asked to stop; what is already in the vault stays for the next attempt."""


@dataclass(slots=True)
class _Context:
    """What the pool's threads need. Readers belong to (this copy, a thread); buffers, 1 MiB each, to a chunk at a
    time."""

    source: Frozen
    transaction: PointTransaction
    mode: Mode
    sizes: dict[str, int]
    local: threading.local
    readers: list[BlockReader]
    buffers: deque[memoryview]
    lock: threading.Lock


def copy_cycle(
    source: Frozen,
    transaction: PointTransaction,
    disks: Iterable[Disk],
    mode: Mode,
    pool: CopyPool,
    *,
    depth: int = 12,
    limiter: Limiter | None = None,
    start_meter: Callable[[int], Meter | None] = lambda total: None,
    stop: threading.Event | None = None,
) -> int:
    """Put everything that differs into `transaction` (not yet committed). Returns bytes of disk examined.

    depth: chunks under way at once, of at most ~3 MiB each; what is full and not sent yet comes on top of it. Raises
    Stopped when `stop` is set, or whatever the reader or the vault raised first; then no chunk is under way any more.
    """
    disks = list(disks)
    found = {disk.name: source.changes(disk.name) for disk in disks}
    total = sum(runs.data_blocks for runs in found.values()) * BLOCK_SIZE
    meter = start_meter(total)
    context = _Context(
        source, transaction, mode, {d.name: d.size for d in disks}, threading.local(), [], deque(), threading.Lock()
    )
    pending: deque[tuple[Chunk, Future[list[int]]]] = deque()
    sent = transaction.stored

    def settle() -> None:
        nonlocal sent
        chunk, future = pending.popleft()
        for block in future.result():
            transaction.zero(chunk.disk, block, 1)
        now = transaction.stored
        if meter:
            meter.advance(len(chunk.blocks) * BLOCK_SIZE, now)
        if limiter:
            limiter.spend(now - sent)
        sent = now

    try:
        for disk in disks:
            _zero_runs(transaction, disk.name, found[disk.name], mode)
            for chunk in chunks(disk.name, found[disk.name]):
                if stop and stop.is_set():
                    raise Stopped
                ticket = transaction.reserve()
                pending.append((chunk, _start(pool, context, chunk, ticket)))
                if len(pending) >= depth:
                    settle()
        while pending:
            settle()
    finally:
        # After an error nothing may go on reading from a cycle that the caller is about to abort.
        for _, future in pending:
            future.cancel()
        for _, future in pending:
            with suppress(Exception):
                if not future.cancelled():
                    future.exception()
        for reader in context.readers:
            reader.close()
    return total


def _zero_runs(transaction: PointTransaction, disk: str, runs: Runs, mode: Mode) -> None:
    """Hand over what is known to be zero without reading it."""
    if mode.full:
        for start, count in outside(runs, transaction.base_runs(disk)):
            transaction.zero(disk, start, count)
        return
    zeros = Runs(runs.start[runs.zero], runs.count[runs.zero], np.zeros(int(runs.zero.sum()), np.bool_))
    if not mode.compare:
        for start, count, _ in zeros:
            transaction.zero(disk, start, count)
        return
    # Of a superset, only what the vault does not have as zero yet counts as a change.
    stored = transaction.base_runs(disk)
    gone = outside(zeros, stored)
    kept = Runs.of(*((start, count, False) for start, count in gone))
    for start, count in outside(kept, stored):
        transaction.zero(disk, start, count)


def _start(pool: CopyPool, context: _Context, chunk: Chunk, ticket: Ticket) -> Future[list[int]]:
    """Have one chunk read and then packed. The result is there when both are over: the blocks that became zero.

    Packing is queued only after the read: a packer that waited for one VM's slow disk would hold up all others.
    """
    done: Future[list[int]] = Future()

    def read() -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            buffer = _read(context, chunk)
            pool.packers.submit(pack, buffer)
        except BaseException as error:
            done.set_exception(error)

    def pack(buffer: memoryview) -> None:
        try:
            zeros = _pack(context, chunk, ticket, buffer)
        except BaseException as error:
            done.set_exception(error)
        else:
            context.buffers.append(buffer)
            done.set_result(zeros)

    pool.readers.submit(read)
    return done


def _read(context: _Context, chunk: Chunk) -> memoryview:
    """One chunk in a buffer that is the caller's until it is given back."""
    local = context.local
    if not hasattr(local, "readers"):
        local.readers = {}
    reader = local.readers.get(chunk.disk)
    if reader is None:
        reader = local.readers[chunk.disk] = context.source.reader(chunk.disk)
        with context.lock:
            context.readers.append(reader)
    try:
        buffer = context.buffers.pop()
    except IndexError:
        buffer = memoryview(bytearray(CHUNK_BLOCKS * BLOCK_SIZE))
    reader.read_into(views(chunk, context.sizes[chunk.disk], buffer))
    return buffer


def _pack(context: _Context, chunk: Chunk, ticket: Ticket, buffer: memoryview) -> list[int]:
    """Hash, compare and hand over what differs. Returns the blocks that have become zero."""
    hashes = [
        blake3(buffer[at : at + BLOCK_SIZE]).digest() for at in range(0, len(chunk.blocks) * BLOCK_SIZE, BLOCK_SIZE)
    ]
    base = _base_hashes(context.transaction, chunk) if context.mode.compare else None
    zeros: list[int] = []
    keep: list[int] = []
    for index, digest in enumerate(hashes):
        if digest == ZERO_HASH:
            if base is None or base[index] is not None:
                zeros.append(int(chunk.blocks[index]))
        elif base is None or base[index] != digest:
            keep.append(index)
    _fill(context.transaction, ticket, chunk, keep, hashes, buffer)
    return zeros


def _base_hashes(transaction: PointTransaction, chunk: Chunk) -> list[bytes | None]:
    found: list[bytes | None] = []
    for start, count in chunk.pieces:
        found.extend(transaction.base_hashes(chunk.disk, start, count))
    return found


def _fill(
    transaction: PointTransaction,
    ticket: Ticket,
    chunk: Chunk,
    keep: list[int],
    hashes: list[bytes],
    buffer: memoryview,
) -> None:
    """Move the kept blocks together at the buffer's front and give them to the transaction."""
    for place, index in enumerate(keep):
        if place != index:
            source, target = index * BLOCK_SIZE, place * BLOCK_SIZE
            buffer[target : target + BLOCK_SIZE] = buffer[source : source + BLOCK_SIZE]
    blocks: U64 = chunk.blocks if len(keep) == len(chunk.blocks) else chunk.blocks[np.array(keep, np.intp)]
    transaction.fill(ticket, chunk.disk, blocks, buffer[: len(keep) * BLOCK_SIZE], [hashes[i] for i in keep])
