"""What a guest's disk holds after a crash: its numbered records (written by appd.c), read without booting it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from leeward.domain.errors import LeewardError
from leeward.lab import tools
from leeward.lab.guest import layout

RECORD = 64
CAPACITY = 262144


@dataclass(frozen=True, slots=True)
class Records:
    """The run of numbers in a record file.

    first, last: 0 when there is none. times_ns: number → UTC ns as written by the guest.
    gaps: numbers between first and last that are not there or not in their place.
    """

    first: int
    last: int
    gaps: tuple[int, ...]
    times_ns: dict[int, int]

    @property
    def intact(self) -> bool:
        return not self.gaps


@dataclass(frozen=True, slots=True)
class DiskState:
    """clean: after the journal's replay a full check found nothing to mend; problem: the check's words."""

    records: Records
    clean: bool
    problem: str = ""


def parse(data: bytes) -> Records:
    """Read a record file. A torn last record counts as not written; in a reused ring so does the oldest one."""
    found: dict[int, int] = {}
    for slot in range(len(data) // RECORD):
        record = data[slot * RECORD : (slot + 1) * RECORD]
        number, time_ns = record[:12], record[13:33]
        if number.isdigit() and time_ns.isdigit() and record.endswith(b"\n") and (int(number) - 1) % CAPACITY == slot:
            found[int(number)] = int(time_ns)
    last = max(found, default=0)
    # The slot after the last one is where the next write goes: when it is torn, its old record is lost rightly.
    full = len(data) // RECORD >= CAPACITY
    first = min(1, last) if not full else max(1, last - CAPACITY + 2)
    gaps = tuple(number for number in range(max(first, 1), last) if number not in found)
    return Records(first, last, gaps, {number: found[number] for number in sorted(found) if number >= first})


def inspect(raw: Path, target: str = "vda") -> DiskState:
    """Replay the journal on a copy of a guest's raw disk (target vda or vdb), check it, and read its records.

    The image itself is only read; the copy lies beside it. Raises LeewardError when the records cannot be read.
    """
    offset, path = (layout.ROOT_OFFSET, layout.RECORDS_PATH) if target == "vda" else (0, layout.SECOND_RECORDS_PATH)
    with tempfile.TemporaryDirectory(prefix=".inspect-", dir=raw.parent) as work:
        system = Path(work) / "fs"
        _copy_from(raw, offset, system)
        _check(system, "-p")  # replays the journal, as mounting would
        checked = _check(system, "-f", "-n")
        content = Path(work) / "records"
        tools.run(["debugfs", "-R", f"dump {path} {content}", system])
        if not content.exists():
            raise LeewardError(f"the guest's disk has no file {path}", subject=str(raw))
        records = parse(content.read_bytes())
    return DiskState(records, checked.returncode == 0, "" if checked.returncode == 0 else checked.stdout)


def _copy_from(raw: Path, offset: int, target: Path) -> None:
    with raw.open("rb") as source, target.open("wb") as copy:
        source.seek(offset)
        shutil.copyfileobj(source, copy, 1 << 20)


def _check(system: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["e2fsck", *options, str(system)], capture_output=True, text=True, check=False)
