"""Folders of ours that a hypervisor can get to, which on most hosts runs as a user of its own.

It gets the single files that it needs from its manager, or from us; but it must be able to pass through all folders
above them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from leeward.domain.errors import HypervisorError
from leeward.ports.hypervisor import Owner

PASSABLE = 0o711


def make_passable(folder: Path) -> None:
    """Have a folder; it and those above it that were missing let everybody pass, whatever our umask is."""
    for place in reversed((folder, *folder.parents)):
        if not place.exists():
            place.mkdir(exist_ok=True)
            place.chmod(PASSABLE)


def make_way(folder: Path, user: Owner) -> None:
    """Have a folder that this user can pass through. Raises HypervisorError when one above it does not let it."""
    make_passable(folder)
    for place in reversed((folder, *folder.parents)):
        if not _lets_pass(place.stat(), user):
            raise HypervisorError(
                "the hypervisor's user cannot pass through this folder",
                subject=str(place),
                hint=f"chmod o+x {place}, or keep Leeward's state elsewhere",
            )


def _lets_pass(status: os.stat_result, user: Owner) -> bool:
    if user.uid == 0:
        return True
    if user.uid == status.st_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if user.gid == status.st_gid else stat.S_IXOTH))
