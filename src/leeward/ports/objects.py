"""Port: an object store, the only thing the vault is built on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, order=True)
class ObjectInfo:
    """key; size in bytes. Ordered by key."""

    key: str
    size: int


class ObjectStore(Protocol):
    """Immutable objects under slash-separated keys: segments of `[a-z0-9._-]`, at most 200 characters each and 900 in
    all, that neither begin nor end with a dot. No key is another key's folder. Other keys raise StoreError.

    Every method blocks, may be called from any thread, and raises only `StoreError`s (leeward.domain.errors):
    ObjectNotFound, ObjectExists, StoreUnavailable (worth a retry), StoreFull, StoreReadOnly, or plain StoreError.

    Guarantees on which the vault's correctness rests:
    - `put` creates and never overwrites: of many concurrent puts of one key exactly one returns, the others raise
      ObjectExists. When it returns the object is durable (it survives power loss) and whole; a put that was killed
      or failed leaves either the whole object or nothing visible.
    - After a put returned, every later `get`, `size` and `scan` from anywhere sees it (strong read-after-write).
    - After StoreUnavailable from a put, the object may or may not exist.
    """

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """Create the object `key` from the concatenation of `parts`."""

    def get(self, key: str) -> bytes: ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes [start, start + length); shorter where the object ends first (b"" when it ends before start)."""

    def size(self, key: str) -> int: ...

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with `prefix` and is > `start_after`, ascending by key (bytewise)."""

    def folders(self, prefix: str) -> list[str]:
        """The distinct next key segments below `prefix` (which ends in "/") that have objects below them, sorted."""

    def delete(self, key: str) -> None:
        """Remove the object; silently nothing when it does not exist. Raises ObjectRetained where the store keeps it
        for a time: it is there still then."""

    @property
    def url(self) -> str:
        """Address for people, without secrets."""
