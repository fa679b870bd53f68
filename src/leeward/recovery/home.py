"""A VM comes home: new disks are written beside its old ones while it runs elsewhere, and only then it is given them.

The old disks are never written to. The switch is one redefinition of the VM, so that at every instant it has a whole
set of disks: the old or the new. Old ones are deleted when the operator has committed, new ones when the failback is
taken back; what is deleted is never what a VM of this host uses.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import HypervisorError, NotFound, Refused, StoreFull
from leeward.hypervisors.libvirt import domain_xml
from leeward.hypervisors.passage import make_passable
from leeward.logs import log
from leeward.recovery.durable import exclusive, load_json, save_json
from leeward.recovery.home_records import HomeRecord, HomeRecords
from leeward.recovery.images import Image
from leeward.recovery.leftovers import Leftover, judge, must_be_unwritten, must_hold, of_another
from leeward.recovery.libvirt.home_host import HomeHost
from leeward.recovery.libvirt.starting import marks
from leeward.recovery.localdisks import LocalDisks
from leeward.vault.facade import Vault
from leeward.vault.firmware import firmware_info, firmware_of
from leeward.vault.log import PointImage

# What images take besides their data, and what the host itself must keep.
_RESERVE = 256 << 20
_POLL_S = 0.1

Tell = Callable[[str], None]
Check = Callable[[], None]


def _silent(text: str) -> None:
    """Progress that nobody wants."""


def _on() -> None:
    """Nobody asks for an early end."""


class HomeDisks:
    """One host. folder: records, journals and sockets; keep its path short. storage: for disks without a file yet.

    on_step: see `starting.STEPS`.
    """

    def __init__(
        self,
        name: str,
        uri: str,
        folder: Path,
        storage: Path,
        vault: Vault,
        *,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._host = HomeHost(name, uri, storage)
        self._records = HomeRecords(folder)
        self._storage = storage
        self._vault = vault
        self._on_step = on_step

    def _firmware_file(self, record: HomeRecord) -> Path:
        return self._records.place(record.vm_id) / record.tag / "firmware.json"

    def record(self, vm_id: str) -> HomeRecord | None:
        return self._records.load(vm_id)

    def _require(self, vm_id: str) -> HomeRecord:
        record = self.record(vm_id)
        if record is None:
            raise NotFound("nothing has been prepared for its way home", subject=vm_id)
        return record

    def _disks(self, record: HomeRecord) -> LocalDisks:
        """In a folder of this tag: a journal of another failback would name images that are in use by now."""
        return LocalDisks(self._records.place(record.vm_id) / record.tag, self._vault.log(record.vm_id))

    # --- writing the new disks ------------------------------------------------------------------------

    def prepare(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        tell: Tell = _silent,
        check: Check = _on,
        *,
        afresh: bool = False,
        run: str = "",
    ) -> dict[str, Any]:
        """New disks that hold the point, made out of the old ones as far as these have it. Safe to repeat.

        tell: progress for people; check: raises to end early. afresh: what the VM was given already, an earlier
        failback gave it. run: that they are made for, see `revert`. → point; fetched, written: bytes read from the
        vault, bytes written. Raises Refused while the VM runs here, or has run here from disks of another point;
        StoreFull.
        """
        with exclusive(self._records.place(vm_id)):
            record = self.record(vm_id)
            if record is not None and record.made:
                wanted = self._vault.log(vm_id).point(point_id).id
                written = self._written(record)
                if judge(vm_name, record.point, wanted, written=written, afresh=afresh) is Leftover.STALE:
                    tell("what an earlier failback has left goes first")
                    self._take_back(record)
                    record = None
                elif written:
                    tell(f"it has run here already from its new disks, made of point {record.point}: these are kept")
            record = record or self._begin(vm_id, vm_name, run)
            if record.run != run:
                record.run = run
                self._records.save(record)
            return self._reach(record, point_id, tell, check)

    def catch_up(self, vm_id: str, point_id: str, tell: Tell = _silent, check: Check = _on) -> dict[str, Any]:
        """Bring them to a later point."""
        with exclusive(self._records.place(vm_id)):
            return self._reach(self._require(vm_id), point_id, tell, check)

    def _begin(self, vm_id: str, vm_name: str, run: str) -> HomeRecord:
        record = HomeRecord(vm_id, vm_name, uuid.uuid4().hex[:8], run=run)
        self._note_old(record)
        self._records.save(record)
        return record

    def _note_old(self, record: HomeRecord) -> None:
        record.definition = self._host.definition(record.vm_id)
        found = domain_xml.parse(record.definition).disks if record.definition else ()
        record.old = {disk.target: {"path": disk.path, "format": disk.format, "kind": disk.kind} for disk in found}

    def _reach(self, record: HomeRecord, point_id: str, tell: Tell, check: Check) -> dict[str, Any]:
        if record.made:
            must_hold(record.vm_name, record.point, self._vault.log(record.vm_id).point(point_id).id)
            return {"point": record.point, "fetched": 0, "written": 0}
        self._must_be_off(record)
        owner = f"failback {record.tag}"
        points = self._vault.log(record.vm_id)
        with self._vault.holding(record.vm_id, point_id, owner) as held, points.open_point(held) as image:
            paths = self._paths(record, image)
            _require_room(image, paths)
            seeds = {name: Image(Path(old["path"]), old["format"], old["kind"]) for name, old in record.old.items()}

            def progress(done: int, total: int, fetched: int) -> None:
                check()
                share = 100 * done // total if total else 100
                tell(f"{share} % of the new disks written, {_mib(fetched)} out of the vault")

            # Kept here, so that the switch does not need the vault.
            save_json(self._firmware_file(record), firmware_info(image.firmware))
            reached = self._disks(record).reach(image, paths, seeds, progress)
            record.new = {name: str(path) for name, path in paths.items()}
            record.point, record.token = image.point.id, image.tracking
        self._records.save(record)
        tell(f"the new disks hold point {record.point}; {_mib(reached.fetched)} came out of the vault")
        return {"point": record.point, "fetched": reached.fetched, "written": reached.written}

    def _paths(self, record: HomeRecord, image: PointImage) -> dict[str, Path]:
        """Beside the old image where that is a file, so that it lies on the same kind of storage."""
        found = {}
        for name in image.disks:
            old = record.old.get(name, {"kind": ""})
            folder = Path(old["path"]).parent if old["kind"] == "file" else self._storage
            make_passable(folder)
            found[name] = folder / f"{record.vm_name}.{record.tag}.{name}.qcow2"
        return found

    def _must_be_off(self, record: HomeRecord) -> None:
        if not self._host.is_off(record.vm_id):
            raise Refused("it runs here", subject=record.vm_name, hint="It must be off to come home")

    # --- using them -----------------------------------------------------------------------------------

    def switch(self, vm_id: str, definition: str = "", point: str = "") -> dict[str, Any]:
        """Let the VM use its new disks: one redefinition. definition: for a host on which it is not defined. point:
        that they must hold; "": not asked.

        → warnings: how the VM differs from what it was, in words.
        """
        with exclusive(self._records.place(vm_id)):
            record = self._require(vm_id)
            must_hold(record.vm_name, record.point, point)
            if record.switched:
                return {"warnings": []}
            self._must_be_off(record)
            if not record.made:
                self._begin_switch(record, definition)
            make_passable(self._storage)
            firmware = firmware_of(load_json(self._firmware_file(record)))
            warnings = self._host.give(vm_id, record.vm_name, definition, record.new, record.tag, firmware)
            record.switched = True
            self._records.save(record)
            return {"warnings": warnings}

    def _begin_switch(self, record: HomeRecord, definition: str) -> None:
        """Once, and before the VM gets the new disks: afterwards neither what it had before nor the marks of images
        that have not been used could be told."""
        if not record.point or self._disks(record).point != record.point:
            raise Refused(
                "its new disks do not hold one recovery point",
                subject=record.vm_name,
                hint="Bring them to one first: retry the failback",
            )
        self._note_old(record)
        if not record.definition and not definition:
            raise Refused("it is not defined on this host, and no definition was given", subject=record.vm_name)
        record.made = marks(list(record.new.values()))
        self._records.save(record)

    def start(self, vm_id: str, point: str = "") -> dict[str, Any]:
        """Start it, its changes tracked from the first write on where the point allows it. point: as in `switch`.
        → tracked."""
        with exclusive(self._records.place(vm_id)):
            record = self._require(vm_id)
            must_hold(record.vm_name, record.point, point)
            if not record.switched:
                raise Refused("it has not been given its new disks yet", subject=record.vm_name)
            reason = "" if record.released else self._vault.log(record.vm_id).untracked(record.point, record.token)
            if reason:
                log.warning("the next cycle compares everything", vm=record.vm_name, reason=reason)
                self._release(record)
            if record.released:
                self._host.start(vm_id)
                return {"tracked": False}
            tracked = self._host.start_tracked(
                vm_id, record.token, record.made, lambda: self._release(record), self._on_step
            )
            return {"tracked": tracked}

    def _written(self, record: HomeRecord) -> bool:
        """Whether its guest has written to the new disks, or may be about to. It may have been let go of and never
        have come up: the host had no memory for it, say."""
        if not record.released:
            return False
        if not self._host.is_off(record.vm_id):
            return True
        try:
            return marks(list(record.made)) != record.made
        except HypervisorError:  # an image is gone: whatever was written, nobody can tell
            return True

    def _release(self, record: HomeRecord) -> None:
        record.released = True
        self._records.save(record)

    # --- the end --------------------------------------------------------------------------------------

    def settle(self, vm_id: str) -> None:
        """The failback stays: delete the old disks. Devices are left to the operator. Idempotent."""
        with exclusive(self._records.place(vm_id)):
            record = self.record(vm_id)
            if record is None:
                return
            if not record.switched:
                raise Refused("it has not been given its new disks yet", subject=record.vm_name)
            self._delete(record, [Path(old["path"]) for old in record.old.values()])
            self._host.keep_firmware(record.tag, vm_id)
            self._records.forget(record)

    def revert(self, vm_id: str, runs: Collection[str] = ()) -> None:
        """The old disks stay: delete the new ones, where they were made for one of these runs; none: for whichever.
        Refused once its guest has written to them. Idempotent."""
        with exclusive(self._records.place(vm_id)):
            record = self.record(vm_id)
            if record is not None and not of_another(record.run, runs):
                must_be_unwritten(record.vm_name, record.point, written=self._written(record))
                self._take_back(record)

    def _take_back(self, record: HomeRecord) -> None:
        self._must_be_off(record)
        # Should we die in the middle: once an image is gone nobody could tell again that nothing was written to it,
        # and what is defined with its old disks must not be started as one that has its new ones.
        record.released = record.switched = False
        self._records.save(record)
        if record.made:
            self._host.take_back(record.vm_id, record.vm_name, record.definition, record.new, record.tag)
        images = [Path(journal.path) for journal in self._disks(record).journals.values()]
        self._delete(record, [*images, *(path.with_name(path.name + ".part") for path in images)])
        self._records.forget(record)

    def _delete(self, record: HomeRecord, paths: list[Path]) -> None:
        """Those of these files that no VM uses."""
        used = self._host.files_in_use() if any(path.exists() for path in paths) else set()
        for path in paths:
            if path.resolve() in used:
                log.warning("an image is kept: a VM uses it", vm=record.vm_name, image=str(path))
            elif path.is_file():
                path.unlink(missing_ok=True)


def _require_room(image: PointImage, paths: Mapping[str, Path]) -> None:
    """Raise StoreFull when a folder cannot take what its new disks still need."""
    needed: dict[Path, int] = {}
    for name, path in paths.items():
        data = image.disks[name].runs().blocks * BLOCK_SIZE
        needed[path.parent] = needed.get(path.parent, _RESERVE) + max(0, data - _taken(path))
    for folder, size in needed.items():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise StoreFull(
                f"the new disks need up to {size:,} bytes, and {free:,} are free",
                subject=str(folder),
                hint="Make room; the old disks are kept until the failback is committed",
            )


def _taken(path: Path) -> int:
    """What the image, or the draft that a killed attempt left, takes already."""
    for there in (path, path.with_name(path.name + ".part")):
        if there.exists():
            return there.stat().st_blocks * 512
    return 0


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def wait_agent(answers: Callable[[], bool], timeout_s: float) -> float | None:
    """Seconds until the guest's agent answered; None when it did not in time."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        if answers():
            return time.monotonic() - began
        time.sleep(_POLL_S)
    return None
