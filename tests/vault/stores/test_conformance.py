"""What the vault relies on, asked of every store."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from leeward.domain.errors import ObjectExists, ObjectNotFound, StoreError
from leeward.ports.objects import ObjectStore
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.memory import MemoryStore
from leeward.vault.stores.opening import open_store
from leeward.vault.stores.retry import RetryingStore

MIB = 1 << 20
_numbers = itertools.count()

KINDS = [
    "memory",
    "local",
    "local-named-drafts",
    "local-retrying",
    pytest.param("s3", marks=pytest.mark.cloudstore),
    pytest.param("azure", marks=pytest.mark.cloudstore),
]

Make = Callable[[], ObjectStore]


@pytest.fixture(params=KINDS, scope="module")
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes empty stores of one kind."""
    kind = request.param
    if kind in ("s3", "azure"):
        server = request.getfixturevalue(f"{kind}_server")
        # The store beneath the retries, so that no retry hides an error that the server should not have made.
        return lambda: open_store(f"{server.url}/run{next(_numbers)}/vault", retry_s=0, **server.options)

    def folder() -> Path:
        return tmp_path_factory.mktemp("store")

    makers: dict[str, Make] = {
        "memory": MemoryStore,
        "local": lambda: LocalStore(folder()),
        "local-named-drafts": lambda: LocalStore(folder(), nameless=False),
        "local-retrying": lambda: RetryingStore(LocalStore(folder())),
    }
    return makers[kind]


@pytest.fixture
def store(make: Make) -> ObjectStore:
    return make()


def keys(store: ObjectStore, *args: str) -> list[str]:
    return [info.key for info in store.scan(*args)]


def test_object_comes_back_as_it_was_put(store: ObjectStore) -> None:
    store.put("vm/a/log/0001", [b"head", b"", bytearray(b"-"), memoryview(b"xtailx")[1:5]])
    assert store.get("vm/a/log/0001") == b"head-tail"
    assert type(store.get("vm/a/log/0001")) is bytes
    assert store.size("vm/a/log/0001") == 9


def test_put_takes_views_of_wider_items(store: ObjectStore) -> None:
    words = memoryview(bytearray(range(16))).cast("I")
    store.put("a/words", [words, b"!"])
    assert store.get("a/words") == bytes(range(16)) + b"!"
    assert store.size("a/words") == 17


@pytest.mark.parametrize("parts", [[], [b""], [b"", b""]])
def test_empty_object(store: ObjectStore, parts: list[bytes]) -> None:
    store.put("a/empty", parts)
    assert store.get("a/empty") == b""
    assert store.get_range("a/empty", 0, 10) == b""
    assert store.size("a/empty") == 0
    assert [(info.key, info.size) for info in store.scan("")] == [("a/empty", 0)]


def test_large_object_of_many_parts(store: ObjectStore) -> None:
    content = random.Random(1).randbytes(40 * MIB)
    view = memoryview(content)
    store.put("a/large", [view[at : at + 16411] for at in range(0, len(view), 16411)])
    assert store.size("a/large") == 40 * MIB
    assert store.get("a/large") == content
    assert store.get_range("a/large", 39 * MIB, 2 * MIB) == content[39 * MIB :]
    assert store.get_range("a/large", 7 * MIB + 3, MIB) == content[7 * MIB + 3 : 8 * MIB + 3]


def test_put_never_overwrites(store: ObjectStore) -> None:
    store.put("a/b", [b"first"])
    with pytest.raises(ObjectExists) as caught:
        store.put("a/b", [b"second"])
    assert caught.value.subject == "a/b"
    assert store.get("a/b") == b"first"


def test_one_of_32_racing_puts_wins(store: ObjectStore) -> None:
    for attempt in range(5):
        key = f"race/{attempt}"
        barrier = Barrier(32)

        def put(number: int, key: str = key, barrier: Barrier = barrier) -> int | None:
            content = bytes([number]) * 4096
            barrier.wait()
            try:
                store.put(key, [content])
            except ObjectExists:
                return None
            return number

        with ThreadPoolExecutor(32) as pool:
            winners = [number for number in pool.map(put, range(32)) if number is not None]
        assert len(winners) == 1
        assert store.get(key) == bytes([winners[0]]) * 4096


def test_missing_objects_are_not_found(store: ObjectStore) -> None:
    store.put("a/b", [b"x"])
    calls: list[Callable[[str], Any]] = [
        store.get,
        store.size,
        lambda key: store.get_range(key, 0, 1),
        lambda key: store.get_range(key, 0, 0),
        lambda key: store.get_range(key, 100, 1),
    ]
    for call, key in itertools.product(calls, ["a/c", "a", "x/y/z", "a/b/c"]):
        with pytest.raises(ObjectNotFound) as caught:
            call(key)
        assert caught.value.subject == key


@pytest.mark.parametrize(
    ("start", "length", "wanted"),
    [
        (0, 5, b"hello"),
        (6, 5, b"world"),
        (6, 500, b"world"),
        (0, 1 << 40, b"hello world"),
        (10, 1, b"d"),
        (11, 1, b""),
        (12, 5, b""),
        (1 << 40, 5, b""),
        (3, 0, b""),
        (11, 0, b""),
    ],
)
def test_range_at_the_edges(store: ObjectStore, start: int, length: int, wanted: bytes) -> None:
    store.put("a/b", [b"hello world"])
    assert store.get_range("a/b", start, length) == wanted


@pytest.mark.parametrize(("start", "length"), [(-1, 5), (0, -1)])
def test_negative_ranges_are_refused(store: ObjectStore, start: int, length: int) -> None:
    store.put("a/b", [b"hello world"])
    with pytest.raises(StoreError, match="negative"):
        store.get_range("a/b", start, length)


def test_delete_is_idempotent_and_frees_the_key(store: ObjectStore) -> None:
    store.put("a/b", [b"1"])
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    store.delete("a")
    with pytest.raises(ObjectNotFound):
        store.get("a/b")
    assert keys(store, "") == []
    assert store.folders("") == []
    store.put("a/b", [b"2"])
    assert store.get("a/b") == b"2"


BAD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/..",
    "../a",
    "a/../../b",
    "a/./b",
    ".tmp/x",
    ".hidden",
    "a/.b",
    "a.",
    "A",
    "a b",
    "a\\b",
    "a\x00b",
    "a\n",
    "é",
    "日本",
    "%2e%2e/a",
    "a?b",
    "a" * 201,
    "a/" * 450 + "b",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused(store: ObjectStore, key: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: store.put(key, [b"x"]),
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.get_range(key, 0, 0),
        lambda: store.size(key),
        lambda: store.delete(key),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="not a valid object key"):
            call()
    assert keys(store, "") == []


@pytest.mark.parametrize("prefix", ["/", "..", "../", "a//", "A", "é", ".tmp/"])
def test_bad_prefixes_are_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(StoreError):
        store.scan(prefix)
    with pytest.raises(StoreError):
        store.folders(prefix)


def test_folders_needs_a_slash(store: ObjectStore) -> None:
    with pytest.raises(StoreError):
        store.folders("vm")


def test_longest_key(store: ObjectStore) -> None:
    key = "/".join(["k" * 200] * 4 + ["m" * 96])
    assert len(key) == 900
    store.put(key, [b"x"])
    assert keys(store, "k") == [key]
    assert store.get(key) == b"x"


# Names around the slash: in a sorted list of keys "a-b" and "a.b" come before "a/b", "a0" and "a_b" after it.
TRICKY = sorted(
    [
        "a-b",
        "a.b",
        "a/b",
        "a/b-c",
        "a/b.c",
        "a/b0",
        "a/b_",
        "a/c/d",
        "a/c/d0",
        "a/c-",
        "a0",
        "a0/b",
        "a_b",
        "aa/b",
        "b/a/z",
        "b/z/a",
        "-a/b",
        "_a/b",
        "0/1",
    ]
)


@pytest.fixture(scope="module")
def tricky(make: Make) -> ObjectStore:
    store = make()
    for key in random.Random(2).sample([key for key in TRICKY if key != "a0"], len(TRICKY) - 1):
        store.put(key, [key.encode()])
    return store


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/c", "a/c/", "a0/", "a_", "b", "-", "_", "0", "zz", "a-"])
def test_scan_is_in_order_of_the_keys_bytes(tricky: ObjectStore, prefix: str) -> None:
    have = [key for key in TRICKY if key != "a0"]
    wanted = [key for key in have if key.startswith(prefix)]
    assert keys(tricky, prefix) == wanted
    for start_after in [*have, "a", "a/", "a/b/", "a/c", "a/c/", "a/c/d/e", "b/", "b/m", "zz", "A", "é", "a//b", "/"]:
        assert keys(tricky, prefix, start_after) == [key for key in wanted if key > start_after], start_after


def test_scan_tells_sizes(tricky: ObjectStore) -> None:
    assert all(info.size == len(info.key) for info in tricky.scan(""))


@pytest.mark.parametrize("prefix", ["", "a/", "a/c/", "b/", "b/z/", "zz/"])
def test_folders(tricky: ObjectStore, prefix: str) -> None:
    rests = [key[len(prefix) :] for key in TRICKY if key != "a0" and key.startswith(prefix)]
    assert tricky.folders(prefix) == sorted({rest.split("/")[0] for rest in rests if "/" in rest})


LOG = [f"vm/x/log/{number:016d}" for number in range(1, 3001)]


@pytest.fixture(scope="module")
def log(make: Make) -> Iterator[ObjectStore]:
    store = make()
    others = ["vm/w/log/9", "vm/x/lof/1", "vm/x/map/1", "vm/y/log/1"]
    store.put(LOG[0], [b"entry"])
    if store.url.startswith("file:"):  # the same file under all names, since thousands of puts take seconds
        folder = (Path(store.url.removeprefix("file://")) / LOG[0]).parent
        for key in LOG[1:]:
            (folder / Path(key).name).hardlink_to(folder / Path(LOG[0]).name)
    with ThreadPoolExecutor(8) as pool:
        rest = others if store.url.startswith("file:") else LOG[1:] + others
        list(pool.map(lambda key: store.put(key, [b"entry"]), rest))
    return store


def test_scan_of_many_keys(log: ObjectStore) -> None:
    assert keys(log, "vm/x/log/") == LOG
    assert keys(log, "vm/x/log") == LOG
    assert len(keys(log, "")) == 3004


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 2500, 2999, 3000])
def test_scan_of_many_keys_from_the_middle(log: ObjectStore, number: int) -> None:
    assert keys(log, "vm/x/log/", f"vm/x/log/{number:016d}") == LOG[number:]


def test_scan_of_part_of_a_name(log: ObjectStore) -> None:
    assert keys(log, "vm/x/log/00000000000029") == LOG[2899:2999]
    assert keys(log, "vm/x/log/0000000000002950") == [LOG[2949]]
    assert keys(log, "vm/x/log/00000000000029", LOG[2949]) == LOG[2950:2999]


def test_scan_may_be_left_early_and_goes_on_beside_changes(log: ObjectStore) -> None:
    found = log.scan("vm/x/log/")
    assert next(found).key == LOG[0]
    log.put("vm/x/m", [b""])
    log.delete("vm/x/m")
    assert next(found).key == LOG[1]


def test_every_writer_sees_the_others_objects_at_once(store: ObjectStore) -> None:
    def turn(number: int) -> bool:
        key = f"seen/{number}"
        store.put(key, [b"x"])
        return store.get(key) == b"x" and store.size(key) == 1 and key in keys(store, f"seen/{number}")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(turn, range(100)))


def test_url_tells_the_place_without_secrets(store: ObjectStore) -> None:
    assert store.url.split(":")[0] in ("memory", "file", "s3", "azure")
    assert "Eby8vd" not in store.url
    assert "@" not in store.url
