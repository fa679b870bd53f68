"""Port: random-access readers of one disk at one instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from leeward.domain.blocks import Runs


class BlockReader(Protocol):
    """Reads one frozen disk. One reader belongs to one thread; open several for parallel reading."""

    def read_into(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each view from its byte offset; requests may be in flight together. Within the disk's size."""

    def close(self) -> None: ...


class DiskImage(Protocol):
    """One disk of a recovery point, as read from the vault; safe for use from many threads."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; the range must lie inside the disk. Raises StoreError or Damaged."""

    def allocation(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """(length in bytes, is_data) spans that cover exactly the range, adjacent spans of one kind merged."""

    def prefetch(self, offset: int, length: int) -> None:
        """Bring what covers the range into the cache; errors are swallowed (the later read reports them)."""

    def runs(self) -> Runs:
        """All data runs of the disk (zero runs left out)."""
