"""A libvirt host as a place where recovered VMs run. See `leeward.ports.hypervisor.RecoveryHost`."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu

from leeward.domain.errors import HypervisorError, Refused, StoreFull, VmGone
from leeward.domain.vm import FirmwareState, Power
from leeward.hypervisors.libvirt import power
from leeward.hypervisors.libvirt.connection import Connection, translate
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.hypervisors.libvirt.pulling import SLICE_S, turns
from leeward.hypervisors.libvirt.qemu_user import qemu_user
from leeward.hypervisors.passage import make_passable
from leeward.logs import log
from leeward.ports.hypervisor import Made, Owner
from leeward.recovery.libvirt import nics
from leeward.recovery.libvirt.definition import (
    MARK,
    Copy,
    Overlay,
    failover_copy,
    id_of,
    original_of,
    tag_of,
    test_copy,
    test_id,
)
from leeward.recovery.libvirt.firmware import FirmwarePlacer, Placed
from leeward.recovery.libvirt.links import plug_in
from leeward.recovery.libvirt.networks import Networks, bridge_of, name_of, shared_tag
from leeward.recovery.libvirt.screen import screenshot
from leeward.recovery.libvirt.starting import marks, start_tracked

# A guest that was shut down, or ended by an operator, is left as it is.
_DIED = (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED)
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
)


class LibvirtRecoveryHost:
    """storage: folder on the host for images; the daemon and QEMU see it under the same path. network: where cards go
    that would else be isolated."""

    def __init__(self, name: str, uri: str, storage: Path, network: str = "") -> None:
        self.name = name
        self._network = network
        self._connection = Connection(name, uri)
        self._networks = Networks(self._connection)
        # Between the moment that a shared network is there and that its first copy is, nobody may clear it away.
        self._sharing = threading.Lock()
        self._storage = storage
        self._firmware = FirmwarePlacer(storage, DaemonFiles(uri))

    # --- making -------------------------------------------------------------------------------------

    def opener(self) -> Owner:
        return qemu_user(self._connection)

    def require_room(self, needed: int, promised: int) -> None:
        """Raise StoreFull when the storage cannot take `needed` bytes more besides what others will still take."""
        make_passable(self._storage)
        free = shutil.disk_usage(self._storage).free
        if free - promised < needed:
            others = f", {promised:,} of them promised to other copies" if promised else ""
            raise StoreFull(
                f"the copy will need up to {needed:,} bytes, and {free:,} are free{others}",
                subject=str(self._storage),
                hint="Make room on the recovery host's storage, or clean up test copies",
            )

    def require_free(self, tag: str, vm_id: str, name: str) -> None:
        """Raise Refused when another VM of this host has the identity or the name."""
        for domain in self._connection.ask(lambda connection: connection.listAllDomains(0), self.name):
            with contextlib.suppress(libvirt.libvirtError):  # undefined since the list was made
                same = domain.UUIDString() == vm_id
                if not same and domain.name() != name:
                    continue
                if tag_of(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) == tag:
                    continue
                what = "with the same identity" if same else "of this name"
                raise Refused(
                    f"host {self.name} has a VM {what} already ({domain.name()})",
                    subject=name,
                    hint="Fail over to another host, or remove or rename that VM if it is no longer needed",
                )

    def create_test_vm(
        self,
        *,
        tag: str,
        name: str,
        definition: str,
        disks: Mapping[str, str],
        sizes: Mapping[str, int],
        firmware: FirmwareState,
        shared: str = "",
    ) -> Made:
        """Idempotent for a tag as long as the copy has not been started."""
        overlays = self._overlays(tag, disks, sizes)
        placed = self._place(tag, test_id(tag), definition, firmware)
        switch = shared_tag(shared) if shared else tag
        with self._sharing:
            copy = test_copy(
                definition,
                tag=tag,
                name=name,
                overlays=overlays,
                network=self._networks.isolated(switch, lasting=False),
                kvm=has_kvm(self._connection),
                placed=placed,
            )
            return self._define(copy, name, bridge_of(switch), overlays, ())

    def create_failover_vm(
        self,
        *,
        tag: str,
        definition: str,
        disks: Mapping[str, str],
        sizes: Mapping[str, int],
        networks: Mapping[str, str],
        firmware: FirmwareState,
    ) -> Made:
        """As `create_test_vm`, of the VM itself. networks: see `leeward.recovery.libvirt.nics`."""
        cards = nics.cards(definition, original_of(definition))
        plugs, warnings = nics.plan(cards, networks, self._networks.has, self._network)
        overlays = self._overlays(tag, disks, sizes)
        if any(plug.target == nics.ISOLATED for plug in plugs):
            self._networks.isolated(tag, lasting=True)
        copy = failover_copy(
            definition,
            tag=tag,
            overlays=overlays,
            plugs=plugs,
            isolated=name_of(tag),
            has=self._networks.has,
            kvm=has_kvm(self._connection),
            placed=self._place(tag, id_of(definition), definition, firmware),
        )
        network = ", ".join(dict.fromkeys(plug.target for plug in plugs))
        return self._define(copy, copy.name, network, overlays, warnings)

    def _place(self, tag: str, vm_id: str, definition: str, firmware: FirmwareState) -> Placed:
        return self._firmware.place(tag, vm_id, definition, firmware, tpm_possible=has_tpm(self._connection))

    def _define(
        self, copy: Copy, name: str, network: str, overlays: Mapping[str, Overlay], warnings: Sequence[str]
    ) -> Made:
        for warning in copy.warnings:
            log.info("the copy differs from the original", vm=name, what=warning)
        define(self._connection, copy.xml, name, "the recovery host")
        made = marks([overlay.path for overlay in overlays.values()])
        return Made(copy.vm_id, name, network, (*warnings, *copy.warnings), made)

    def _overlays(self, tag: str, disks: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, Overlay]:
        make_passable(self._storage)
        overlays = {}
        for disk, uri in disks.items():
            if uri.startswith("/"):
                overlays[disk] = Overlay(uri)
                continue
            parts = urlsplit(uri)
            path = self._storage / f"{tag}.{disk}.qcow2"
            _make_overlay(path, uri, sizes[disk])
            overlays[disk] = Overlay(str(path), parse_qs(parts.query)["socket"][0], parts.path.lstrip("/"))
        return overlays

    # --- running ------------------------------------------------------------------------------------

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

    def plug(self, vm_id: str) -> None:
        """Put the links of a failover copy up; see `leeward.recovery.libvirt.links`."""
        plug_in(self._connection.domain(vm_id), MARK)

    def running(self, vm_id: str) -> bool:
        domain = self._connection.domain(vm_id)
        try:
            return power.power_of(domain) is Power.RUNNING
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error

    def resume_after_error(self, vm_id: str, *, revive: bool) -> bool:
        """Let a VM go on that QEMU paused because of an I/O error; True when there was one to resume.

        QEMU pauses again at once while its NBD server is not back, or its storage is full: call again. Rarely QEMU
        itself dies when its NBD server does: with `revive` the copy is started again then, on the overlay that it
        had, as after a power cut.
        """
        domain = self._connection.domain(vm_id)
        try:
            state, reason = domain.state()
            if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
                domain.resume()
                return True
            if revive and state == libvirt.VIR_DOMAIN_SHUTOFF and reason in _DIED:
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

    def screenshot(self, vm_id: str) -> bytes:
        return screenshot(self._connection, vm_id)

    # --- hydration ----------------------------------------------------------------------------------

    def hydrate(self, vm_id: str, slice_s: float = SLICE_S) -> list[str]:
        """Go on pulling while the VM runs; the disks that still hang on NBD. Empty: the vault is no longer needed.

        A pull whose server dies vanishes exactly as one that succeeded, so only the definition tells.
        """
        domain = self._connection.domain(vm_id)
        try:
            left = _on_nbd(domain.XMLDesc(0))
            if left and domain.isActive():
                turns(self._connection.uri, vm_id).pull(domain, left, slice_s)
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error
        return left

    # --- unmaking -----------------------------------------------------------------------------------

    def destroy(self, tag: str, *, keep_images: bool = False) -> None:
        for domain in self._copies(tag):
            try:
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(_UNDEFINE)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise translate(error, tag) from error
        self._networks.remove(tag)
        with self._sharing:
            self._networks.sweep()
        overlays = [] if keep_images else list(self._storage.glob(f"{tag}.*.qcow2"))
        self._require_unused(overlays)
        for overlay in overlays:
            overlay.unlink(missing_ok=True)
        self._firmware.remove(tag)

    def _require_unused(self, images: Sequence[Path]) -> None:
        """A VM that somebody defined anew, without our mark, is no longer ours to remove, and its images are not."""
        if not images:
            return
        for domain in self._connection.ask(lambda connection: connection.listAllDomains(0), self.name):
            with contextlib.suppress(libvirt.libvirtError):
                text = domain.XMLDesc(0)
                used = [image for image in images if f"'{image}'" in text]
                if used:
                    raise Refused(
                        f"VM {domain.name()} uses {used[0]} and is no longer marked as a copy of ours",
                        subject=domain.name(),
                        hint="Undefine that VM first if it is no longer needed",
                    )

    def _copies(self, tag: str) -> list[libvirt.virDomain]:
        domains = self._connection.ask(lambda connection: connection.listAllDomains(0), self.name)
        found = []
        for domain in domains:
            with contextlib.suppress(libvirt.libvirtError):
                if tag_of(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) == tag:
                    found.append(domain)
        return found

    def exists(self, vm_id: str) -> bool:
        try:
            self._connection.domain(vm_id)
        except VmGone:
            return False
        return True


def define(connection: Connection, xml: str, name: str, who: str) -> None:
    """who: the host, in words."""
    try:
        connection.get().defineXMLFlags(xml, 0)
    except libvirt.libvirtError as error:
        raise HypervisorError(
            f"{who} refuses the definition: {error}",
            subject=name,
            hint="See whether it has the machine type and the devices of the VM",
        ) from error


def has_kvm(connection: Connection) -> bool:
    """Asked of libvirt; /dev/kvm that exists but cannot run a guest shows only when a guest is started."""
    try:
        connection.get().getDomainCapabilities(None, "x86_64", None, "kvm", 0)
    except libvirt.libvirtError:
        return False
    return True


def has_tpm(connection: Connection) -> bool:
    """Whether the host can emulate a TPM."""
    try:
        told = connection.get().getDomainCapabilities(None, "x86_64", None, "qemu", 0)
    except libvirt.libvirtError:
        return False
    return ET.fromstring(told).find("devices/tpm/enum[@name='backendModel']/[value='emulator']") is not None


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
