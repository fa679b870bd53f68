"""What only a store in a folder has to get right."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.anyone import let_pass

from leeward.domain.errors import NotFound, ObjectNotFound, StoreError, StoreReadOnly, StoreUnavailable
from leeward.vault.stores.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@contextmanager
def opened_paths() -> Iterator[list[str]]:
    """The paths that this thread opens inside the block. (An audit hook stays for good: it is switched off after.)"""
    paths: list[str] = []
    active, me = [True], threading.get_ident()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if active[0] and event == "open" and threading.get_ident() == me:
            paths.append(str(args[0]))

    sys.addaudithook(hook)
    try:
        yield paths
    finally:
        active[0] = False


def test_scan_reads_no_folder_before_start_after(store: LocalStore, tmp_path: Path) -> None:
    for number in range(20):
        for kind in ("log", "map"):
            store.put(f"vm/{number:02}/{kind}/1", [b""])
    with opened_paths() as paths:
        found = [info.key for info in store.scan("vm/", "vm/17/log/1")]
    assert found == [f"vm/{number}/{kind}/1" for number in (17, 18, 19) for kind in ("log", "map")][1:]
    root = tmp_path / "store"
    assert {Path(path).relative_to(root).parts[:2] for path in paths} == {
        ("vm",),
        ("vm", "17"),
        ("vm", "18"),
        ("vm", "19"),
    }
    with opened_paths() as paths:
        assert [info.key for info in store.scan("vm/03/m")] == ["vm/03/map/1"]
    assert [Path(path).relative_to(root).as_posix() for path in paths] == ["vm/03", "vm/03/map"]


@pytest.mark.slow
def test_scan_of_100_000_objects_is_fast_and_its_end_faster(store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "store/vm/x/log"
    folder.mkdir(parents=True)
    for number in range(100_000):
        os.close(os.open(folder / f"{number:016d}", os.O_CREAT | os.O_WRONLY))
    started = time.process_time()
    assert sum(1 for _ in store.scan("vm/x/log/")) == 100_000
    whole = time.process_time() - started
    assert whole < 3
    started = time.process_time()
    assert len(list(store.scan("vm/x/log/", f"vm/x/log/{99_899:016d}"))) == 100
    assert time.process_time() - started < whole / 2


def test_foreign_files_and_links_are_no_objects(store: LocalStore, tmp_path: Path) -> None:
    root = tmp_path / "store"
    store.put("a/b", [b"x"])
    (root / "lost+found").mkdir()
    (root / "lost+found" / "x").touch()
    (root / "README").touch()
    (root / ".tmp" / "x").touch()
    (root / "a" / ".hidden").touch()
    (root / "link").symlink_to(tmp_path)
    (root / "a" / "dangling").symlink_to("/nowhere")
    os.mkfifo(root / "a" / "pipe")
    (tmp_path / "outside").touch()
    (root / "empty" / "nest").mkdir(parents=True)
    assert [info.key for info in store.scan("")] == ["a/b"]
    assert store.folders("") == ["a"]
    assert store.folders("empty/") == []


def test_key_that_is_a_folder_or_below_an_object(store: LocalStore) -> None:
    store.put("a/b", [b"x"])
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(StoreError) as caught:
            store.put(key, [b"y"])
        assert type(caught.value) is StoreError
        with pytest.raises(ObjectNotFound):
            store.get(key)
        store.delete(key)
    assert store.get("a/b") == b"x"


def test_folder_that_somebody_removed_is_made_again(store: LocalStore, tmp_path: Path) -> None:
    store.put("vm/a/log/1", [b"x"])
    store.delete("vm/a/log/1")
    for folder in ("vm/a/log", "vm/a", "vm"):
        (tmp_path / "store" / folder).rmdir()
    store.put("vm/a/log/1", [b"y"])
    assert store.get("vm/a/log/1") == b"y"


def test_disk_that_is_not_mounted_is_unavailable_until_it_is_back(store: LocalStore, tmp_path: Path) -> None:
    """An empty mount point in the store's place: nothing is written into it, nothing is said to be missing."""
    store.put("vm/a/log/1", [b"x"])
    root, away = tmp_path / "store", tmp_path / "away"
    root.rename(away)
    calls: list[Callable[[], Any]] = [
        lambda: store.put("vm/a/log/2", [b"y"]),
        lambda: store.put("top", [b"y"]),
        lambda: store.get("vm/a/log/1"),
        lambda: store.get_range("vm/a/log/1", 0, 1),
        lambda: store.size("vm/a/log/1"),
        lambda: list(store.scan("")),
        lambda: list(store.scan("vm/")),
        lambda: store.folders("vm/"),
        lambda: store.folders(""),
        lambda: store.delete("vm/a/log/1"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="mounted"):
            call()
    root.mkdir()
    for call in calls:
        with pytest.raises(StoreUnavailable, match="mounted"):
            call()
    with pytest.raises(NotFound, match="mounted"):
        LocalStore(root, create=False)
    assert not list(root.iterdir())
    root.rmdir()
    away.rename(root)
    store.put("vm/a/log/2", [b"y"])
    assert [info.key for info in store.scan("")] == ["vm/a/log/1", "vm/a/log/2"]


@contextmanager
def ordinary_user(*folders: Path) -> Iterator[None]:
    """The block runs without root's right to ignore modes (as nobody, to whom the folders are given)."""
    if os.geteuid() != 0:
        yield
        return
    for folder in folders:
        os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folder_without_write_permission_is_read_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = let_pass(tmp_path_factory.mktemp("modes"))
    root = base / "store"
    LocalStore(root).put("a/b", [b"hello"])
    folders = [root, root / "a", root / ".tmp"]
    (root / "a/b").chmod(0o444)
    with ordinary_user(*folders):
        store = LocalStore(root)
        for folder in folders:
            folder.chmod(0o555)
        try:
            assert store.get("a/b") == b"hello"
            for call in (
                lambda: store.put("a/c", [b"x"]),
                lambda: store.put("new/c", [b"x"]),
                lambda: store.delete("a/b"),
                lambda: LocalStore(root, nameless=False).put("a/c", [b"x"]),
            ):
                with pytest.raises(StoreReadOnly, match="write access"):
                    call()
            (root / "a").chmod(0o000)
            for call in (lambda: store.get("a/b"), lambda: list(store.scan(""))):
                with pytest.raises(StoreError, match="cannot read") as caught:
                    call()
                assert type(caught.value) is StoreError
        finally:
            for folder in folders:
                folder.chmod(0o755)


def test_errors_of_the_callers_own_pass_through_a_scan(store: LocalStore) -> None:
    store.put("a/b", [b"x"])
    with pytest.raises(OSError, match="mine"):
        for _ in store.scan(""):
            raise OSError("mine")


def test_relative_root_does_not_move_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore("vault")
    store.put("a/b", [b"x"])
    monkeypatch.chdir("/")
    assert store.get("a/b") == b"x"
    assert store.url == (tmp_path / "vault").as_uri()


def test_no_descriptor_is_left_open(store: LocalStore) -> None:
    store.put("a/b", [b"x"])
    before = len(os.listdir("/proc/self/fd"))
    for call in (
        lambda: store.put("a/b", [b"x"]),
        lambda: store.put("a", [b"x"]),
        lambda: store.get("a/none"),
        lambda: store.get("a"),
    ):
        with pytest.raises(StoreError):
            call()
    store.put("a/c", [b"y"])
    found = store.scan("")
    next(found)
    del found
    list(store.scan(""))
    store.folders("")
    assert len(os.listdir("/proc/self/fd")) == before
