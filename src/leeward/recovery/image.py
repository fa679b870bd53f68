"""A disk of a recovery point as a plain file."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, StoreFull
from leeward.ports.blocks import DiskImage
from leeward.recovery.durable import sync_folder
from leeward.vault.log import PointImage

FORMATS = ("raw", "qcow2")
# One read covers a few frames: fewer requests to a distant vault, bounded memory.
_STEP_BLOCKS = 64
_THREADS = 4


def export_image(
    image: PointImage,
    disk: str,
    target: Path,
    *,
    fmt: str = "raw",
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write one disk byte for byte; returns the bytes of data in it (holes left out).

    The file appears under its name only when it is whole and on stable storage. progress: (bytes done, bytes in all),
    counting data only. Raises BadInput, NotFound, Refused (target exists), StoreFull, Damaged, StoreError.
    """
    if fmt not in FORMATS:
        raise BadInput(f"{fmt} is not a known image format", hint=f"Choose one of: {', '.join(FORMATS)}")
    if disk not in image.disks:
        names = ", ".join(image.disks)
        raise NotFound(f"recovery point {image.point.id} has no disk {disk}", hint=f"It has: {names}")
    raw = target.parent / f".{target.name}.{os.getpid()}.part"
    draft = raw.with_name(f"{raw.name}.qcow2") if fmt == "qcow2" else raw
    try:
        _check_target(target, force)
        source = image.disks[disk]
        runs = [(start, count) for start, count, _ in source.runs()]
        total: int = sum(count for _, count in runs) * BLOCK_SIZE
        _require_room(target.parent, total * (2 if fmt == "qcow2" else 1))  # which is made out of a raw one beside it
        _write_raw(source, runs, total, raw, progress)
        if fmt == "qcow2":
            _convert(raw, draft, target)
        _publish(draft, target)
    except OSError as error:
        raise _translate(error, target) from error
    finally:
        for left in (raw, draft):  # also where somebody has interrupted us
            with suppress(OSError):  # on a file system that cannot be written it was never made
                left.unlink(missing_ok=True)
    return total


def _check_target(target: Path, force: bool) -> None:
    """A device or a socket is refused even with `force`: the image would be renamed over it."""
    if not target.parent.is_dir():
        raise NotFound("the folder does not exist", subject=str(target.parent))
    if target.is_dir():
        raise BadInput("this is a folder, not a file", subject=str(target), hint="Name a file in it")
    if target.exists() and not target.is_file():
        raise BadInput("this is not a regular file", subject=str(target), hint="Name a file that is to be made")
    if target.exists() and not force:
        raise Refused("the file exists already", subject=str(target), hint="Choose another name, or use --force")


def _require_room(folder: Path, total: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < total:
        raise StoreFull(
            f"the image needs {total:,} bytes and only {free:,} are free",
            subject=str(folder),
            hint="Choose a folder on a larger disk",
        )


def _write_raw(
    source: DiskImage,
    runs: list[tuple[int, int]],
    total: int,
    draft: Path,
    progress: Callable[[int, int], None],
) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, source.size)

        def copy(offset: int, length: int) -> int:
            data = source.read(offset, length)
            written = 0
            while written < length:
                written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)
            # Linux begins to write at once what it is told to forget: else all of it waits for the fsync at the end,
            # and crowds out what guests on this host have in memory.
            with suppress(OSError):
                os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
            return length

        done = 0
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="export") as pool:
            pending: deque[Future[int]] = deque()
            try:
                for offset, length in _steps(runs, source.size):
                    pending.append(pool.submit(copy, offset, length))
                    if len(pending) >= _THREADS * 2:
                        done += pending.popleft().result()
                        progress(done, total)
                while pending:
                    done += pending.popleft().result()
                    progress(done, total)
            finally:
                for future in pending:
                    future.cancel()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _steps(runs: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """(offset, length) in bytes, cut to the disk's size."""
    steps = []
    for start, count in runs:
        for block in range(start, start + count, _STEP_BLOCKS):
            offset = block * BLOCK_SIZE
            blocks = min(_STEP_BLOCKS, start + count - block)
            steps.append((offset, min(blocks * BLOCK_SIZE, size - offset)))
    return steps


def _convert(raw: Path, result: Path, target: Path) -> None:
    """The same image as qcow2, beside it and for nobody else's eyes either; the raw one is removed."""
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(result)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)
    except FileNotFoundError:
        raise NotFound("qemu-img is not installed", hint="Install the package qemu-utils, or use raw") from None
    if done.returncode:
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise _translate(OSError(errno.ENOSPC, ""), target)
        raise LeewardError(f"qemu-img failed: {done.stderr.strip()}", subject=str(target))
    raw.unlink()


def _publish(draft: Path, target: Path) -> None:
    """Rename into place, durably."""
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(target)
    sync_folder(target.parent)


def _translate(error: OSError, target: Path) -> LeewardError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull("the disk is full", subject=str(target), hint="Choose a folder on a larger disk")
    return LeewardError(f"the image cannot be written: {error.strerror}", subject=str(target))
