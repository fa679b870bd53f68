"""What is remembered of a VM that comes home, durably."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from leeward.hypervisors.libvirt.scratch import short_name
from leeward.recovery.durable import load_json, save_json


@dataclass(slots=True)
class HomeRecord:
    """tag: marks the new images. new: disk → path of its new image. point, token: what they hold.

    run: the last one that they were prepared for; "" of a record that does not tell.

    old: disk → its image before the switch (path, format, kind); definition: of the VM before, "" when it was not
    defined here; the switch takes both anew when it begins. made: the new images' marks from just before the VM got
    them; with them the switch has begun. switched: it is done. released: its guest may have written to the new disks,
    and has unless their marks are as they were.
    """

    vm_id: str
    vm_name: str
    tag: str
    old: dict[str, dict[str, str]] = field(default_factory=dict)
    definition: str = ""
    new: dict[str, str] = field(default_factory=dict)
    point: str = ""
    token: str = ""
    made: dict[str, str] = field(default_factory=dict)
    switched: bool = False
    released: bool = False
    run: str = ""


class HomeRecords:
    """One folder a VM below `folder`: home.json, and below it one of its tag for journals and sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, vm_id: str) -> Path:
        return self.folder / short_name(vm_id)

    def load(self, vm_id: str) -> HomeRecord | None:
        raw = load_json(self.place(vm_id) / "home.json")
        return HomeRecord(**raw) if raw else None

    def vm_ids(self) -> list[str]:
        """Of all that are coming home."""
        found = (load_json(path) for path in sorted(self.folder.glob("*/home.json")))
        return [str(raw["vm_id"]) for raw in found if raw]

    def save(self, record: HomeRecord) -> None:
        save_json(self.place(record.vm_id) / "home.json", asdict(record))

    def forget(self, record: HomeRecord) -> None:
        """The record last: without it nobody would come again for the rest."""
        place = self.place(record.vm_id)
        shutil.rmtree(place / record.tag, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
