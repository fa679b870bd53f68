"""What is remembered of each copy, durably, so that whatever dies goes on where it stood."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from leeward.domain.errors import BadInput
from leeward.recovery.durable import load_json, save_json
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
    name and UTC seconds. replica: its disks are a replica's images.
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
    replica: bool = False
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
    raw = load_json(path)
    if raw is None:
        return None
    raw["steps"] = [StepRecord(**step) for step in raw["steps"]]
    return CopyRecord(**raw)
