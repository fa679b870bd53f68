"""A libvirt host behind the hypervisor port."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import libvirt

from leeward.domain.errors import HostBusy, HypervisorError, TrackingLost, VmGone
from leeward.domain.vm import Consistency, Disk, FirmwareState, Power, VmFacts
from leeward.hypervisors.libvirt import bitmaps, domain_xml, power
from leeward.hypervisors.libvirt.checkpoints import clear_checkpoints, clear_job, name_of, ours, places, wait_idle
from leeward.hypervisors.libvirt.connection import Connection, call, call_within, translate
from leeward.hypervisors.libvirt.cycle import Job, LiveCycle, connect
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.hypervisors.libvirt.domain_xml import DiskXml, DomainXml
from leeward.hypervisors.libvirt.emulator import Emulators
from leeward.hypervisors.libvirt.firmware import FirmwareReader
from leeward.hypervisors.libvirt.freezing import Freezer
from leeward.hypervisors.libvirt.offline import OfflineCycle, image_mark
from leeward.hypervisors.libvirt.pulling import BackupTurn, turns
from leeward.hypervisors.libvirt.qemu_user import qemu_user
from leeward.hypervisors.libvirt.questions import Questions
from leeward.hypervisors.libvirt.scratch import Scratch, short_name
from leeward.hypervisors.libvirt.settling import GRACE_S, Settling
from leeward.hypervisors.libvirt.sizes import DiskSizes, image_version
from leeward.hypervisors.passage import make_way

# A backup begins in some tens of milliseconds; behind another job libvirt would wait for as long as that takes.
_BEGIN_TIMEOUT_S = 30.0
# Before a guest is asked to shut down: a cycle ends in well under a second, a first copy may take hours.
_LAST_BACKUP_S = 5.0
_SOCKET = "leeward"
# See `scratch` for why.
_BEGIN_FLAGS = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL


class LibvirtHost:
    """See `leeward.ports.hypervisor.Hypervisor`.

    scratch: folder for scratch files; QEMU writes there what the guest overwrites during a cycle, so it needs room
    for the churn of one cycle. Whatever user QEMU runs as must be able to pass through the folders above it.
    agent_grace_s: for how long a VM that was just started is left alone until its guest agent is there.
    """

    def __init__(self, name: str, uri: str, scratch: Path, *, agent_grace_s: float = GRACE_S) -> None:
        # Nothing that QEMU itself has to answer goes over it.
        self._connection = Connection(name, uri)
        # By VM and use; see `_line`.
        self._lines: dict[tuple[str, str], Connection] = {}
        self._questions = Questions(name, uri)
        # Why each VM cannot be protected, "" when it can, as of the last answer.
        self._reasons: dict[str, str] = {}
        self._scratch = scratch
        # VMs on which nothing of ours can be left over, with the base that is on them.
        self._clean: dict[str, str | None] = {}
        # Which image was which disk when that was last known to be as the base knows it.
        self._places: dict[str, dict[str, str]] = {}
        self._sizes = DiskSizes()
        self._emulators = Emulators()
        self._passable = False
        self._lock = threading.Lock()
        self._settling = Settling(agent_grace_s)
        self._files = DaemonFiles(uri)
        self._firmware = FirmwareReader(self._files)

    @property
    def name(self) -> str:
        return self._connection.name

    def _line(self, vm_id: str, use: str = "") -> Connection:
        """A connection of the VM's own.

        libvirt's client can lose the wake-up for a call that is made while another thread's waits for its answer: it
        then waits as long as that one. On one connection a QEMU that hangs would hold up the cycles of all VMs.

        use: libvirtd serves five requests of a connection at a time, and some must not wait for slow ones.
        """
        with self._lock:
            return self._lines.setdefault((vm_id, use), Connection(self.name, self._connection.uri))

    def _domain(self, vm_id: str) -> libvirt.virDomain:
        """Raises VmGone, HostUnavailable."""
        return self._line(vm_id).domain(vm_id)

    # --- facts --------------------------------------------------------------------------------------

    def vms(self) -> list[VmFacts]:
        domains = self._connection.ask(lambda connection: connection.listAllDomains(0), self.name)
        found = []
        for domain in domains:
            with suppress(VmGone):  # undefined since the list was made
                found.append(self._facts(domain))
        self._let_go({facts.id for facts in found})
        return sorted(found, key=lambda facts: facts.name)

    def _let_go(self, there: Collection[str]) -> None:
        """Of what is kept for VMs that are gone. A line is closed once nobody has a domain of it any more."""
        with self._lock:
            self._lines = {key: line for key, line in self._lines.items() if key[0] in there}
            self._reasons = {vm_id: reason for vm_id, reason in self._reasons.items() if vm_id in there}

    def vm(self, vm_id: str) -> VmFacts:
        return self._facts(self._connection.domain(vm_id))

    def _facts(self, domain: libvirt.virDomain) -> VmFacts:
        """Never waits for QEMU for long: what it does not tell now is as it was last told."""
        vm_id = domain.UUIDString()
        try:
            live = domain_xml.parse(domain.XMLDesc(0))
            try:
                disks, reason = self._questions.ask(vm_id, lambda asked: self._look(asked, vm_id, live))
            except HostBusy as error:
                disks = tuple(Disk(disk.target, self._sizes.last(vm_id, disk.target)) for disk in live.disks)
                with self._lock:
                    reason = self._reasons.get(vm_id, f"its disks cannot be read: {error.message}")
            else:
                with self._lock:
                    self._reasons[vm_id] = reason
            return self._make_facts(domain, live, disks, reason)
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error

    def _look(self, domain: libvirt.virDomain, vm_id: str, live: DomainXml) -> tuple[tuple[Disk, ...], str]:
        """Its disks, and why it cannot be protected."""
        reason = self._unsupported(domain, live)
        disks = []
        with turns(self._connection.uri, vm_id).asking() as allowed:
            for disk in live.disks:
                size = self._sizes.last(vm_id, disk.target)
                try:
                    if allowed:
                        size = self._sizes.now(vm_id, domain, disk, self._files.path(disk.path))
                except libvirt.libvirtError as error:
                    reason = reason or f"disk {disk.target} cannot be read: {error}"
                    size = 0
                disks.append(Disk(disk.target, size))
        self._sizes.note(vm_id, disks)
        return tuple(disks), reason

    def _unsupported(self, domain: libvirt.virDomain, live: DomainXml) -> str:
        return domain_xml.unsupported(live, self._emulators.version(domain) if live.io_threads else 0)

    def _make_facts(
        self,
        domain: libvirt.virDomain,
        live: DomainXml,
        disks: tuple[Disk, ...],
        reason: str = "",
        firmware: FirmwareState | None = None,
    ) -> VmFacts:
        # The inactive definition is what the VM is started from; the live one has runtime details (aliases, ports).
        flags = libvirt.VIR_DOMAIN_XML_SECURE
        if domain.isPersistent():
            flags |= libvirt.VIR_DOMAIN_XML_INACTIVE
        return VmFacts(
            id=domain.UUIDString(),
            name=live.name,
            host=self.name,
            power=power.power_of(domain),
            disks=disks,
            memory_mib=live.memory_mib,
            vcpus=live.vcpus,
            definition=domain.XMLDesc(flags),
            unsupported=reason,
            lacks=live.lacks,
            firmware=firmware,
        )

    def idle_mark(self, vm_id: str) -> str | None:
        domain = self._domain(vm_id)
        try:
            if domain.isActive():
                return None
            xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error
        parsed = domain_xml.parse(xml)
        images, firmware = image_mark([disk.path for disk in parsed.disks]), self._firmware.mark(vm_id, parsed)
        return hashlib.sha256(f"{xml}\n{images}\n{firmware}".encode()).hexdigest()

    # --- power --------------------------------------------------------------------------------------

    def start(self, vm_id: str) -> None:
        power.start(self._domain(vm_id))

    def shutdown(self, vm_id: str, timeout_s: float) -> bool:
        domain = self._domain(vm_id)
        began = time.monotonic()
        self._settling.leaves(vm_id, call(vm_id, domain.ID))
        turns(self._connection.uri, vm_id).wait_backups(min(timeout_s / 2, _LAST_BACKUP_S))
        return power.shutdown(domain, max(timeout_s - (time.monotonic() - began), 0.0))

    def force_off(self, vm_id: str) -> None:
        power.force_off(self._domain(vm_id))

    def pause(self, vm_id: str) -> bool:
        return power.pause(self._line(vm_id, "control").domain(vm_id))

    def resume(self, vm_id: str) -> bool:
        return power.resume(self._line(vm_id, "control").domain(vm_id))

    def autostart(self, vm_id: str) -> bool:
        return bool(call(vm_id, self._domain(vm_id).autostart))

    def set_autostart(self, vm_id: str, wanted: bool) -> None:
        call(vm_id, self._domain(vm_id).setAutostart, int(wanted))

    # --- cycles -------------------------------------------------------------------------------------

    def open_cycle(
        self,
        vm_id: str,
        *,
        base: str | None,
        new: str,
        consistency: Consistency = Consistency.CRASH,
        moment: AbstractContextManager[None] | None = None,
    ) -> HostCycle:
        domain = self._domain(vm_id)
        if not self._scratch.is_dir() or not self._passable:
            make_way(self._scratch, qemu_user(self._line(vm_id)))
            self._passable = True
        try:
            live = domain_xml.parse(domain.XMLDesc(0))
            state = power.power_of(domain)
            running = state is not Power.OFF
        except libvirt.libvirtError as error:
            raise translate(error, vm_id) from error
        reason = self._unsupported(domain, live)
        if reason:
            raise HypervisorError(f"the VM cannot be protected: {reason}", subject=live.name)
        # A recovered VM may still be pulled out of the vault; the two take turns.
        turn = turns(self._connection.uri, vm_id).backup(domain)
        try:
            self._clear(vm_id, domain, base, running)
            self._same_places(vm_id, domain, base, live)
            if state is Power.RUNNING:
                if live.agent == "disconnected":
                    self._settling.wait(vm_id, domain.ID(), lambda: _agent(vm_id, domain) == "disconnected")
                self._not_leaving(vm_id, domain)
            if running:
                cycle: LiveCycle | OfflineCycle
                cycle, token = self._open_live(vm_id, domain, live, base, new, consistency, moment)
            else:
                cycle, token = self._open_offline(domain, live, base, moment or nullcontext()), base or ""
            return HostCycle(self, vm_id, cycle, base, token, turn)
        except BaseException:
            turn.close()
            self._set_clean(vm_id, None, clean=False)
            raise

    def _not_leaving(self, vm_id: str, domain: libvirt.virDomain) -> None:
        """Asked when a shutdown that begins now already waits for us (`Turns.wait_backups`): from here on there is a
        backup. Raises HostBusy."""
        if self._settling.leaving(vm_id, call(vm_id, domain.ID)) and _agent(vm_id, domain) == "connected":
            raise HostBusy("the guest is shutting down", subject=vm_id, hint="Changes stay tracked meanwhile")

    def _clear(self, vm_id: str, domain: libvirt.virDomain, base: str | None, running: bool) -> None:
        """Remove leftovers of dead runs. Skipped while we know that there are none: it costs several calls.

        Checkpoints only while the VM runs: else their bitmaps would stay in the images for good.
        """
        with self._lock:
            if vm_id in self._clean and self._clean[vm_id] == base:
                return
        if running:
            clear_job(domain, self._scratch)
            self._freezer(vm_id, domain).thaw_leftover()
        keep = name_of(base) if base else None
        found = clear_checkpoints(domain, keep) if running else keep in [each.getName() for each in ours(domain)]
        if base and not found:
            raise TrackingLost("the checkpoint of the newest recovery point is gone", subject=domain.name())

    def _same_places(self, vm_id: str, domain: libvirt.virDomain, base: str | None, live: DomainXml) -> None:
        """Raise TrackingLost when an image is another disk now than it was for the base: it bears the same tracking,
        but the vault has it under its former name."""
        now = {disk.target: disk.path for disk in live.disks}
        if base and self._places.get(vm_id) == now:
            return
        self._places.pop(vm_id, None)
        if not base:
            return
        before = {path: target for target, path in places(domain, name_of(base)).items()}
        for target, path in now.items():
            if before.get(path, target) != target:
                raise TrackingLost(f"disk {target} was disk {before[path]} before", subject=live.name)
        self._places[vm_id] = now

    def _set_clean(self, vm_id: str, base: str | None, *, clean: bool) -> None:
        with self._lock:
            if clean:
                self._clean[vm_id] = base
            else:
                self._clean.pop(vm_id, None)

    def _freezer(self, vm_id: str, domain: libvirt.virDomain) -> Freezer:
        return Freezer(domain, self._scratch / f"{vm_id}.frozen")

    def _open_live(
        self,
        vm_id: str,
        domain: libvirt.virDomain,
        live: DomainXml,
        base: str | None,
        new: str,
        consistency: Consistency,
        moment: AbstractContextManager[None] | None,
    ) -> tuple[LiveCycle, str]:
        """The cycle, and the token of the tracking point that it made, "" when there is none."""
        untracked = domain_xml.untracked(live, lambda disk: image_version(self._files.path(disk.path)))
        warnings = [untracked] if untracked else []
        if not call(live.name, domain.isPersistent):
            warnings.append("the VM runs but is not defined any more: define it again, or it is gone when it stops")
        if power.is_halted(domain):
            warnings.append(
                "the VM stands still since its storage failed: make room there if it is full, and resume it"
            )
        targets = [disk.target for disk in live.disks]
        scratch = Scratch(self._scratch, vm_id)
        socket = self._files.vm_folder(domain.ID()) / _SOCKET
        job = Job(
            domain,
            scratch,
            lambda: self._files.path(socket),
            name_of(base) if base else None,
            None if untracked else name_of(new),
            lambda: self._domain(vm_id),
        )
        backup = domain_xml.backup_xml(job.base, targets, str(socket), str(scratch.prefix))
        checkpoint = domain_xml.checkpoint_xml(job.new, targets) if job.new else None
        wait_idle(domain)
        # Waits for a change that goes on (a disk is being resized), and asks QEMU nothing unless a block job runs.
        call(vm_id, domain.blockJobInfo, targets[0], 0)
        made = self._sizes_of(vm_id, domain, live)
        scratch.make(made)
        freezer = self._freezer(vm_id, domain)
        reached = Consistency.CRASH
        if consistency is Consistency.APP:
            trouble = freezer.freeze()
            if trouble:
                warnings.append(trouble)
            else:
                reached = Consistency.APP
        try:
            with moment or nullcontext():
                # Freezing and waiting for others take their time. See `DiskSizes.now` for what other sizes do.
                if (moment or reached is Consistency.APP) and self._sizes_of(vm_id, domain, live) != made:
                    raise HostBusy("one of its disks is being resized", subject=live.name)
                # The clock before the begin: the instant must never be told as later than it was.
                time_ns = time.time_ns()
                call_within(_BEGIN_TIMEOUT_S, live.name, domain.backupBegin, backup, checkpoint, _BEGIN_FLAGS)
            firmware, troubles = self._firmware.read(vm_id, live, running=True)
            warnings += troubles
        finally:
            if reached is Consistency.APP:
                freezer.thaw()
        try:
            connections = connect(job.socket(), targets, base is not None)
        except BaseException:
            LiveCycle(
                job,
                self._make_facts(domain, live, ()),
                {},
                time_ns=time_ns,
                consistency=reached,
                warnings=(),
                tracking="",
            ).abort()
            raise
        sizes = tuple(Disk(target, connections[target].size) for target in targets)
        self._sizes.note(vm_id, sizes)
        cycle = LiveCycle(
            job,
            self._make_facts(domain, live, sizes, firmware=firmware),
            connections,
            time_ns=time_ns,
            consistency=reached,
            warnings=tuple(warnings),
            tracking="" if untracked else new,
        )
        return cycle, "" if untracked else new

    def _sizes_of(self, vm_id: str, domain: libvirt.virDomain, live: DomainXml) -> dict[str, int]:
        return {disk.target: self._size(vm_id, domain, disk) for disk in live.disks}

    def _size(self, vm_id: str, domain: libvirt.virDomain, disk: DiskXml) -> int:
        return int(call(vm_id, self._sizes.now, vm_id, domain, disk, self._files.path(disk.path)))

    def _open_offline(
        self, domain: libvirt.virDomain, live: DomainXml, base: str | None, moment: AbstractContextManager[None]
    ) -> OfflineCycle:
        vm_id = domain.UUIDString()
        sizes = tuple(Disk(disk.target, self._size(vm_id, domain, disk)) for disk in live.disks)
        cycle = OfflineCycle(
            lambda: self._domain(vm_id),
            self._make_facts(domain, live, sizes),
            live.disks,
            self._scratch / f"{short_name(vm_id)}.off",
            base=name_of(base) if base else None,
            tracking=base or "",
        )
        try:
            with moment:
                cycle.check()
                cycle.time_ns = time.time_ns()
        except BaseException:
            cycle.abort()
            raise
        # Only now: from here on the cycle sees a start of the VM.
        firmware, warnings = self._firmware.read(vm_id, live, running=False)
        cycle.vm, cycle.warnings = replace(cycle.vm, firmware=firmware), tuple(warnings)
        return cycle

    def forget(self, vm_id: str) -> None:
        domain = self._domain(vm_id)
        self._set_clean(vm_id, None, clean=False)
        turn = turns(self._connection.uri, vm_id).backup(domain)
        try:
            if domain.isActive():
                clear_job(domain, self._scratch)
                self._freezer(vm_id, domain).thaw_leftover()
            Scratch(self._scratch, vm_id).remove()
            clear_checkpoints(domain, None, off_too=True)
            if not domain.isActive():
                bitmaps.remove_ours(domain_xml.parse(domain.XMLDesc(0)).disks)
        finally:
            turn.close()
        left = [checkpoint.getName() for checkpoint in ours(domain)]
        if left:
            raise HypervisorError(f"checkpoints are left: {', '.join(left)}", subject=domain.name())


class HostCycle:
    """A cycle that tells its host, when it ends, whether the VM is known to be clean."""

    def __init__(
        self,
        host: LibvirtHost,
        vm_id: str,
        cycle: LiveCycle | OfflineCycle,
        base: str | None,
        new: str,
        turn: BackupTurn,
    ) -> None:
        self._turn = turn
        self._host = host
        self._vm_id = vm_id
        self._cycle = cycle
        self._base = base
        self._new = new
        self._done = False
        self.time_ns = cycle.time_ns
        self.consistency = cycle.consistency
        self.warnings = cycle.warnings
        self.vm = cycle.vm
        self.tracking = cycle.tracking
        self.superset = cycle.superset
        self.changes = cycle.changes
        self.reader = cycle.reader
        self.check = cycle.check
        self.release = cycle.release

    def commit(self) -> None:
        if self._done:
            raise HypervisorError("the cycle is over already", subject=self.vm.name)
        try:
            self._cycle.commit()
        finally:
            self._done = True
            self._turn.close()
            self._host._set_clean(self._vm_id, self._new or None, clean=self._cycle.clean)

    def abort(self) -> None:
        if self._done:
            return
        self._done = True
        self._cycle.abort()
        self._turn.close()
        self._host._set_clean(self._vm_id, self._base, clean=self._cycle.clean)

    def __enter__(self) -> HostCycle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()


def _agent(vm_id: str, domain: libvirt.virDomain) -> str:
    """As `DomainXml.agent`, now. Raises HypervisorError."""
    return domain_xml.parse(call(vm_id, domain.XMLDesc, 0)).agent
