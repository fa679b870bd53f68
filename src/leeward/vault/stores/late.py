"""A store that is opened when it is first needed, and opened anew when how to open it has changed: for whoever must
work while it cannot be, and outlives credentials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from leeward.ports.objects import Buffer, ObjectInfo, ObjectStore


class LateStore:
    """open_: raises StoreUnavailable while there is nothing to open; it is asked again with the next call. It gets
    the store that was opened before, None at first, and may give that back. stamp: of how it is opened; asked before
    each call, so it must be quick. None: nothing says any more how, and what is open stays."""

    def __init__(
        self,
        url: Callable[[], str],
        open_: Callable[[ObjectStore | None], ObjectStore],
        stamp: Callable[[], object] = lambda: None,
    ) -> None:
        self._url = url
        self._open = open_
        self._stamp = stamp
        self._opened_at: object = None
        self._store: ObjectStore | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._url()

    def _opened(self) -> ObjectStore:
        with self._lock:
            stamp = self._stamp()
            if self._store is None or stamp not in (None, self._opened_at):
                self._store, self._opened_at = self._open(self._store), stamp
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
