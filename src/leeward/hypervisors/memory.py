"""A hypervisor in memory: byte arrays with change tracking, for simulations and for tests of what is above the port.

It keeps to the port's contract, hard edges included: a base that is gone raises TrackingLost, at most two tracking
points exist, a cycle that is not committed leaves the base as it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE, Runs, block_count
from leeward.domain.errors import HypervisorError, Refused, TrackingLost, VmGone
from leeward.domain.vm import Consistency, Disk, Power, VmFacts


@dataclass(slots=True)
class MemoryVm:
    """disks: contents by name. points: tracking points, oldest first, each with the blocks dirtied since it."""

    facts: VmFacts
    disks: dict[str, bytearray]
    points: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    job: bool = False
    has_agent: bool = True
    obeys_shutdown: bool = True
    autostart: bool = False
    frozen: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def write(self, disk: str, offset: int, data: bytes) -> None:
        """What a guest's write does: change the contents and dirty the blocks in every tracking point."""
        with self.lock:
            if self.frozen:
                raise Refused("the file systems are frozen", subject=self.facts.name)
            self.disks[disk][offset : offset + len(data)] = data
            touched = range(offset // BLOCK_SIZE, -(-(offset + len(data)) // BLOCK_SIZE))
            for dirty in self.points.values():
                dirty.setdefault(disk, set()).update(touched)

    def resize(self, disk: str, size: int) -> None:
        with self.lock:
            contents = self.disks[disk]
            del contents[size:]
            contents.extend(bytes(size - len(contents)))
            disks = tuple(Disk(d.name, size if d.name == disk else d.size) for d in self.facts.disks)
            self.facts = replace(self.facts, disks=disks)

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
            vm.points.clear()
            vm.facts = replace(vm.facts, disks=tuple(Disk(name, len(data)) for name, data in disks.items()))

    def track(self, vm_id: str, token: str) -> None:
        """Begin to track from now on: of a VM that is about to be started for the first time."""
        vm = self._vm(vm_id)
        with vm.lock:
            vm.points.setdefault(token, {})

    def _vm(self, vm_id: str) -> MemoryVm:
        if vm_id not in self._vms:
            raise VmGone("the VM is no longer defined", subject=vm_id)
        return self._vms[vm_id]

    def vms(self) -> list[VmFacts]:
        return [vm.facts for vm in self._vms.values()]

    def vm(self, vm_id: str) -> VmFacts:
        return self._vm(vm_id).facts

    def idle_mark(self, vm_id: str) -> str | None:
        vm = self._vm(vm_id)
        if vm.facts.power is not Power.OFF:
            return None
        with vm.lock:
            return blake3(repr(vm.facts).encode() + b"".join(vm.disks.values())).hexdigest()

    def start(self, vm_id: str) -> None:
        self._set_power(vm_id, Power.RUNNING)

    def shutdown(self, vm_id: str, timeout_s: float) -> bool:
        if self._vm(vm_id).obeys_shutdown:
            self._set_power(vm_id, Power.OFF)
        return self._vm(vm_id).facts.power is Power.OFF

    def force_off(self, vm_id: str) -> None:
        self._set_power(vm_id, Power.OFF)

    def autostart(self, vm_id: str) -> bool:
        return self._vm(vm_id).autostart

    def set_autostart(self, vm_id: str, wanted: bool) -> None:
        self._vm(vm_id).autostart = wanted

    def _set_power(self, vm_id: str, power: Power) -> None:
        vm = self._vm(vm_id)
        vm.facts = replace(vm.facts, power=power)

    def open_cycle(
        self, vm_id: str, *, base: str | None, new: str, consistency: Consistency = Consistency.CRASH
    ) -> MemoryCycle:
        vm = self._vm(vm_id)
        with vm.lock:
            if base is not None and base not in vm.points:
                raise TrackingLost("the tracking point is gone", subject=vm.facts.name)
            vm.job = True
            for token in [token for token in vm.points if token != base]:
                del vm.points[token]
            app = consistency is Consistency.APP
            warnings = ("the guest agent does not answer",) if app and not vm.has_agent else ()
            reached = Consistency.APP if app and vm.has_agent else Consistency.CRASH
            return MemoryCycle(vm, base, new, reached, warnings)

    def forget(self, vm_id: str) -> None:
        vm = self._vm(vm_id)
        with vm.lock:
            vm.points.clear()
            vm.job = False


class MemoryCycle:
    """See `leeward.ports.hypervisor.Cycle`. The instant is a copy of all disks made under the VM's lock."""

    def __init__(
        self,
        vm: MemoryVm,
        base: str | None,
        new: str,
        consistency: Consistency,
        warnings: tuple[str, ...],
    ) -> None:
        self._vm = vm
        self._base = base
        self._off = vm.facts.power is Power.OFF
        self.time_ns = time.time_ns()
        self.consistency = consistency
        self.warnings = warnings
        self.vm = vm.facts
        self.superset = base is None or self._off
        self.tracking = (base or "") if self._off else new
        self._contents = {disk: bytes(contents) for disk, contents in vm.disks.items()}
        dirty = vm.points[base] if base is not None else {}
        self._dirty = {disk: sorted(blocks) for disk, blocks in dirty.items()}
        if not self._off:
            vm.points[new] = {}
        self._new = new
        self._open = True

    def changes(self, disk: str) -> Runs:
        contents = self._contents[disk]
        count = block_count(len(contents))
        if self._base is None:
            blocks = [n for n in range(count) if any(contents[n * BLOCK_SIZE : (n + 1) * BLOCK_SIZE])]
            return Runs.of(*((block, 1, False) for block in blocks))
        runs = []
        for block in self._dirty.get(disk, []):
            if block < count:
                runs.append((block, 1, not any(contents[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE])))
        return Runs.of(*runs)

    def reader(self, disk: str) -> MemoryReader:
        return MemoryReader(self._contents[disk], self)

    @property
    def is_open(self) -> bool:
        return self._open

    def check(self) -> None:
        if not self._open:
            raise HypervisorError("the cycle is over", subject=self.vm.name)

    def commit(self) -> None:
        if not self._open:
            raise HypervisorError("the cycle is over", subject=self.vm.name)
        with self._vm.lock:
            self._open = False
            self._vm.job = False
            if self._base is not None and not self._off:
                self._vm.points.pop(self._base, None)

    def abort(self) -> None:
        with self._vm.lock:
            if not self._open:
                return
            self._open = False
            self._vm.job = False
            if not self._off:
                self._vm.points.pop(self._new, None)

    def __enter__(self) -> MemoryCycle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()


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
