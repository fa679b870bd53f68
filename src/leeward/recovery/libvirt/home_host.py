"""A libvirt host to which a VM comes home."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import libvirt

from leeward.domain.errors import VmGone
from leeward.domain.vm import FirmwareState, Power
from leeward.hypervisors.libvirt import domain_xml, power
from leeward.hypervisors.libvirt.connection import Connection, call
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.logs import log
from leeward.recovery.libvirt import home_definition
from leeward.recovery.libvirt.firmware import FirmwarePlacer, at_home
from leeward.recovery.libvirt.host import define, has_kvm, has_tpm
from leeward.recovery.libvirt.starting import start_tracked
from leeward.recovery.libvirt.uses import files_in_use

_DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
)


class HomeHost:
    """storage: folder for what is not kept beside the VM's disks."""

    def __init__(self, name: str, uri: str, storage: Path) -> None:
        self._connection = Connection(name, uri)
        self._firmware = FirmwarePlacer(storage, DaemonFiles(uri))

    def definition(self, vm_id: str) -> str:
        """ "" when the VM is not defined here."""
        try:
            domain = self._connection.domain(vm_id)
        except VmGone:
            return ""
        return str(call(domain.name(), domain.XMLDesc, _DEFINITION))

    def is_off(self, vm_id: str) -> bool:
        """One that is not defined here is off."""
        try:
            domain = self._connection.domain(vm_id)
        except VmGone:
            return True
        return bool(call(domain.name(), power.power_of, domain) is Power.OFF)

    def give(
        self, vm_id: str, name: str, definition: str, paths: Mapping[str, str], tag: str, firmware: FirmwareState
    ) -> list[str]:
        """Let the VM use these images and this state of its firmware: one redefinition.

        definition: for a host on which it is not defined. Returns warnings. Raises Refused for a disk that its
        definition does not have.
        """
        now = self.definition(vm_id)
        if now:
            self._drop_memory(vm_id)
        base = now or home_definition.first_definition(definition)
        tpm = has_tpm(self._connection)
        # What was there already is set aside.
        placed = self._firmware.place(tag, vm_id, base, firmware, tpm_possible=tpm)
        if now:
            self._define(at_home(home_definition.with_images(now, paths, tag), placed), name)
            return [f"the VM keeps the TPM that it had at home: {placed.no_tpm}"] if placed.no_tpm else []
        kvm = has_kvm(self._connection)
        xml, warnings = home_definition.for_new_host(definition, paths, tag, placed, kvm=kvm)
        self._define(xml, name)
        return warnings

    def _drop_memory(self, vm_id: str) -> None:
        """A VM that was saved here (`virsh managedsave`, or the host's shutdown) has its memory in a file, with the
        definition of then: the next start would bring both back, and with them the old disks."""
        domain = self._connection.domain(vm_id)
        if call(domain.name(), domain.hasManagedSaveImage, 0):
            log.warning("what the VM had in its memory when it was saved here is dropped", vm=domain.name())
            call(domain.name(), domain.managedSaveRemove, 0)

    def take_back(self, vm_id: str, name: str, before: str, paths: Mapping[str, str], tag: str) -> None:
        """The reverse. before: its definition as it was, "" when it was not defined: then it is undefined."""
        now = self.definition(vm_id)
        if now and before:
            self._define(before, name)
        elif now and {disk.path for disk in domain_xml.parse(now).disks} & set(paths.values()):
            domain = self._connection.domain(vm_id)
            call(domain.name(), domain.undefineFlags, _UNDEFINE)
        self._firmware.give_back(tag, vm_id)

    def keep_firmware(self, tag: str, vm_id: str) -> None:
        """What was set aside of the firmware is not needed any more. Idempotent."""
        self._firmware.keep(tag, vm_id)

    def start(self, vm_id: str) -> None:
        power.start(self._connection.domain(vm_id))

    def start_tracked(
        self,
        vm_id: str,
        token: str,
        made: Mapping[str, str],
        release: Callable[[], None],
        on_step: Callable[[str], None],
    ) -> bool:
        """See `leeward.recovery.libvirt.starting`."""
        return start_tracked(self._connection.domain(vm_id), token, made, release, on_step)

    def files_in_use(self) -> set[Path]:
        """See `leeward.recovery.libvirt.uses`."""
        return files_in_use(self._connection)

    def _define(self, xml: str, name: str) -> None:
        define(self._connection, xml, name, "the host")
