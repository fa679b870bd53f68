"""Blocks and runs of blocks: the unit in which Leeward tracks, hashes and stores disks.

A *block* is 64 KiB of a disk; block *n* holds the bytes [n × 65536, (n + 1) × 65536). The last block of a disk
whose size is not a multiple of 64 KiB is padded with zeros in the vault and cut again on the way out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# 64 KiB is qcow2's default cluster and dirty-bitmap granularity: a finer unit would never see a smaller change.
BLOCK_SIZE = 65536

U64 = NDArray[np.uint64]
Bool = NDArray[np.bool_]


def block_count(size: int) -> int:
    """Number of blocks that a disk of `size` bytes occupies."""
    return -(-size // BLOCK_SIZE)


@dataclass(frozen=True, slots=True)
class Runs:
    """Disjoint runs of blocks of one disk, ascending by `start`; all three arrays have the same length.

    start: first block of each run. count: number of blocks (> 0). zero: the run reads as zeros.
    """

    start: U64
    count: U64
    zero: Bool

    @staticmethod
    def empty() -> Runs:
        return Runs(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.bool_))

    @staticmethod
    def of(*runs: tuple[int, int, bool]) -> Runs:
        """From (start, count, zero) triples that are already ascending and disjoint."""
        if not runs:
            return Runs.empty()
        start, count, zero = zip(*runs, strict=True)
        return Runs(np.array(start, np.uint64), np.array(count, np.uint64), np.array(zero, np.bool_))

    @staticmethod
    def where(chosen: Bool, zero: Bool | None = None) -> Runs:
        """Maximal runs of the chosen blocks that are equally zero or not. zero: None when none is."""
        kind = np.where(chosen, np.where(False if zero is None else zero, 2, 1), 0)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], kind, [0]))))
        starts, ends = edges[:-1], edges[1:]
        keep = kind[starts] > 0
        starts, ends = starts[keep], ends[keep]
        return Runs(starts.astype(np.uint64), (ends - starts).astype(np.uint64), kind[starts] == 2)

    def mask(self, blocks: int) -> Bool:
        """Which of the first `blocks` blocks are in a run, of data or of zeros."""
        steps = np.zeros(blocks + 1, np.int32)
        end = np.uint64(blocks)
        np.add.at(steps, np.minimum(self.start, end).astype(np.intp), 1)
        np.add.at(steps, np.minimum(self.start + self.count, end).astype(np.intp), -1)
        mask: Bool = np.cumsum(steps[:-1]) > 0
        return mask

    def __len__(self) -> int:
        return len(self.start)

    @property
    def blocks(self) -> int:
        """Blocks covered, zero runs included."""
        return int(self.count.sum())

    @property
    def data_blocks(self) -> int:
        """Blocks that may hold data (zero runs left out)."""
        return int(self.count[~self.zero].sum())

    def __iter__(self):  # type: ignore[no-untyped-def]
        return zip(self.start.tolist(), self.count.tolist(), self.zero.tolist(), strict=True)
