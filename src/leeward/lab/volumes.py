"""Small file systems of their own, so that a disk of the lab can be full without the machine's being so."""

from __future__ import annotations

import os
from pathlib import Path

from leeward.lab import tools


def ensure(folder: Path, mib: int) -> None:
    """An ext4 of that size, mounted at `folder`; its image lies beside it. Nothing when it is mounted already.

    Before a libvirtd starts: what is mounted later is not seen in its mount namespace. `Lab.down` unmounts it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_mount():
        return
    image = folder.with_name(f"{folder.name}.img")
    with image.open("wb") as file:
        file.truncate(mib << 20)
    tools.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image])
    tools.run(["mount", "-o", "loop", image, folder])


def fill(folder: Path, leave_mib: int = 0) -> None:
    """Take all the room there is, but for `leave_mib`."""
    left = os.statvfs(folder)
    file = _ballast(folder)
    # Others write too meanwhile, and the file needs bookkeeping of its own.
    size = left.f_bavail * left.f_frsize - (max(leave_mib, 2) << 20)
    if size > 0:
        tools.run(["fallocate", "-l", size, file])
    if leave_mib:
        return
    with file.open("ab", buffering=0) as target:
        for size in (1 << 16, 512):
            try:
                while True:
                    target.write(bytes(size))
            except OSError:
                pass


def free(folder: Path) -> None:
    """Give the room back; nothing when it was not taken."""
    _ballast(folder).unlink(missing_ok=True)


def _ballast(folder: Path) -> Path:
    return folder / "ballast"
