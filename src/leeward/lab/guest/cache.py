"""The build cache: one file or folder per content hash, made aside and renamed into place."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def digest(*parts: object) -> str:
    """Sixteen hex digits over the parts' representations; folders and files are to be given by their content."""
    h = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        h.update(len(data).to_bytes(8, "little") + data)
    return h.hexdigest()[:16]


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the lock file; the kernel frees it when the holder dies.

    A holder may remove the file (`down` does): who waited for it then begins again with the new one.
    """
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is(lock, file.fileno()):
                yield
                return


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def built(folder: Path, name: str, build: Callable[[Path], None]) -> Path:
    """`folder/name`, made by `build(path)` on first use.

    `build` creates the file or folder at the path it is given; only what it finished gets its name, so a killed build
    leaves nothing but a `.build-*` folder, which the next build removes. Builds in one folder exclude each other.
    """
    target = folder / name
    if target.exists():
        return target
    with exclusive(folder / ".lock"):
        if target.exists():
            return target
        for stale in folder.glob(".build-*"):
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as work:
            made = Path(work) / name
            build(made)
            _sync(made)
            made.rename(target)
    return target


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())
