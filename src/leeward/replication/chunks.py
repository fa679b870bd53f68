"""Pure planning: which pieces of a disk are read together.

A *chunk* is what becomes one frame in the vault: up to 16 blocks (1 MiB) of one disk, in ascending order, not
necessarily adjacent, so that scattered small changes still compress together and cost few frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from leeward.domain.blocks import BLOCK_SIZE, U64, Runs

# The vault's frames hold at most 1 MiB of plain data (vault/FORMAT.md): a chunk fills exactly one.
CHUNK_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Chunk:
    """blocks: ascending block numbers (1 … 16). pieces: the same as adjacent (start, count) runs."""

    disk: str
    blocks: U64
    pieces: tuple[tuple[int, int], ...]


def chunks(disk: str, runs: Runs) -> Iterator[Chunk]:
    """The data runs (zero runs are left out) cut and gathered into chunks, ascending."""
    pieces: list[tuple[int, int]] = []
    room = CHUNK_BLOCKS
    for start, count, zero in runs:
        if zero:
            continue
        while count:
            take = min(count, room)
            pieces.append((start, take))
            start, count, room = start + take, count - take, room - take
            if room == 0:
                yield _chunk(disk, pieces)
                pieces, room = [], CHUNK_BLOCKS
    if pieces:
        yield _chunk(disk, pieces)


def _chunk(disk: str, pieces: list[tuple[int, int]]) -> Chunk:
    numbers = [np.arange(start, start + count, dtype=np.uint64) for start, count in pieces]
    return Chunk(disk, numbers[0] if len(numbers) == 1 else np.concatenate(numbers), tuple(pieces))


def views(chunk: Chunk, size: int, buffer: memoryview) -> list[tuple[int, memoryview]]:
    """(byte offset on disk, view into `buffer`) for every piece; what lies beyond `size` is zeroed in the buffer.

    buffer: at least 16 blocks long; the chunk's blocks lie in it one after the other.
    """
    result = []
    position = 0
    for start, count in chunk.pieces:
        offset, length = start * BLOCK_SIZE, count * BLOCK_SIZE
        inside = min(length, max(0, size - offset))
        if inside:
            result.append((offset, buffer[position : position + inside]))
        if inside < length:
            buffer[position + inside : position + length] = bytes(length - inside)
        position += length
    return result


def outside(data: Runs, of: Runs) -> list[tuple[int, int]]:
    """Blocks of `of` that are in no data run of `data`, as (start, count), ascending.

    Used by full reads: everything the source did not name reads as zeros there, so whatever the vault still has
    in those places must become zero.
    """
    result: list[tuple[int, int]] = []
    keep = data.start[~data.zero]
    ends = keep + data.count[~data.zero]
    for start, count, zero in of:
        if zero:
            continue
        at, end = start, start + count
        # First kept run that ends after `at`; the runs are ascending and disjoint.
        index = int(np.searchsorted(ends, np.uint64(at), side="right"))
        while at < end:
            if index == len(keep) or int(keep[index]) >= end:
                result.append((at, end - at))
                break
            if int(keep[index]) > at:
                result.append((at, int(keep[index]) - at))
            at = int(ends[index])
            index += 1
    return result
