"""A store that tries again for a while when the store beneath it does not answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from leeward.domain.errors import ObjectExists, ObjectNotFound, StoreUnavailable
from leeward.ports.objects import Buffer, ObjectInfo, ObjectStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """deadline_s: no attempt begins later than this after the first. Pauses: random between 0 and
    first_s * 2**n, never above longest_s ("full jitter", so that many clients do not come back in step)."""

    deadline_s: float = 60.0
    first_s: float = 0.2
    longest_s: float = 10.0

    def pause(self, failures: int, share: float) -> float:
        """Seconds to wait after the n-th failure in a row (from 1); share: random in [0, 1)."""
        # The exponent is bounded: 2.0**n overflows for a store that stays away for days of tries.
        return share * min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))


class RetryingStore:
    """Every call of `store`, repeated after StoreUnavailable until the deadline; then that error is raised.

    A put whose earlier attempt ended unknown may find the object of that attempt: when the stored object is the one
    we wanted to write, the put has succeeded. (Two writers with the very same content are both told so; whoever must
    be told apart writes something of his own into the object, as log entries do with their salt.)
    sleep, clock and share (random in [0, 1)) are for tests and for callers that want to interrupt a pause.
    """

    def __init__(
        self,
        store: ObjectStore,
        backoff: Backoff | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._clock = clock
        self._share = share

    @property
    def url(self) -> str:
        return self._store.url

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        unknown = False

        def attempt() -> None:
            nonlocal unknown
            try:
                self._store.put(key, parts)
            except StoreUnavailable:
                unknown = True
                raise
            except ObjectExists:
                if not (unknown and self._is_stored(key, parts)):
                    raise

        self._repeat(attempt)

    def _is_stored(self, key: str, parts: Sequence[Buffer]) -> bool:
        try:
            if self._store.size(key) != sum(memoryview(part).nbytes for part in parts):
                return False
            stored = memoryview(self._store.get(key))
        except ObjectNotFound as gone:  # deleted since it was in the way
            raise StoreUnavailable("the object came and went while it was written", subject=key) from gone
        for part in parts:
            view = memoryview(part).cast("B")
            if stored[: len(view)] != view:
                return False
            stored = stored[len(view) :]
        return not stored

    def get(self, key: str) -> bytes:
        return self._repeat(lambda: self._store.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._repeat(lambda: self._store.get_range(key, start, length))

    def size(self, key: str) -> int:
        return self._repeat(lambda: self._store.size(key))

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        found = self._store.scan(prefix, start_after)
        return self._scan(found, prefix, start_after)

    def _scan(self, found: Iterator[ObjectInfo], prefix: str, last: str) -> Iterator[ObjectInfo]:
        def attempt() -> ObjectInfo | None:
            nonlocal found
            try:
                return next(found, None)
            except StoreUnavailable:
                found = self._store.scan(prefix, last)  # go on behind what was given out already
                raise

        while (info := self._repeat(attempt)) is not None:
            last = info.key
            yield info

    def folders(self, prefix: str) -> list[str]:
        return self._repeat(lambda: self._store.folders(prefix))

    def delete(self, key: str) -> None:
        self._repeat(lambda: self._store.delete(key))

    def _repeat(self, attempt: Callable[[], T]) -> T:
        give_up = self._clock() + self._backoff.deadline_s
        failures = 0
        while True:
            try:
                return attempt()
            except StoreUnavailable:
                failures += 1
                pause = self._backoff.pause(failures, self._share())
                if self._clock() + pause > give_up:
                    raise
                self._sleep(pause)
