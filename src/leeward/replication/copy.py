"""The copy of one cycle: read, hash, compare, and hand over to the vault's transaction, in parallel.

One dispatcher (the calling thread) keeps a few chunks under way in a pool that all VMs share. The pool's queue is
first in, first out and every copy has only a handful of chunks in it, so VMs take turns chunk by chunk: a terabyte's
first copy does not hold up the neighbour's one-second cycle.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
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
from leeward.vault.log import PointTransaction, Ticket

ZERO_HASH = blake3(bytes(BLOCK_SIZE)).digest()


def copy_pool(workers: int = 0) -> ThreadPoolExecutor:
    """The pool that all copies of a process share. workers: 0 takes one more than there are cores.

    Copying is bound by the cores (hashing, compressing) except while a read or an upload waits. More threads than
    that cost time: QEMU's NBD server spends three times the CPU on four connections that it spends on two.
    """
    return ThreadPoolExecutor(workers or (os.cpu_count() or 1) + 1, thread_name_prefix="copy")


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
    """What the pool's threads need; readers and buffers belong to (this copy, a thread)."""

    source: Frozen
    transaction: PointTransaction
    mode: Mode
    sizes: dict[str, int]
    local: threading.local
    readers: list[BlockReader]
    lock: threading.Lock


def copy_cycle(
    source: Frozen,
    transaction: PointTransaction,
    disks: Iterable[Disk],
    mode: Mode,
    pool: ThreadPoolExecutor,
    *,
    depth: int = 8,
    limiter: Limiter | None = None,
    start_meter: Callable[[int], Meter | None] = lambda total: None,
    stop: threading.Event | None = None,
) -> int:
    """Put everything that differs into `transaction` (not yet committed). Returns bytes of disk examined.

    depth: chunks under way at once; bounds memory to depth × ~3 MiB. Raises Stopped when `stop` is set, or whatever
    the reader or the vault raised first; then no chunk is under way any more.
    """
    disks = list(disks)
    found = {disk.name: source.changes(disk.name) for disk in disks}
    total = sum(runs.data_blocks for runs in found.values()) * BLOCK_SIZE
    meter = start_meter(total)
    context = _Context(
        source, transaction, mode, {d.name: d.size for d in disks}, threading.local(), [], threading.Lock()
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
                pending.append((chunk, pool.submit(_work, context, chunk, ticket)))
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


def _work(context: _Context, chunk: Chunk, ticket: Ticket) -> list[int]:
    """One chunk in a pool thread. Returns the blocks that have become zero."""
    local = context.local
    if not hasattr(local, "buffer"):
        local.buffer = memoryview(bytearray(CHUNK_BLOCKS * BLOCK_SIZE))
        local.readers = {}
    reader = local.readers.get(chunk.disk)
    if reader is None:
        reader = local.readers[chunk.disk] = context.source.reader(chunk.disk)
        with context.lock:
            context.readers.append(reader)
    buffer: memoryview = local.buffer
    reader.read_into(views(chunk, context.sizes[chunk.disk], buffer))
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
