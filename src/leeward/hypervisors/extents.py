"""Pure arithmetic on what a block server says of a disk: from bytes and flags to runs of 64 KiB blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leeward.domain.blocks import BLOCK_SIZE, Bool, Runs, block_count

Rows = NDArray[np.uint64]  # (start, length, flags), bytes, ascending, disjoint


def _touched(rows: Rows, wanted: Bool, blocks: int) -> Bool:
    """Blocks of which any byte lies in a wanted row."""
    size = np.uint64(BLOCK_SIZE)
    first = rows[wanted, 0] // size
    last = (rows[wanted, 0] + rows[wanted, 1] + size - np.uint64(1)) // size
    # Difference array: +1 where a row begins, -1 where it ends.
    steps = np.zeros(blocks + 1, np.int32)
    np.add.at(steps, np.minimum(first, np.uint64(blocks)).astype(np.intp), 1)
    np.add.at(steps, np.minimum(last, np.uint64(blocks)).astype(np.intp), -1)
    return np.cumsum(steps[:-1]) > 0


def changed(size: int, dirty: Rows, allocation: Rows, *, dirty_flag: int, zero_flag: int) -> Runs:
    """Dirty blocks; those that read as zero throughout are zero runs (never left out).

    size: of the disk in bytes. A block is dirty when any byte of it is, and zero when all its bytes are.
    """
    blocks = block_count(size)
    touched = _touched(dirty, (dirty[:, 2] & np.uint64(dirty_flag)) != 0, blocks)
    zero = ~_touched(allocation, (allocation[:, 2] & np.uint64(zero_flag)) == 0, blocks)
    return Runs.where(touched, zero)


def allocated(size: int, allocation: Rows, *, zero_flag: int) -> Runs:
    """Blocks that may hold data, for a full read; all others read as zeros."""
    blocks = block_count(size)
    data = _touched(allocation, (allocation[:, 2] & np.uint64(zero_flag)) == 0, blocks)
    return Runs.where(data)
