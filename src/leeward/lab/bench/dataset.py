"""Test data: a disk with a real file tree, made from what every Debian machine has."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
SOURCES = ("/usr/lib", "/usr/share", "/usr/bin", "/usr/include")


def tree_disk(path: Path, *, disk_size: int = 4096 * MIB, content: int = 1126 * MIB) -> Path:
    """A raw sparse image of `disk_size` bytes: one ext4 with about `content` bytes of this machine's own files.

    Programs, libraries, documents and translations in about the mix of a server's root disk. Kept when it exists.
    """
    if path.exists():
        return path
    staging = path.with_suffix(".tree")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    total = 0
    for file in _files():
        size = file.lstat().st_size
        if total + size > content:
            break
        target = staging / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target)
        except OSError:  # another file system: a link cannot cross
            shutil.copy2(file, target)
        total += size
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with draft.open("wb") as image:
        image.truncate(disk_size)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(staging), str(draft)], check=True)
    shutil.rmtree(staging)
    draft.replace(path)
    return path


def _files() -> Iterator[Path]:
    """Regular files, shuffled the same way each time (by a hash of the path): an even sample of all folders."""
    found = [Path(folder, name) for source in SOURCES for folder, _, names in os.walk(source) for name in names]
    found.sort(key=lambda file: hashlib.sha256(os.fsencode(file)).digest())
    return (file for file in found if file.is_file() and not file.is_symlink())
