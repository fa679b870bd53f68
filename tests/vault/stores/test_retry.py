from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from leeward.domain.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from leeward.ports.objects import Buffer, ObjectInfo
from leeward.vault.stores.delay import DelayedStore
from leeward.vault.stores.memory import MemoryStore
from leeward.vault.stores.retry import Backoff, RetryingStore


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class FlakyStore(MemoryStore):
    """Fails the next calls: "before" the call had its effect, or "after" it (the lost acknowledgement)."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.calls = 0
        self.break_scan_after: list[int] = []

    def _maybe(self, moment: str) -> None:
        if moment == "before":
            self.calls += 1
        if self.faults and self.faults[0] == moment:
            self.faults.pop(0)
            raise StoreUnavailable(f"down {moment}")

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        self._maybe("before")
        super().put(key, parts)
        self._maybe("after")

    def get(self, key: str) -> bytes:
        self._maybe("before")
        return super().get(key)

    def delete(self, key: str) -> None:
        self._maybe("before")
        super().delete(key)
        self._maybe("after")

    def folders(self, prefix: str) -> list[str]:
        self._maybe("before")
        return super().folders(prefix)

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        limit = self.break_scan_after.pop(0) if self.break_scan_after else None
        for number, info in enumerate(super().scan(prefix, start_after)):
            if number == limit:
                raise StoreUnavailable("down in a scan")
            yield info


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flaky() -> FlakyStore:
    return FlakyStore()


@pytest.fixture
def store(flaky: FlakyStore, clock: Clock) -> RetryingStore:
    return RetryingStore(flaky, Backoff(60, 0.2, 10), sleep=clock.sleep, clock=clock, share=lambda: 0.5)


def test_pauses_double_up_to_the_longest(store: RetryingStore, flaky: FlakyStore, clock: Clock) -> None:
    flaky.faults = ["before"] * 9
    store.put("a/b", [b"x"])
    assert clock.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    assert flaky.get("a/b") == b"x"


def test_gives_up_at_the_deadline(store: RetryingStore, flaky: FlakyStore, clock: Clock) -> None:
    flaky.faults = ["before"] * 1000
    with pytest.raises(StoreUnavailable, match="down before"):
        store.get("a/b")
    assert 55 < clock.now - 1000 <= 60


def test_jitter_spreads_over_the_whole_pause() -> None:
    backoff = Backoff(first_s=1, longest_s=8)
    assert backoff.pause(1, 0.0) == 0
    assert backoff.pause(3, 0.999) == pytest.approx(3.996)
    assert backoff.pause(100_000, 1.0) == 8


@pytest.mark.parametrize("error", [ObjectExists, ObjectNotFound, StoreFull, StoreReadOnly, StoreError])
def test_other_errors_are_not_retried(error: type[StoreError], clock: Clock) -> None:
    class Broken(MemoryStore):
        def put(self, key: str, parts: Sequence[Buffer]) -> None:
            raise error("no")

    with pytest.raises(error):
        RetryingStore(Broken(), sleep=clock.sleep, clock=clock).put("a/b", [b"x"])
    assert clock.slept == []


def test_lost_acknowledgement_is_success(store: RetryingStore, flaky: FlakyStore) -> None:
    flaky.faults = ["after"]
    store.put("a/b", [b"he", b"", memoryview(b"llo")])
    assert flaky.get("a/b") == b"hello"


@pytest.mark.parametrize("other", [b"", b"hell", b"hellO", b"Hello", b"hello!", b"he"])
def test_another_writers_object_is_not_success(store: RetryingStore, flaky: FlakyStore, other: bytes) -> None:
    flaky.put("a/b", [other])
    flaky.faults = ["before"]
    with pytest.raises(ObjectExists):
        store.put("a/b", [b"he", b"llo"])
    assert flaky.get("a/b") == other


def test_same_content_without_an_unknown_attempt_is_a_conflict(store: RetryingStore, flaky: FlakyStore) -> None:
    flaky.put("a/b", [b"hello"])
    with pytest.raises(ObjectExists):
        store.put("a/b", [b"hello"])


def test_comparing_is_retried_too(store: RetryingStore, flaky: FlakyStore) -> None:
    flaky.faults = ["after", "before", "before"]
    store.put("a/b", [b"hello"])
    assert flaky.faults == []


def test_object_that_vanished_while_comparing_is_written_again(clock: Clock) -> None:
    class Vanishing(FlakyStore):
        def size(self, key: str) -> int:
            MemoryStore.delete(self, key)
            return super().size(key)

    flaky = Vanishing()
    flaky.faults = ["after"]
    RetryingStore(flaky, sleep=clock.sleep, clock=clock).put("a/b", [b"hello"])
    assert flaky.get("a/b") == b"hello"


def test_scan_goes_on_where_it_broke(store: RetryingStore, flaky: FlakyStore) -> None:
    keys = [f"a/{number}" for number in range(9)]
    for key in keys:
        flaky.put(key, [b""])
    flaky.break_scan_after = [0, 3, 0, 0, 4]
    assert [info.key for info in store.scan("a/")] == keys
    flaky.break_scan_after = [2, 1]
    assert [info.key for info in store.scan("a/", "a/2")] == keys[3:]


def test_deadline_of_a_scan_starts_anew_with_each_key(store: RetryingStore, flaky: FlakyStore, clock: Clock) -> None:
    for number in range(50):
        flaky.put(f"a/{number:02}", [b""])
    found = store.scan("a/")
    for _ in range(49):
        next(found)
        clock.now += 59
    assert next(found).key == "a/49"


def test_reads_deletes_and_folders_are_retried(store: RetryingStore, flaky: FlakyStore) -> None:
    flaky.put("a/b", [b"hello"])
    for call, wanted in (
        (lambda: store.get("a/b"), b"hello"),
        (lambda: store.get_range("a/b", 1, 2), b"el"),
        (lambda: store.size("a/b"), 5),
        (lambda: store.folders(""), ["a"]),
        (lambda: store.delete("a/b"), None),
    ):
        flaky.faults = ["before", "before"]
        assert call() == wanted
        assert flaky.faults == []
    assert list(flaky.scan("")) == []


def test_delayed_store_delays_reads_only() -> None:
    slept: list[float] = []
    memory = MemoryStore()
    store = DelayedStore(memory, 0.005, sleep=slept.append)
    for number in range(2500):
        store.put(f"a/{number:04}", [b"hello"])
    store.delete("a/2499")
    assert slept == []
    assert store.get("a/0000") == b"hello"
    assert store.get_range("a/0000", 1, 1) == b"e"
    assert store.size("a/0000") == 5
    assert store.folders("") == ["a"]
    assert slept == [0.005] * 4
    assert len(list(store.scan("a/"))) == 2499
    assert slept == [0.005] * 7
    assert store.url == memory.url
