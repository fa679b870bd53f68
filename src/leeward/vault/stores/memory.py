"""A store in this process's memory: for tests, and as the plainest statement of what the port promises."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from threading import Lock

from leeward.domain.errors import ObjectExists, ObjectNotFound
from leeward.ports.objects import Buffer, ObjectInfo
from leeward.vault.stores.keys import check_folder, check_key, check_prefix, check_range

_PAGE = 1000


class MemoryStore:
    """Objects in a dict. Durable only as long as the process lives."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._objects: dict[str, bytes] = {}
        self._keys: list[str] = []  # sorted
        self._lock = Lock()

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        check_key(key)
        content = b"".join(parts)
        with self._lock:
            if key in self._objects:
                raise ObjectExists("the object exists already", subject=key)
            self._objects[key] = content
            insort(self._keys, key)

    def get(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise ObjectNotFound("there is no such object", subject=key) from None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        return self.get(key)[start : start + length]

    def size(self, key: str) -> int:
        return len(self.get(key))

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._scan(check_prefix(prefix), start_after)

    def _scan(self, prefix: str, last: str) -> Iterator[ObjectInfo]:
        # Page by page, so that a long scan neither blocks writers nor breaks when keys come and go meanwhile.
        while page := self._page(prefix, last):
            yield from page
            last = page[-1].key

    def _page(self, prefix: str, last: str) -> list[ObjectInfo]:
        with self._lock:
            first = max(bisect_right(self._keys, last), bisect_left(self._keys, prefix))
            keys = self._keys[first : first + _PAGE]
            return [ObjectInfo(key, len(self._objects[key])) for key in keys if key.startswith(prefix)]

    def folders(self, prefix: str) -> list[str]:
        check_folder(prefix)
        with self._lock:
            rests = [key[len(prefix) :] for key in self._keys if key.startswith(prefix)]
        return sorted({rest.split("/", 1)[0] for rest in rests if "/" in rest})

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
