"""A store that answers reads late: for benches and tests of what the distance to a vault costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from leeward.ports.objects import Buffer, ObjectInfo, ObjectStore

_PAGE = 1000  # keys a cloud returns per listing request


class DelayedStore:
    """`store` with delay_s added to every read request, and to every 1000 keys of a scan. Writes are not delayed."""

    def __init__(self, store: ObjectStore, delay_s: float, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store = store
        self._delay_s = delay_s
        self._sleep = sleep

    @property
    def url(self) -> str:
        return self._store.url

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        self._store.put(key, parts)

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def get(self, key: str) -> bytes:
        self._sleep(self._delay_s)
        return self._store.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._sleep(self._delay_s)
        return self._store.get_range(key, start, length)

    def size(self, key: str) -> int:
        self._sleep(self._delay_s)
        return self._store.size(key)

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._scan(self._store.scan(prefix, start_after))

    def _scan(self, found: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        self._sleep(self._delay_s)
        for count, info in enumerate(found, 1):
            yield info
            if count % _PAGE == 0:
                self._sleep(self._delay_s)

    def folders(self, prefix: str) -> list[str]:
        self._sleep(self._delay_s)
        return self._store.folders(prefix)
