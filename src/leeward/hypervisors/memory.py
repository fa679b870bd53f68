"""A hypervisor in memory: byte arrays with change tracking, for simulations and for tests of what is above the port.

It keeps to the port's contract, hard edges included; tests/ports holds it to what a real host does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE, Runs, block_count
from leeward.domain.errors import HostBusy, HypervisorError, TrackingLost, VmGone
from leeward.domain.vm import Consistency, Disk, FirmwareState, Power, VmFacts


@dataclass(slots=True)
class MemoryVm:
    """A VM and what its guest, its administrator or an accident can do to it.

    disks: contents by name. points: tracking points, oldest first, each with the blocks dirtied since it, for the
    disks that it knows. job: the cycle that is open on the running VM. run: counts the starts.
    untracked: disks whose changes the host cannot track. foreign_job: somebody else's backup or migration runs.
    saved: it is off with its memory in a file.
    """

    facts: VmFacts
    disks: dict[str, bytearray]
    points: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    job: MemoryCycle | None = None
    run: int = 0
    untracked: set[str] = field(default_factory=set)
    foreign_job: bool = False
    has_agent: bool = True
    obeys_shutdown: bool = True
    saved: bool = False
    autostart: bool = False
    firmware: FirmwareState = field(default_factory=FirmwareState)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def write(self, disk: str, offset: int, data: bytes) -> None:
        """What a guest's write does: change the contents and dirty the blocks in every tracking point."""
        with self.lock:
            self.disks[disk][offset : offset + len(data)] = data
            self._dirty(disk, offset, offset + len(data))

    def _dirty(self, disk: str, start: int, end: int) -> None:
        for point in self.points.values():
            if disk in point:
                point[disk].update(range(start // BLOCK_SIZE, block_count(end)))

    def resize(self, disk: str, size: int) -> None:
        with self.lock:
            contents = self.disks[disk]
            # What is cut off comes back as zeros if the disk grows again.
            self._dirty(disk, size, len(contents))
            del contents[size:]
            contents.extend(bytes(size - len(contents)))
            self.tell_disks()

    def add_disk(self, disk: str, contents: bytes, *, tracked: bool = True) -> None:
        """Also in place of one of that name."""
        with self.lock:
            self._forget_disk(disk)
            self.disks[disk] = bytearray(contents)
            if not tracked:
                self.untracked.add(disk)
            self.tell_disks()

    def remove_disk(self, disk: str) -> None:
        with self.lock:
            self._forget_disk(disk)
            self.tell_disks()

    def _forget_disk(self, disk: str) -> None:
        self.disks.pop(disk, None)
        self.untracked.discard(disk)
        for point in self.points.values():
            point.pop(disk, None)

    def tell_disks(self) -> None:
        disks = tuple(Disk(name, len(contents)) for name, contents in self.disks.items())
        self.facts = replace(self.facts, disks=disks)

    def set_power(self, power: Power) -> None:
        with self.lock:
            self.saved = False
            if power is Power.OFF:
                self.job = None  # it lived in the VM's process
            elif self.facts.power is Power.OFF:
                self.run += 1
            self.facts = replace(self.facts, power=power)

    def save(self) -> None:
        """Its host puts it off with its memory in a file, to go on from there when it is started."""
        with self.lock:
            self.set_power(Power.OFF)
            self.saved = True

    def kill(self) -> None:
        """The VM's process dies, and tracking with it."""
        with self.lock:
            self.set_power(Power.OFF)
            self.lose_tracking()

    def lose_tracking(self) -> None:
        """What killing the hypervisor's process does to the tracking points."""
        with self.lock:
            self.points.clear()


class MemoryHypervisor:
    """See `leeward.ports.hypervisor.Hypervisor`."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self._vms: dict[str, MemoryVm] = {}

    @property
    def name(self) -> str:
        return self._name

    def add(self, vm_id: str, name: str, disks: dict[str, bytes], power: Power = Power.RUNNING) -> MemoryVm:
        facts = VmFacts(
            id=vm_id,
            name=name,
            host=self._name,
            power=power,
            disks=tuple(Disk(disk, len(contents)) for disk, contents in disks.items()),
            memory_mib=128,
            vcpus=1,
            definition=f"<memory name='{name}'/>",
        )
        vm = MemoryVm(facts, {disk: bytearray(contents) for disk, contents in disks.items()})
        self._vms[vm_id] = vm
        return vm

    def remove(self, vm_id: str) -> None:
        del self._vms[vm_id]

    def disks(self, vm_id: str) -> dict[str, bytearray]:
        """The contents themselves, not a copy."""
        return self._vm(vm_id).disks

    def set_disks(self, vm_id: str, disks: dict[str, bytearray]) -> None:
        """Give a VM that is off other disks; tracking goes with the old ones."""
        vm = self._vm(vm_id)
        with vm.lock:
            vm.disks = disks
            vm.untracked.clear()
            vm.points.clear()
            vm.tell_disks()

    def track(self, vm_id: str, token: str) -> None:
        """Begin to track from now on: of a VM that is about to be started for the first time."""
        vm = self._vm(vm_id)
        with vm.lock:
            vm.points.setdefault(token, {disk: set() for disk in vm.disks})

    def _vm(self, vm_id: str) -> MemoryVm:
        if vm_id not in self._vms:
            raise VmGone("the VM is no longer defined", subject=vm_id)
        return self._vms[vm_id]

    def vms(self) -> list[VmFacts]:
        return [vm.facts for vm in list(self._vms.values())]

    def vm(self, vm_id: str) -> VmFacts:
        return self._vm(vm_id).facts

    def idle_mark(self, vm_id: str) -> str | None:
        vm = self._vm(vm_id)
        with vm.lock:
            if vm.facts.power is not Power.OFF:
                return None
            return blake3(repr((vm.facts, vm.firmware)).encode() + b"".join(vm.disks.values())).hexdigest()

    def start(self, vm_id: str) -> None:
        self._vm(vm_id).set_power(Power.RUNNING)

    def shutdown(self, vm_id: str, timeout_s: float) -> bool:
        vm = self._vm(vm_id)
        with vm.lock:
            if vm.saved:
                why = "it was not shut down: its memory was saved to a file, and may hold what its disks do not"
                raise HypervisorError(why, subject=vm.facts.name)
            if vm.obeys_shutdown and vm.facts.power is Power.RUNNING:
                vm.set_power(Power.OFF)
            return vm.facts.power is Power.OFF

    def force_off(self, vm_id: str) -> None:
        self._vm(vm_id).set_power(Power.OFF)

    def pause(self, vm_id: str) -> bool:
        vm = self._vm(vm_id)
        with vm.lock:
            ran = vm.facts.power is Power.RUNNING
            if ran:
                vm.set_power(Power.PAUSED)
            return ran

    def resume(self, vm_id: str) -> bool:
        vm = self._vm(vm_id)
        with vm.lock:
            stood = vm.facts.power is Power.PAUSED
            if stood:
                vm.set_power(Power.RUNNING)
            return stood

    def autostart(self, vm_id: str) -> bool:
        return self._vm(vm_id).autostart

    def set_autostart(self, vm_id: str, wanted: bool) -> None:
        self._vm(vm_id).autostart = wanted

    def open_cycle(
        self,
        vm_id: str,
        *,
        base: str | None,
        new: str,
        consistency: Consistency = Consistency.CRASH,
        moment: AbstractContextManager[None] | None = None,
    ) -> MemoryCycle:
        vm = self._vm(vm_id)
        with vm.lock:
            if vm.foreign_job:
                raise HostBusy("a foreign job (backup or migration) has the right of way", subject=vm.facts.name)
            vm.job = None
            for token in [token for token in vm.points if token != base]:
                del vm.points[token]
            if base is not None and not vm.disks.keys() <= vm.points.get(base, {}).keys():
                raise TrackingLost("the tracking point is gone", subject=vm.facts.name)
        # Not under the lock: others must be able to stop and resume this VM while it waits for them.
        with moment or nullcontext(), vm.lock:
            if base is not None and base not in vm.points:
                raise TrackingLost("the tracking point is gone", subject=vm.facts.name)
            cycle = MemoryCycle(vm, base, new, consistency)
            if not cycle.offline:
                vm.job = cycle
            return cycle

    def forget(self, vm_id: str) -> None:
        vm = self._vm(vm_id)
        with vm.lock:
            vm.points.clear()
            vm.job = None


class MemoryCycle:
    """See `leeward.ports.hypervisor.Cycle`. The instant is a copy of all disks; made under the VM's lock."""

    def __init__(self, vm: MemoryVm, base: str | None, new: str, consistency: Consistency) -> None:
        self._vm = vm
        self._base = base
        self._new = new
        self._ended = self._released = False
        self._run = vm.run
        self.offline = vm.facts.power is Power.OFF
        self.time_ns = time.time_ns()
        self.vm = replace(vm.facts, firmware=vm.firmware)
        self.superset = base is None or self.offline
        self._contents = {disk: bytes(contents) for disk, contents in vm.disks.items()}
        self._dirty = {} if base is None else {disk: sorted(blocks) for disk, blocks in vm.points[base].items()}
        warnings = []
        self.consistency = Consistency.CRASH
        if consistency is Consistency.APP and not self.offline:
            if vm.has_agent and vm.facts.power is Power.RUNNING:
                self.consistency = Consistency.APP
            else:
                warnings.append("the guest agent does not answer")
        if self.offline:
            self.tracking = base or ""
        elif vm.untracked:
            self.tracking = ""
            warnings.append("without change tracking every cycle reads everything")
        else:
            self.tracking = new
            vm.points[new] = {disk: set() for disk in vm.disks}
        self.warnings = tuple(warnings)

    def changes(self, disk: str) -> Runs:
        contents = self._contents[disk]
        count = block_count(len(contents))
        if self._base is None:
            blocks = [n for n in range(count) if not _is_zero(contents, n)]
            return Runs.of(*((block, 1, False) for block in blocks))
        runs = []
        for block in self._dirty.get(disk, []):
            if block < count:
                runs.append((block, 1, _is_zero(contents, block)))
        return Runs.of(*runs)

    def reader(self, disk: str) -> MemoryReader:
        return MemoryReader(self._contents[disk], self)

    @property
    def is_open(self) -> bool:
        """Neither ended nor let go by us, nor ended by what happened to the VM."""
        return not (self._ended or self._released) and (self.offline or self._vm.job is self)

    def check(self) -> None:
        with self._vm.lock:
            if not self.is_open:
                raise HypervisorError("the host ended the cycle before all was read", subject=self.vm.name)
            if self.offline and self._vm.run != self._run:
                raise HostBusy("the VM was started while its disks were read", subject=self.vm.name)

    def release(self) -> None:
        self._released = True

    def commit(self) -> None:
        with self._vm.lock:
            if self._ended:
                raise HypervisorError("the cycle is over already", subject=self.vm.name)
            self._end()
            if self._base is not None and not self.offline:
                self._vm.points.pop(self._base, None)

    def abort(self) -> None:
        with self._vm.lock:
            if self._ended:
                return
            self._end()
            if not self.offline:
                self._vm.points.pop(self._new, None)

    def _end(self) -> None:
        self._ended = True
        if self._vm.job is self:
            self._vm.job = None

    def __enter__(self) -> MemoryCycle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()


def _is_zero(contents: bytes, block: int) -> bool:
    part = contents[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
    return part == bytes(len(part))  # `any` would look at each byte as a number


class MemoryReader:
    def __init__(self, contents: bytes, cycle: MemoryCycle) -> None:
        self._contents = contents
        self._cycle = cycle

    def read_into(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        for offset, view in pieces:
            if not self._cycle.is_open:
                raise HypervisorError("the cycle is over", subject=self._cycle.vm.name)
            view[:] = np.frombuffer(self._contents, np.uint8, len(view), offset).data

    def close(self) -> None:
        """Nothing is held."""
