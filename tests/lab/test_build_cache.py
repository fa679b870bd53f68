import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leeward.lab.guest import cache


def slow_build(made: Path) -> None:
    with made.open("w") as file:
        file.write("half")
        file.flush()
        (made.parent.parent / "started").touch()
        time.sleep(30)


def test_what_was_built_is_not_built_again(tmp_path: Path) -> None:
    calls: list[Path] = []

    def build(made: Path) -> None:
        calls.append(made)
        made.write_text("whole")

    assert cache.built(tmp_path, "thing", build).read_text() == "whole"
    assert cache.built(tmp_path, "thing", build) == tmp_path / "thing"
    assert len(calls) == 1


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(made: Path) -> None:
        made.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.built(tmp_path, "thing", build)
    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


def test_a_killed_build_is_cleared_away_by_the_next_one(tmp_path: Path) -> None:
    builder = multiprocessing.get_context("fork").Process(target=cache.built, args=(tmp_path, "thing", slow_build))
    builder.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert not (tmp_path / "thing").exists()
    assert list(tmp_path.glob(".build-*"))
    cache.built(tmp_path, "thing", lambda made: made.touch())
    assert not list(tmp_path.glob(".build-*"))


def test_the_digest_tells_parts_apart() -> None:
    assert cache.digest(b"ab", b"c") != cache.digest(b"a", b"bc")
    assert cache.digest(b"a", 1) == cache.digest(b"a", 1)


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    lock, told = tmp_path / "lock", tmp_path / "held"
    code = (
        "from pathlib import Path; from leeward.lab.guest import cache\n"
        f"lock = Path({str(lock)!r})\n"
        f"with cache.exclusive(lock): Path({str(told)!r}).write_text(str(lock.exists()))"
    )
    with cache.exclusive(lock):
        # A fresh process: a forked one would inherit the lock that it is to wait for.
        waiter = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(1)
        assert not told.exists()
        lock.unlink()
    assert waiter.wait(20) == 0
    assert told.read_text() == "True"
