"""A store that is opened when it is first needed: for whoever must work while it cannot be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from leeward.ports.objects import Buffer, ObjectInfo, ObjectStore


class LateStore:
    """open: raises StoreUnavailable while there is nothing to open; it is asked again with the next call."""

    def __init__(self, url: str, open_: Callable[[], ObjectStore]) -> None:
        self.url = url
        self._open = open_
        self._store: ObjectStore | None = None
        self._lock = threading.Lock()

    def _opened(self) -> ObjectStore:
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        self._opened().put(key, parts)

    def get(self, key: str) -> bytes:
        return self._opened().get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._opened().get_range(key, start, length)

    def size(self, key: str) -> int:
        return self._opened().size(key)

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._opened().scan(prefix, start_after)

    def folders(self, prefix: str) -> list[str]:
        return self._opened().folders(prefix)

    def delete(self, key: str) -> None:
        self._opened().delete(key)
