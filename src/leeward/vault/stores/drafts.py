"""An object while it is being written: a file that no key leads to until its content is on the disk.

Where the file system can (ext4, xfs, btrfs, tmpfs), a draft has no name at all (O_TMPFILE), so a killed put leaves
nothing behind. Elsewhere (NFS, some FUSE file systems) it is a file in the store's `.tmp` folder, locked as long as
its writer lives; `sweep` removes what dead writers left there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from leeward.ports.objects import Buffer

FILE_MODE = 0o640
FOLDER_MODE = 0o750

_IOV_MAX = 1024  # buffers in one writev(2), <limits.h>
_PROC_FD = Path("/proc/self/fd")
# open(2): a file system without O_TMPFILE answers EOPNOTSUPP; older kernels EISDIR; FUSE servers EINVAL or ENOSYS.
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS}


class Draft:
    """fd: open for writing; source: the path from which it can be linked."""

    def __init__(self, fd: int, source: Path) -> None:
        self.fd = fd
        self.source = source

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append all parts and make the content durable."""
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        for first in range(0, len(views), _IOV_MAX):
            _write_all(self.fd, views[first : first + _IOV_MAX])
        os.fsync(self.fd)

    def link(self, name: str, folder_fd: int) -> None:
        """Give the draft its name in the folder. Raises FileExistsError, never overwrites.

        dst_dir_fd makes Python call linkat(AT_SYMLINK_FOLLOW), which is what links a nameless file from /proc.
        """
        os.link(self.source, name, dst_dir_fd=folder_fd, follow_symlinks=True)


@contextmanager
def nameless_draft(folder_fd: int) -> Iterator[Draft | None]:
    """A draft without a name on the file system of the folder; None where that cannot be had."""
    fd = _open_nameless(folder_fd)
    if fd is None:
        yield None
        return
    try:
        yield Draft(fd, _PROC_FD / str(fd))
    finally:
        os.close(fd)


def _open_nameless(folder_fd: int) -> int | None:
    if not _PROC_FD.exists():
        return None
    try:
        return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE, dir_fd=folder_fd)
    except OSError as fault:
        if fault.errno in _NO_TMPFILE:
            return None
        raise


@contextmanager
def named_draft(drafts: Path) -> Iterator[Draft]:
    """A draft as a locked file in the folder `drafts`; its temporary name is removed at the end."""
    path = drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
    try:
        _lock(fd)
        yield Draft(fd, path)
    finally:
        # Gone already when another process swept it after the link; the object keeps its own name.
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(fd)


def sweep(drafts: Path, older_than_s: float) -> int:
    """Remove the drafts of dead writers; how many. Younger ones are left, their writer may be about to lock them."""
    removed = 0
    limit = time.time() - older_than_s
    for path in list(drafts.iterdir()):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < limit and _is_abandoned(path):
                path.unlink()
                removed += 1
    return removed


def _is_abandoned(path: Path) -> bool:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return _lock(fd)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    """Whether we got the lock. False also where the file system has no locks: then nothing is ever swept."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        if fault.errno in (errno.EWOULDBLOCK, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise
    return True


def _write_all(fd: int, views: list[memoryview]) -> None:
    while views:
        written = os.writev(fd, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
