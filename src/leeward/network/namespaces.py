"""Other network namespaces: sockets that live in them, and short-lived ones of our own.

A thread's namespace is its own, so whatever is done in another one is done in a thread made for it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from leeward.domain.errors import HypervisorError

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_FOLDER = Path("/run/netns")
_PREFIX = "lwp-"
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def is_ours(namespace: Path) -> bool:
    """Whether this process lives in it already."""
    return namespace.stat().st_ino == Path("/proc/self/ns/net").stat().st_ino


def inside(namespace: Path, deed: Callable[[], T]) -> T:
    """What the deed gives when done in this namespace (like /proc/PID/ns/net); raises what it raises."""
    if is_ours(namespace):
        return deed()
    found: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with namespace.open("rb") as handle:
                if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))  # noqa: TRY301 - told to whoever waits, as all else
            found.append(deed())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


@contextmanager
def made() -> Iterator[str]:
    """An empty namespace; its name. With it goes all that was made in it."""
    name = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        with suppress(HypervisorError):
            run("ip", "netns", "delete", name)


def path_of(name: str) -> Path:
    return _FOLDER / name


def sweep() -> None:
    """Delete what processes of ours left that were killed."""
    for entry in _FOLDER.glob(f"{_PREFIX}*") if _FOLDER.is_dir() else ():
        pid = entry.name.removeprefix(_PREFIX).split("-")[0]
        if not Path("/proc", pid).exists():
            with suppress(HypervisorError):
                run("ip", "netns", "delete", entry.name)


def run(*words: str) -> str:
    """Raises HypervisorError."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HypervisorError(f"{words[0]} cannot be run: {error}", subject=" ".join(words)) from None
    if done.returncode:
        raise HypervisorError(f"{words[0]} failed: {done.stderr.strip()}", subject=" ".join(words))
    return done.stdout
