"""A store in a folder of a local (or NFS) file system that keeps what it acknowledged through a power loss.

A put writes a draft, fsyncs it, links it under its key (link(2) never overwrites, so of many racing puts one wins),
and fsyncs the folder; folders on the way are made first and fsynced into their parents. Why not obstore's local
store: it does not fsync at all.

The folder `.tmp` holds the drafts of file systems without nameless files. It is also the mark that the store's disk
is really there: on an unmounted mount point it is missing, and then nothing is created or reported as not found;
every call raises StoreUnavailable until the disk is back.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from leeward.domain.errors import NotFound, ObjectExists, ObjectNotFound, StoreError, StoreReadOnly, StoreUnavailable
from leeward.ports.objects import Buffer, ObjectInfo
from leeward.vault.stores.drafts import FOLDER_MODE, Draft, named_draft, nameless_draft, sweep
from leeward.vault.stores.keys import check_folder, check_key, check_prefix, check_range
from leeward.vault.stores.osfaults import translating
from leeward.vault.stores.walking import entries, holds_objects, walk

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC
_MARK = ".tmp"


class LocalStore:
    """Objects as files below `root`.

    create: make the folder (and its parents) when it is missing; else a missing or empty folder raises NotFound.
    sweep_age_s: at opening, drafts of dead writers older than this are removed.
    nameless: False writes named drafts even where nameless ones can be had.
    Opening raises StoreErrors too: StoreReadOnly when the folder has to be made and cannot be.
    """

    def __init__(
        self, root: str | Path, *, create: bool = True, sweep_age_s: float = 3600.0, nameless: bool = True
    ) -> None:
        self._root = Path(root).absolute()
        self._drafts = self._root / _MARK
        self._nameless = nameless
        # Folders that are known to survive a power loss. One that merely exists may have been made by a process that
        # was killed before it could fsync the parent.
        self._settled: set[str] = set()
        if not create:
            self._require_store()
        self._marked = self._open()
        if self._marked:
            # A store that cannot be swept because it is read-only can still be read.
            with suppress(StoreReadOnly), translating(self.url, writing=True):
                sweep(self._drafts, sweep_age_s)

    @property
    def url(self) -> str:
        return self._root.as_uri()

    # --- writing --------------------------------------------------------------------------------------

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        folder, _, name = check_key(key).rpartition("/")
        with translating(key, writing=True):
            fd = self._open_folder(folder)
            try:
                if not _exists(name, fd):
                    self._create(key, name, fd, parts)
                    return
                # Whoever is told that the object exists may rely on it: its writer may not have come to this fsync.
                os.fsync(fd)
            finally:
                os.close(fd)
        raise ObjectExists("the object exists already", subject=key)

    def _create(self, key: str, name: str, folder_fd: int, parts: Sequence[Buffer]) -> None:
        if self._nameless:
            with nameless_draft(folder_fd) as draft:
                if draft is not None:
                    _publish(draft, key, name, folder_fd, parts)
                    return
        self._nameless = False
        self._require_disk()
        with named_draft(self._drafts) as draft:
            _publish(draft, key, name, folder_fd, parts)

    def delete(self, key: str) -> None:
        with translating(check_key(key), writing=True):
            try:
                (self._root / key).unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._require_disk()

    # --- reading --------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        with self._reading(key) as fd:
            return _pread(fd, 0, os.fstat(fd).st_size)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        with self._reading(key) as fd:
            return _pread(fd, start, min(length, os.fstat(fd).st_size - start))

    def size(self, key: str) -> int:
        with self._reading(key) as fd:
            return os.fstat(fd).st_size

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._scan(check_prefix(prefix), start_after)

    def _scan(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        self._require_disk()  # an unmounted mount point is a folder that exists, and is empty
        found = walk(self._root, prefix, start_after, self._require_disk)
        while True:
            # The yield stands outside: an OSError of the caller's own must not be taken for one of the store.
            with translating(prefix, writing=False):
                info = next(found, None)
            if info is None:
                return
            yield info

    def folders(self, prefix: str) -> list[str]:
        folder = self._root / check_folder(prefix)
        self._require_disk()
        with translating(prefix, writing=False):
            try:
                fd = os.open(folder, _FOLDER)
            except (FileNotFoundError, NotADirectoryError):
                self._require_disk()
                return []
            try:
                names = sorted(name[:-1] for name in entries(fd) if name.endswith("/"))
            finally:
                os.close(fd)
            return [name for name in names if holds_objects(folder / name)]

    @contextmanager
    def _reading(self, key: str) -> Iterator[int]:
        with translating(check_key(key), writing=False):
            try:
                fd = os.open(self._root / key, _FILE)
            except (FileNotFoundError, NotADirectoryError):
                self._require_disk()
                raise _not_found(key) from None
            try:
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    raise _not_found(key)
                yield fd
            finally:
                os.close(fd)

    # --- folders --------------------------------------------------------------------------------------

    def _open_folder(self, folder: str) -> int:
        """fd of a folder that exists and will after a power loss."""
        if not folder or folder not in self._settled:
            self._settle(folder)
        try:
            return os.open(self._root / folder, _FOLDER)
        except FileNotFoundError:  # removed behind our back, or the disk is gone
            self._settled.clear()
            self._settle(folder)
            return os.open(self._root / folder, _FOLDER)

    def _settle(self, folder: str) -> None:
        self._require_disk()
        path, done = self._root, ""
        for name in folder.split("/") if folder else ():
            parent, path, done = path, path / name, f"{done}/{name}" if done else name
            if done not in self._settled:
                path.mkdir(FOLDER_MODE, exist_ok=True)
                _fsync_folder(parent)
                self._settled.add(done)

    def _require_disk(self) -> None:
        if self._marked and not self._drafts.is_dir():
            hint = "Is its disk mounted?"
            raise StoreUnavailable("the store's folder lost its mark (.tmp)", subject=self.url, hint=hint)

    def _require_store(self) -> None:
        if not self._drafts.is_dir() and not holds_objects(self._root):
            raise NotFound("there is no store in this folder", subject=str(self._root), hint="Is its disk mounted?")

    def _open(self) -> bool:
        """Make what is missing of root and mark, durably; whether the mark is there."""
        with translating(self.url, writing=True):
            if self._drafts.is_dir():
                return True
            try:
                self._root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
                _fsync_ancestors(self._root)
                self._drafts.mkdir(FOLDER_MODE, exist_ok=True)
                _fsync_folder(self._root)
            except OSError as fault:
                # A copy of a vault on read-only media can be read without the mark.
                if fault.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and self._root.is_dir():
                    return False
                raise
        return True


def _publish(draft: Draft, key: str, name: str, folder_fd: int, parts: Sequence[Buffer]) -> None:
    draft.write(parts)
    try:
        draft.link(name, folder_fd)
    except FileExistsError:
        os.fsync(folder_fd)
        raise ObjectExists("the object exists already", subject=key) from None
    try:
        os.fsync(folder_fd)
    except OSError as fault:
        # From here on the object is visible, so "full" or "read-only", which promise that it is not, would be wrong.
        raise StoreUnavailable("the new name could not be made durable", subject=key) from fault


def _exists(name: str, folder_fd: int) -> bool:
    try:
        info = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(info.st_mode):
        raise StoreError("the key is taken by a folder", subject=name)
    return True


def _pread(fd: int, start: int, length: int) -> bytes:
    """Bytes [start, start + length), shorter at the end of the file. One pread(2) gives at most 2 GiB - 4 KiB."""
    chunks: list[bytes] = []
    while length > 0 and (chunk := os.pread(fd, length, start)):
        chunks.append(chunk)
        start += len(chunk)
        length -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fsync_ancestors(folder: Path) -> None:
    """Make the names that lead to the folder durable, up to its mount point."""
    device = folder.stat().st_dev
    for parent in folder.parents:
        if parent.stat().st_dev != device:
            return
        # A parent that we may not read is not one that we made.
        with suppress(PermissionError):
            _fsync_folder(parent)


def _not_found(key: str) -> ObjectNotFound:
    return ObjectNotFound("there is no such object", subject=key)
