"""A VM comes home: new disks are written beside its old ones while it runs elsewhere, and only then it is given them.

The old disks are never written to. The switch is one redefinition of the VM, so that at every instant it has a whole
set of disks: the old or the new. Old ones are deleted when the operator has committed, new ones when the failback is
taken back; what is deleted is never what the VM uses.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import HypervisorError, NotFound, Refused, StoreFull, VmGone
from leeward.domain.vm import Power
from leeward.hypervisors.libvirt import domain_xml, power
from leeward.hypervisors.libvirt.connection import Connection, translate
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.hypervisors.libvirt.domain_xml import DiskXml
from leeward.logs import log
from leeward.recovery.durable import exclusive, load_json, save_json
from leeward.recovery.images import Image
from leeward.recovery.libvirt.firmware import FirmwarePlacer, at_home
from leeward.recovery.libvirt.starting import marks, start_tracked
from leeward.recovery.localdisks import LocalDisks
from leeward.vault.facade import Vault
from leeward.vault.firmware import firmware_info, firmware_of
from leeward.vault.log import PointImage

# What images take besides their data, and what the host itself must keep.
_RESERVE = 256 << 20
_POLL_S = 0.1
_UNDEFINE = libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
_DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


@dataclass(slots=True)
class HomeRecord:
    """old: disk → its image before (path, format, kind). definition: of the VM before, "" when it was not defined.

    new: disk → path of its new image. point, token: what they hold. made: their marks from when they were whole.
    switched: the VM has them. released: its guest may have written to them.
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


class HomeDisks:
    """One host. folder: records, journals and sockets; keep its path short. storage: for disks without a file yet."""

    def __init__(self, name: str, uri: str, folder: Path, storage: Path, vault: Vault) -> None:
        self.name = name
        self._connection = Connection(name, uri)
        self._folder = folder
        self._storage = storage
        self._vault = vault
        self._firmware = FirmwarePlacer(storage, DaemonFiles(uri))

    # --- records ------------------------------------------------------------------------------------

    def _place(self, vm_id: str) -> Path:
        return self._folder / vm_id[:8]

    def record(self, vm_id: str) -> HomeRecord | None:
        raw = load_json(self._place(vm_id) / "home.json")
        return HomeRecord(**raw) if raw else None

    def _require(self, vm_id: str) -> HomeRecord:
        record = self.record(vm_id)
        if record is None:
            raise NotFound("nothing has been prepared for its way home", subject=vm_id)
        return record

    def _save(self, record: HomeRecord) -> None:
        save_json(self._place(record.vm_id) / "home.json", asdict(record))

    def _domain(self, vm_id: str) -> libvirt.virDomain | None:
        try:
            return self._connection.domain(vm_id)
        except VmGone:
            return None

    # --- writing the new disks ------------------------------------------------------------------------

    def prepare(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        tell: Callable[[str], None] = lambda text: None,
        check: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """New disks that hold the point, made out of the old ones as far as these have it. Safe to repeat.

        tell: progress for people; check: raises to end early. Raises Refused while the VM runs here, StoreFull.
        """
        with exclusive(self._place(vm_id)):
            record = self.record(vm_id) or self._begin(vm_id, vm_name)
            return self._reach(record, point_id, tell, check)

    def catch_up(
        self,
        vm_id: str,
        point_id: str,
        tell: Callable[[str], None] = lambda text: None,
        check: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Bring them to a later point."""
        with exclusive(self._place(vm_id)):
            return self._reach(self._require(vm_id), point_id, tell, check)

    def _begin(self, vm_id: str, vm_name: str) -> HomeRecord:
        record = HomeRecord(vm_id, vm_name, uuid.uuid4().hex[:8])
        domain = self._domain(vm_id)
        if domain is not None:
            record.definition = self._ask(domain, lambda: domain.XMLDesc(_DEFINITION))
            found = domain_xml.parse(record.definition).disks
            record.old = {disk.target: _image(disk) for disk in found}
        self._save(record)
        return record

    def _reach(
        self, record: HomeRecord, point_id: str, tell: Callable[[str], None], check: Callable[[], None]
    ) -> dict[str, Any]:
        if record.switched:
            return {"point": record.point, "fetched": 0}
        self._must_be_off(record)
        log = self._vault.log(record.vm_id)
        with log.open_point(point_id) as image:
            # Kept here, so that the switch does not need the vault. One that died half way may have placed another.
            self._firmware.give_back(record.tag, record.vm_id)
            save_json(self._place(record.vm_id) / "firmware.json", firmware_info(image.firmware))
            paths = self._paths(record, image)
            disks = LocalDisks(self._place(record.vm_id), log)
            if not disks.journals:
                self._require_room(image, paths)
            seeds = {name: Image(Path(old["path"]), old["format"], old["kind"]) for name, old in record.old.items()}

            def progress(done: int, total: int, fetched: int) -> None:
                check()
                share = 100 * done // total if total else 100
                tell(f"{share} % of the new disks written, {fetched / (1 << 20):.1f} MiB out of the vault")

            reached = disks.reach(image, paths, seeds, progress)
            record.new = {name: str(path) for name, path in paths.items()}
            record.point, record.token, record.made = image.point.id, image.tracking, {}
        self._save(record)
        tell(f"the new disks hold point {record.point}; {reached.fetched / (1 << 20):.1f} MiB came out of the vault")
        return {"point": record.point, "fetched": reached.fetched, "written": reached.written}

    def _paths(self, record: HomeRecord, image: PointImage) -> dict[str, Path]:
        """Beside the old image where that is a file, so that it lies on the same kind of storage."""
        found = {}
        for name in image.disks:
            old = record.old.get(name)
            if old and old["kind"] == "file":
                path = Path(old["path"])
                found[name] = path.with_name(f"{path.stem}.{record.tag}.qcow2")
            else:
                self._storage.mkdir(parents=True, exist_ok=True)
                found[name] = self._storage / f"{record.vm_name}.{record.tag}.{name}.qcow2"
        return found

    @staticmethod
    def _require_room(image: PointImage, paths: Mapping[str, Path]) -> None:
        """Raise StoreFull when a folder cannot take its new disks."""
        needed: dict[Path, int] = {}
        for name, path in paths.items():
            data = image.disks[name].runs().blocks * BLOCK_SIZE
            needed[path.parent] = needed.get(path.parent, _RESERVE) + data
        for folder, size in needed.items():
            free = shutil.disk_usage(folder).free
            if free < size:
                raise StoreFull(
                    f"the new disks need up to {size:,} bytes, and {free:,} are free",
                    subject=str(folder),
                    hint="Make room; the old disks are kept until the failback is committed",
                )

    def _must_be_off(self, record: HomeRecord) -> None:
        domain = self._domain(record.vm_id)
        if domain is not None and self._ask(domain, lambda: power.power_of(domain)) is not Power.OFF:
            raise Refused("it runs here", subject=record.vm_name, hint="It must be off to come home")

    # --- using them -----------------------------------------------------------------------------------

    def switch(self, vm_id: str, definition: str) -> dict[str, Any]:
        """Let the VM use its new disks: one redefinition. definition: for a host on which it is not defined."""
        with exclusive(self._place(vm_id)):
            record = self._require(vm_id)
            if record.switched:
                return {}
            self._must_be_off(record)
            xml = self._with_firmware(record, with_disks(record.definition or definition, record.new))
            if not record.made:
                # Once, and before the VM gets them: the mark of a disk that has been in use would prove nothing.
                record.made = marks(list(record.new.values()))
                self._save(record)
            self._define(xml, record.vm_name)
            record.switched = True
            self._save(record)
            return {}

    def _with_firmware(self, record: HomeRecord, definition: str) -> str:
        """What the firmware kept elsewhere is put beside what it kept here, where that is a file of its own."""
        state = firmware_of(load_json(self._place(record.vm_id) / "firmware.json"))
        self._storage.mkdir(parents=True, exist_ok=True)
        placed = self._firmware.place(record.tag, record.vm_id, definition, state, tpm_possible=True)
        if placed.no_tpm:
            log.warning("the VM keeps the TPM that it had at home", vm=record.vm_name, why=placed.no_tpm)
        return at_home(definition, placed)

    def start(self, vm_id: str) -> dict[str, Any]:
        """Start it, its changes tracked from the first write on where the point allows it."""
        with exclusive(self._place(vm_id)):
            record = self._require(vm_id)
            if not record.switched:
                raise Refused("it has not been given its new disks yet", subject=record.vm_name)
            domain = self._connection.domain(vm_id)
            gap = self._vault.log(vm_id).tail().gap(record.point, record.token)
            if record.released or gap:
                self._release(record)
                power.start(domain)
                return {"tracked": False}
            tracked = start_tracked(domain, record.token, record.made, lambda: self._release(record))
            return {"tracked": tracked}

    def _release(self, record: HomeRecord) -> None:
        record.released = True
        self._save(record)

    # --- the end --------------------------------------------------------------------------------------

    def settle(self, vm_id: str) -> None:
        """The failback stays: delete the old disks. Idempotent."""
        with exclusive(self._place(vm_id)):
            record = self.record(vm_id)
            if record is None:
                return
            if not record.switched:
                raise Refused("it has not been given its new disks yet", subject=record.vm_name)
            used = self._used()
            for old in record.old.values():
                path = Path(old["path"])
                if old["kind"] == "file" and str(path) not in used:
                    path.unlink(missing_ok=True)
            self._firmware.keep(record.tag, vm_id)
            shutil.rmtree(self._place(vm_id), ignore_errors=True)

    def revert(self, vm_id: str) -> None:
        """The old disks stay: delete the new ones. Refused once its guest may have written to them. Idempotent."""
        with exclusive(self._place(vm_id)):
            record = self.record(vm_id)
            if record is None:
                return
            if record.released:
                raise Refused("it has been started from its new disks", subject=record.vm_name)
            self._must_be_off(record)
            domain = self._domain(vm_id)
            if record.definition:
                self._define(record.definition, record.vm_name)
            elif domain is not None:
                self._ask(domain, lambda: domain.undefineFlags(_UNDEFINE))
            self._firmware.give_back(record.tag, vm_id)
            LocalDisks(self._place(vm_id), self._vault.log(vm_id)).remove()
            shutil.rmtree(self._place(vm_id), ignore_errors=True)

    def _used(self) -> str:
        """The definitions of all VMs of the host in one text: what stands in it is in use."""
        domains = self._connection.ask(lambda connection: connection.listAllDomains(0), self.name)
        texts = []
        for domain in domains:
            try:
                texts += [domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)]
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise translate(error, self.name) from error
        return "\n".join(texts)

    def _define(self, xml: str, name: str) -> None:
        try:
            self._connection.get().defineXMLFlags(xml, 0)
        except libvirt.libvirtError as error:
            raise HypervisorError(
                f"the host refuses the definition: {error}",
                subject=name,
                hint="See whether it has the machine type and the devices of the VM",
            ) from error

    @staticmethod
    def _ask(domain: libvirt.virDomain, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except libvirt.libvirtError as error:
            raise translate(error, domain.name()) from error


def wait_agent(answers: Callable[[], bool], timeout_s: float) -> float | None:
    """Seconds until the guest's agent answered; None when it did not in time."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        if answers():
            return time.monotonic() - began
        time.sleep(_POLL_S)
    return None


def with_disks(definition: str, paths: Mapping[str, str]) -> str:
    """The definition with these images as its disks. Pure. Raises Refused for a disk that it does not have."""
    root = ET.fromstring(definition)
    found = set()
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        name = target.get("dev", "") if target is not None else ""
        if name in paths:
            _attach(disk, paths[name])
            found.add(name)
    missing = sorted(set(paths) - found)
    if missing:
        raise Refused(
            f"its definition at home has no disk {', '.join(missing)}",
            subject=root.findtext("name", ""),
            hint="Add the disk to the VM's definition (an empty image will do) and retry",
        )
    return ET.tostring(root, encoding="unicode")


def _attach(disk: ET.Element, path: str) -> None:
    driver = disk.find("driver")
    options = dict(driver.attrib) if driver is not None else {"name": "qemu"}
    for name in ("driver", "source", "backingStore", "mirror", "auth", "encryption"):
        for element in disk.findall(name):
            disk.remove(element)
    disk.set("type", "file")
    disk.insert(0, ET.Element("driver", options | {"type": "qcow2"}))
    disk.insert(1, ET.Element("source", {"file": path}))


def _image(disk: DiskXml) -> dict[str, str]:
    return {"path": disk.path, "format": disk.format, "kind": disk.kind}
