"""How much room a host has for recovered VMs."""

from __future__ import annotations

import shutil
from pathlib import Path

# What is told is rounded down to this: else every write to the disk would be news for the console.
_STEP = 16 << 20


def room(storage: Path) -> int | None:
    """Bytes free on the folder's disk, also before the folder is made; None when that cannot be known."""
    there = next((folder for folder in (storage, *storage.parents) if folder.exists()), storage)
    try:
        return shutil.disk_usage(there).free // _STEP * _STEP
    except OSError:
        return None
