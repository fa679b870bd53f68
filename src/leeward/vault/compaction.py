"""Compaction: what is still needed of old, mostly dead objects moves into new ones at the log's tail.

A MOVE entry changes where blocks lie and nothing else: no content, no recovery point. The old objects stay for the
points before it; when these have left the retention window, pruning finds the objects unreferenced and deletes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import Damaged
from leeward.vault.format import FRAME_BLOCKS
from leeward.vault.history import History
from leeward.vault.image import FrameCache
from leeward.vault.index import SHIFT, MapState
from leeward.vault.transaction import PointTransaction
from leeward.vault.writer import LogWriter

# An object is worth emptying when no more than this share of its blocks is still in use.
_EMPTY = 0.5
# Below this many dead blocks (64 MiB), or this share of all that is in use, the space is not worth the traffic.
_LEAST_DEAD, _LEAST_SHARE = 1024, 0.2
_CACHE = 32 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """Per object number (0 unused): blocks that the current state still needs, and blocks that it holds."""

    live: NDArray[np.int64]
    total: NDArray[np.int64]

    @staticmethod
    def of(state: MapState) -> Usage:
        live = np.zeros(len(state.objects) + 1, np.int64)
        for disk in state.maps.values():
            for page in disk.pages():
                live += np.bincount((page >> SHIFT).astype(np.int64), minlength=len(live))
        live[0] = 0
        total = np.array([0, *(ref.blocks for ref in state.objects)], np.int64)
        return Usage(live, total)


def victims(state: MapState, upto: int, budget: int) -> list[int]:
    """Object numbers worth emptying now, the emptiest first; together at most `budget` blocks in use (but one).

    upto: only objects made up to this entry: younger ones may still be needed by points that are kept anyway. Pure.
    """
    usage = Usage.of(state)
    old = np.array([False, *(ref.seq <= upto for ref in state.objects)])
    sparse = old & (usage.live > 0) & (usage.live <= usage.total * _EMPTY)
    dead = int((usage.total - usage.live)[sparse].sum())
    if dead < max(_LEAST_DEAD, int(usage.live.sum() * _LEAST_SHARE)):
        return []
    numbers = np.flatnonzero(sparse)
    order = np.argsort(usage.live[numbers] / usage.total[numbers], kind="stable")
    chosen: list[int] = []
    for number in numbers[order].tolist():
        budget -= int(usage.live[number])
        if chosen and budget < 0:
            break
        chosen.append(number)
    return chosen


def move(history: History, writer: LogWriter, objects: list[int]) -> int:
    """Put what is in use of these objects at the tail. Returns blocks moved.

    Raises Fenced, StoreError as a commit does; Damaged when a block does not have the content it was stored with.
    """
    state = writer.state
    transaction = writer.begin_move()
    cache = FrameCache(history, state, _CACHE)
    moved = 0
    try:
        for name, disk in state.maps.items():
            blocks = disk.inside(objects)
            for at in range(0, len(blocks), FRAME_BLOCKS):
                some = blocks[at : at + FRAME_BLOCKS]
                found = cache.blocks(np.concatenate([disk.locate(int(block), 1) for block in some]))
                hashes = [blake3(data).digest() for data in found]
                _compare(transaction, name, some.tolist(), hashes)
                joined = memoryview(b"".join(found))
                assert len(joined) == len(some) * BLOCK_SIZE
                transaction.fill(transaction.reserve(), name, some, joined, hashes)
                moved += len(some)
        transaction.commit(keep_empty=True)
    except BaseException:
        transaction.abort()
        raise
    return moved


def _compare(transaction: PointTransaction, disk: str, blocks: list[int], hashes: list[bytes]) -> None:
    for block, digest in zip(blocks, hashes, strict=True):
        if transaction.base_hashes(disk, block, 1) != [digest]:
            raise Damaged(f"block {block} of {disk} is not what was stored", subject=transaction.history.vm_id)


def compact(history: History, writer: LogWriter, budget: int) -> int:
    """One slice of at most about `budget` blocks, if it is worth it. Returns blocks moved; 0: nothing to do."""
    base = history.horizon().base
    chosen = victims(writer.state, base, budget) if base else []
    return move(history, writer, chosen) if chosen else 0
