"""The threads that all copies of a process share, a kind for each thing that a copy waits for.

Reading waits for the hypervisor's disk, packing for the cores, sending for the vault. With a thread for all three, a
store's fsync or a slow line left cores idle that had chunks to pack, and a read that waited left them idle too.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

# A copy makes as many connections to QEMU's NBD server as there are readers, and on four QEMU spends three times the
# CPU that it spends on two for the same reads.
_READERS = 2
_SENDERS = 3


@dataclass(frozen=True, slots=True)
class CopyPool:
    """readers: fetch chunks. packers: hash, compare, compress, encrypt. senders: put full objects into the vault."""

    readers: ThreadPoolExecutor
    packers: ThreadPoolExecutor
    senders: ThreadPoolExecutor

    @staticmethod
    def make(packers: int = 0) -> CopyPool:
        """packers: 0 takes one a core, since that is all that bounds them."""
        return CopyPool(
            ThreadPoolExecutor(_READERS, thread_name_prefix="copy-read"),
            ThreadPoolExecutor(packers or os.cpu_count() or 1, thread_name_prefix="copy-pack"),
            ThreadPoolExecutor(_SENDERS, thread_name_prefix="copy-send"),
        )

    def shutdown(self) -> None:
        """Returns when what is under way has ended; copies must have ended before."""
        for threads in (self.readers, self.packers, self.senders):
            threads.shutdown()

    def __enter__(self) -> CopyPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
