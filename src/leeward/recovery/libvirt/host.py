"""A libvirt host as a place where recovered VMs run. See `leeward.ports.hypervisor.RecoveryHost`."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu

from leeward.domain.errors import HypervisorError, VmGone
from leeward.domain.vm import Power
from leeward.hypervisors.libvirt import power
from leeward.hypervisors.libvirt.connection import Connection, call, translate
from leeward.logs import log
from leeward.recovery.libvirt.definition import Copy, Overlay, tag_of, test_copy

# A guest that was shut down, or ended by an operator, is left as it is.
_DIED = (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED)
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
)


class LibvirtRecoveryHost:
    """storage: folder on the host for overlays; the daemon and QEMU see it under the same path."""

    def __init__(self, name: str, uri: str, storage: Path) -> None:
        self.name = name
        self._connection = Connection(name, uri)
        self._storage = storage

    # --- making -------------------------------------------------------------------------------------

    def create_test_vm(
        self, *, tag: str, name: str, definition: str, disks: Mapping[str, str], sizes: Mapping[str, int]
    ) -> str:
        """Idempotent for a tag as long as the copy has not been started."""
        self._storage.mkdir(parents=True, exist_ok=True)
        overlays = {}
        for disk, uri in disks.items():
            parts = urlsplit(uri)
            socket = parse_qs(parts.query)["socket"][0]
            path = self._overlay(tag, disk)
            _make_overlay(path, uri, sizes[disk])
            overlays[disk] = Overlay(str(path), socket, parts.path.lstrip("/"))
        network = self._make_network(tag)
        copy = test_copy(definition, tag=tag, name=name, overlays=overlays, network=network, kvm=self._has_kvm())
        for warning in copy.warnings:
            log.info("the copy differs from the original", vm=name, what=warning)
        self._define(copy, name)
        return copy.vm_id

    def _define(self, copy: Copy, name: str) -> None:
        connection = self._connection.get()
        try:
            connection.defineXMLFlags(copy.xml, 0)
        except libvirt.libvirtError as error:
            raise HypervisorError(
                f"the recovery host refuses the definition: {error}",
                subject=name,
                hint="See whether it has the machine type and the devices of the VM",
            ) from error

    def _overlay(self, tag: str, disk: str) -> Path:
        return self._storage / f"{tag}.{disk}.qcow2"

    def _make_network(self, tag: str) -> str:
        """A switch without any way out: no uplink, no address, no DHCP. Returns the network's name."""
        name = f"leeward-{tag}"
        connection = self._connection.get()
        with contextlib.suppress(libvirt.libvirtError):
            connection.networkLookupByName(name)
            return name
        xml = f"<network><name>{name}</name><bridge name='{bridge_of(tag)}' stp='off' delay='0'/></network>"
        call(name, connection.networkCreateXML, xml)
        return name

    def _has_kvm(self) -> bool:
        """Asked of libvirt; /dev/kvm that exists but cannot run a guest shows only when a guest is started."""
        try:
            self._connection.get().getDomainCapabilities(None, "x86_64", None, "kvm", 0)
        except libvirt.libvirtError:
            return False
        return True

    # --- running ------------------------------------------------------------------------------------

    def start(self, vm_id: str) -> None:
        power.start(self._connection.domain(vm_id))

    def running(self, vm_id: str) -> bool:
        domain = self._connection.domain(vm_id)
        try:
            return power.power_of(domain) is Power.RUNNING
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error

    def resume_after_error(self, vm_id: str) -> bool:
        """Let a VM go on that QEMU paused because of an I/O error; True when there was one to resume.

        QEMU pauses again at once while its NBD server is not back: call again. Rarely QEMU itself dies when its NBD
        server does: the copy is started again then, on the overlay that it had, as after a power cut.
        """
        domain = self._connection.domain(vm_id)
        try:
            state, reason = domain.state()
            if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
                domain.resume()
                return True
            if state == libvirt.VIR_DOMAIN_SHUTOFF and reason in _DIED:
                domain.create()
                return True
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error
        return False

    def agent_answers(self, vm_id: str) -> bool:
        """True when the guest's agent answers a ping: its system has come up."""
        domain = self._connection.domain(vm_id)
        try:
            reply = libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": "guest-ping"}), 1, 0)
        except libvirt.libvirtError:
            return False
        return bool(reply)

    def has_agent(self, vm_id: str) -> bool:
        return "org.qemu.guest_agent.0" in self._connection.domain(vm_id).XMLDesc(0)

    def bridge(self, tag: str) -> str:
        """The isolated bridge of a test copy, on the host."""
        return bridge_of(tag)

    # --- hydration ----------------------------------------------------------------------------------

    def hydrate(self, vm_id: str) -> list[str]:
        """Go on pulling; the disks that still hang on NBD. Empty = the vault is no longer needed.

        A pull whose server dies vanishes exactly as one that succeeded, so only the live definition tells.
        """
        domain = self._connection.domain(vm_id)
        try:
            xml = domain.XMLDesc(0)
            left = _on_nbd(xml)
            for disk in left:
                if not domain.blockJobInfo(disk, 0):
                    domain.blockPull(disk, 0, 0)
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error
        return left

    # --- unmaking -----------------------------------------------------------------------------------

    def destroy(self, tag: str) -> None:
        for domain in self._copies(tag):
            try:
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(_UNDEFINE)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise translate(error, tag) from error
        self._destroy_network(f"leeward-{tag}")
        for overlay in self._storage.glob(f"{tag}.*.qcow2"):
            overlay.unlink(missing_ok=True)

    def _copies(self, tag: str) -> list[libvirt.virDomain]:
        domains = self._connection.ask(lambda connection: connection.listAllDomains(0), self.name)
        found = []
        for domain in domains:
            with contextlib.suppress(libvirt.libvirtError):
                if tag_of(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) == tag:
                    found.append(domain)
        return found

    def _destroy_network(self, name: str) -> None:
        try:
            network = self._connection.get().networkLookupByName(name)
            if network.isActive():
                network.destroy()
            if network.isPersistent():
                network.undefine()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                raise translate(error, name) from error

    def exists(self, vm_id: str) -> bool:
        try:
            self._connection.domain(vm_id)
        except VmGone:
            return False
        return True


def bridge_of(tag: str) -> str:
    """Interface names have at most 15 characters."""
    return f"lwt-{tag}"[:15]


def _make_overlay(path: Path, uri: str, size: int) -> None:
    """An empty qcow2 on top of the NBD export. An existing one is kept: it may hold a guest's writes."""
    if path.exists():
        return
    draft = path.with_suffix(".new")
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", uri, "-F", "raw", str(draft), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HypervisorError(
            f"the overlay cannot be made: {done.stderr.strip()}",
            subject=str(path),
            hint="See whether the recovery host's storage has room",
        )
    draft.replace(path)


def _on_nbd(xml: str) -> list[str]:
    """Targets of disks that have an NBD source anywhere in their chain."""
    found = []
    for disk in ET.fromstring(xml).findall("devices/disk"):
        target = disk.find("target")
        if target is not None and disk.find(".//source[@protocol='nbd']") is not None:
            found.append(target.get("dev", ""))
    return found
