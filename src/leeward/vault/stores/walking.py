"""The files below a folder as object keys, in ascending bytewise order of the key."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

from leeward.ports.objects import ObjectInfo
from leeward.vault.stores.keys import is_segment

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

Missing = Callable[[], None]  # called when a folder is not there; raises when that means that the store is gone


def walk(root: Path, prefix: str, start_after: str, missing: Missing) -> Iterator[ObjectInfo]:
    """Objects whose key begins with `prefix` and is > `start_after`.

    A folder that lies wholly before `start_after` is not read, and a file is looked at (stat) only when its turn
    comes, so a caller who stops early pays only for reading the names of the folders it passed.
    """
    base, _, beginning = prefix.rpartition("/")
    yield from _walk(root, f"{base}/" if base else "", beginning, start_after, missing)


def _walk(root: Path, folder: str, beginning: str, start_after: str, missing: Missing) -> Iterator[ObjectInfo]:
    try:
        fd = os.open(root / folder, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        missing()
        return
    try:
        for name in _names(fd, folder, beginning, start_after):
            if name.endswith("/"):
                yield from _walk(root, folder + name, "", start_after, missing)
            elif (size := _file_size(name, fd)) is not None:
                yield ObjectInfo(folder + name, size)
    finally:
        os.close(fd)


def _names(fd: int, folder: str, beginning: str, start_after: str) -> list[str]:
    """Names that can hold wanted keys, sorted as keys sort: a subfolder carries its slash ("a-" < "a/" < "a0")."""
    names = sorted(name for name in entries(fd) if name.startswith(beginning))
    if not start_after.startswith(folder):
        return names if start_after < folder else []
    after = start_after[len(folder) :]
    inside, slash, _ = after.partition("/")
    # When start_after lies in a subfolder, that one still counts; otherwise only what is greater counts.
    return names[bisect_left(names, f"{inside}/") :] if slash else names[bisect_right(names, after) :]


def entries(fd: int) -> Iterator[str]:
    """Names in the folder that can be part of a key; subfolders with a slash at the end. In no order."""
    with os.scandir(fd) as listing:
        for entry in listing:
            if is_segment(entry.name):
                if entry.is_file(follow_symlinks=False):
                    yield entry.name
                elif entry.is_dir(follow_symlinks=False):
                    yield f"{entry.name}/"


def holds_objects(folder: Path) -> bool:
    """Whether there is any object in the folder or below it."""
    try:
        fd = os.open(folder, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return any(not name.endswith("/") or holds_objects(folder / name) for name in entries(fd))
    finally:
        os.close(fd)


def _file_size(name: str, fd: int) -> int | None:
    """None when the file was deleted since the folder was read."""
    try:
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None
