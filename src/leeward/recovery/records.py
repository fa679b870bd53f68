"""What is remembered of each copy, durably, so that whatever dies goes on where it stood."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from leeward.domain.errors import BadInput, HostBusy
from leeward.recovery.supervisor import ExportProcess

# Each step and what takes it back.
STEPS = {
    "pin": "unpin",  # keep the point from being pruned
    "export": "stop the export process",
    "define": "undefine the copy, remove overlays and network",
    "start": "power the copy off",
    "boot": "nothing: only looked",
    "hydrate": "nothing: goes with the overlays",
}
_BUSY_S = 10.0


class Purpose(StrEnum):
    TEST = "test"  # apart from everything, thrown away afterwards
    FAILOVER = "failover"  # the VM itself, from now on here

    @staticmethod
    def of(text: str) -> Purpose:
        try:
            return Purpose(text)
        except ValueError:
            raise BadInput("a copy's purpose is test or failover", subject=text) from None


@dataclass(slots=True)
class StepRecord:
    """state: waiting | running | done | failed. started: UTC seconds; seconds: how long it took."""

    name: str
    state: str = "waiting"
    started: float | None = None
    seconds: float | None = None
    detail: str = ""


@dataclass(slots=True)
class CopyRecord:
    """One VM made out of a recovery point. tag: marks all that was made for it. copy_id, copy_name: of the VM made.

    network: what it hangs on. networks: as `build` was told. token: tracking token of the point. bytes: data on its
    disks. made: the images' marks from when they were made; released: the guest may have written since. pin, pinned:
    name and UTC seconds.
    evidence: what was seen of its boot. hydrated: it needs the vault no longer. settled: the operator has committed.
    """

    vm_id: str
    vm_name: str
    purpose: str
    point_id: str
    tag: str
    copy_name: str
    host: str
    networks: dict[str, str] = field(default_factory=dict)
    copy_id: str = ""
    network: str = ""
    token: str = ""
    bytes: int = 0
    made: dict[str, str] = field(default_factory=dict)
    released: bool = False
    pin: str = ""
    pinned: float = 0.0
    steps: list[StepRecord] = field(default_factory=lambda: [StepRecord(name) for name in STEPS])
    evidence: dict[str, Any] = field(default_factory=dict)
    hydrated: bool = False
    settled: bool = False
    failed: str = ""

    def step(self, name: str) -> StepRecord:
        return next(step for step in self.steps if step.name == name)

    def done(self, name: str) -> bool:
        return self.step(name).state == "done"


def save_json(path: Path, content: Any) -> None:
    """Replace a file so that after a power cut the old or the new one is there."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, mode=0o700)
        _sync(path.parent.parent)
    draft = path.with_suffix(".new")
    with draft.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class CopyRecords:
    """One folder a copy below `folder`: record.json and what its export process needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, vm_id: str, purpose: str) -> Path:
        """Short on purpose: the path of a socket in it must stay below 108 bytes."""
        return self.folder / f"{purpose[:1]}-{vm_id}"

    def export(self, record: CopyRecord) -> ExportProcess:
        return ExportProcess(self.place(record.vm_id, record.purpose) / "x")

    def load(self, vm_id: str, purpose: str) -> CopyRecord | None:
        return _read(self.place(vm_id, purpose) / "record.json")

    def all(self) -> list[CopyRecord]:
        found = (_read(path) for path in sorted(self.folder.glob("[tf]-*/record.json")))
        return [record for record in found if record is not None]

    def save(self, record: CopyRecord) -> None:
        save_json(self.place(record.vm_id, record.purpose) / "record.json", asdict(record))


def _read(path: Path) -> CopyRecord | None:
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    raw["steps"] = [StepRecord(**step) for step in raw["steps"]]
    return CopyRecord(**raw)


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
