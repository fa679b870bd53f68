"""Spools whose points can never become part of the log: kept beside the others until somebody deletes them.

What the guest wrote there is nowhere else, so nothing deletes them by itself, however old they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_MARK = ".aside-"


@dataclass(frozen=True, slots=True)
class SetAside:
    """since: UTC, seconds."""

    vm_id: str
    folder: Path
    since: float
    bytes: int


def spool_of(state: Path, vm_id: str) -> Path:
    return state / "spool" / vm_id


def move_aside(spool: Path) -> Path:
    aside = spool.with_name(f"{spool.name}{_MARK}{time.time_ns()}")
    spool.rename(aside)
    return aside


def set_aside(state: Path) -> list[SetAside]:
    """Oldest first. None where the folder cannot be read."""
    found = []
    for folder in (state / "spool").glob(f"*{_MARK}*"):
        vm_id, _, stamp = folder.name.partition(_MARK)
        if stamp.isdigit():
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            found.append(SetAside(vm_id, folder, int(stamp) / 1e9, size))
    return sorted(found, key=lambda one: one.since)
