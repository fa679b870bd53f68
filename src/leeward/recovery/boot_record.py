"""What a VM reads when it boots: recorded at one boot, fetched ahead of the guest at the next.

With the vault a few milliseconds away a boot of a thousand small reads takes seconds longer than from a local disk.
The reads of one boot are nearly those of the last, so knowing them hides the distance.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from leeward.domain.blocks import BLOCK_SIZE
from leeward.ports.blocks import DiskImage

DOCUMENT = "boot"  # the vault's document kind
# 64 Ki blocks are 4 GiB of distinct reads; no boot needs that many, and a record must stay small.
_MAX_BLOCKS = 65536
_MAX_RUN = 16  # fetch at most a frame's worth with one call, so that many are under way at once


class BootRecorder:
    """Remembers each block's first read, in order. `note` is called for every read, from many threads."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], None] = {}
        self._lock = threading.Lock()
        self.done = False

    def note(self, disk: str, offset: int, length: int) -> None:
        if self.done or not length:
            return
        blocks = range(offset // BLOCK_SIZE, (offset + length - 1) // BLOCK_SIZE + 1)
        with self._lock:
            if len(self._seen) < _MAX_BLOCKS:
                for block in blocks:
                    self._seen.setdefault((disk, block))

    def document(self) -> dict[str, Any]:
        """JSON: {"runs": [[disk, first block, count], …]} in the order of first reads."""
        with self._lock:
            seen = list(self._seen)
        runs: list[list[Any]] = []
        for disk, block in seen:
            last = runs[-1] if runs else None
            if last and last[0] == disk and last[1] + last[2] == block and last[2] < _MAX_RUN:
                last[2] += 1
            else:
                runs.append([disk, block, 1])
        return {"runs": runs}


def read_ahead(
    document: Mapping[str, Any], disks: Mapping[str, DiskImage], budget: int, threads: int = 12
) -> ThreadPoolExecutor:
    """Begin to fetch what the record names, in its order, up to `budget` bytes. Shut the pool down to stop."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    for disk, block, count in document.get("runs", []):
        image = disks.get(disk)
        size = count * BLOCK_SIZE
        if image is None or block * BLOCK_SIZE >= image.size:
            continue
        budget -= size
        if budget < 0:
            break
        pool.submit(image.prefetch, block * BLOCK_SIZE, size)
    return pool
