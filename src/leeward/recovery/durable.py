"""Small files that outlive a power cut, and one worker at a time for what they tell of."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from leeward.domain.errors import HostBusy
from leeward.hypervisors.passage import make_passable

_BUSY_S = 10.0


def write_text(path: Path, text: str) -> None:
    """Replace a file so that after a power cut the old or the new one is there. Raises OSError, and leaves no draft
    then."""
    draft = path.with_suffix(".new")
    try:
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def save_json(path: Path, content: Any) -> None:
    """As `write_text`; its folder is made where it is missing."""
    if not path.parent.exists():
        # A socket for QEMU's user may come to lie in it. The daemon's umask keeps the files private.
        make_passable(path.parent)
        sync_folder(path.parent.parent)
    write_text(path, json.dumps(content, indent=1))


def load_json(path: Path) -> Any:
    """None when there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    """Make durable that files were made, renamed or removed in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_locks: dict[Path, threading.RLock] = {}
_locks_lock = threading.Lock()


@contextmanager
def exclusive(place: Path, wait_s: float = _BUSY_S) -> Iterator[None]:
    """One worker of this process at a time for what lies at `place`. Raises HostBusy."""
    with _locks_lock:
        lock = _locks.setdefault(place, threading.RLock())
    if not lock.acquire(timeout=wait_s):
        raise HostBusy("something else is being done to it just now", subject=place.name, hint="Try again")
    try:
        yield
    finally:
        lock.release()
