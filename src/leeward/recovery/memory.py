"""Recovered VMs on a hypervisor in memory, for simulations: the same promises as on a real host, nothing to boot.

See `leeward.agent.copy_tasks` for what copies and homes must do. State is kept in the object, which stands for the
host's disks: it outlives the agents that use it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from leeward.domain.errors import NotFound, Refused, StoreUnavailable
from leeward.domain.protection import ReplicaState
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.recovery.memory_replicas import MemoryReplicas
from leeward.recovery.picture import drawn
from leeward.vault.facade import Vault
from leeward.wire.messages import CopyReport, ReplicaReport, StepMessage
from leeward.wire.translate import utc

_STEPS = ("build", "start", "boot")


@dataclass(slots=True)
class _Copy:
    vm_id: str
    name: str
    purpose: str
    point: str
    copy_id: str
    token: str
    done: list[str]
    settled: bool = False
    replica: bool = False


class MemoryCopies:
    """One host. open_vault: raises while the vault is away."""

    def __init__(
        self, hypervisor: MemoryHypervisor, open_vault: Callable[[], Vault], replicas: MemoryReplicas | None = None
    ) -> None:
        self._hypervisor = hypervisor
        self._open_vault = open_vault
        self._replicas = replicas or MemoryReplicas(open_vault)
        self._copies: dict[tuple[str, str], _Copy] = {}
        self.plugged: set[str] = set()  # copies that clients can reach
        self._lock = threading.RLock()

    def build(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        purpose: str,
        networks: Mapping[str, str],
        *,
        from_vault: bool = False,
    ) -> CopyReport:
        with self._lock:
            copy = self._copies.get((vm_id, purpose))
            if copy is None:
                copy_id = vm_id if purpose == "failover" else str(uuid.uuid4())
                if any(vm.id == copy_id for vm in self._hypervisor.vms()):
                    raise Refused("a VM of this identity exists on the recovery host", subject=vm_name)
                use = purpose == "failover" and not from_vault
                held = self._from_replica(vm_id, point_id) if use else None
                disks, token = (held, "") if held is not None else self._from_vault(vm_id, point_id)
                name = vm_name if purpose == "failover" else f"{vm_name}-test"
                self._hypervisor.add(copy_id, name, disks, Power.OFF)
                copy = _Copy(vm_id, name, purpose, point_id, copy_id, token, ["build"], replica=held is not None)
                self._copies[vm_id, purpose] = copy
            return self._report(copy)

    def _from_vault(self, vm_id: str, point_id: str) -> tuple[dict[str, bytes], str]:
        log = self._open_vault().log(vm_id)
        with log.open_point(point_id) as image:
            disks = {name: image.disks[name].read(0, disk.size) for name, disk in image.disks.items()}
            return disks, image.tracking if log.points()[-1].id == point_id else ""

    def _from_replica(self, vm_id: str, point_id: str) -> dict[str, bytes] | None:
        if self._replicas.whole(vm_id) is None:
            return None
        with suppress(StoreUnavailable):
            self._replicas.advance(vm_id, point_id)
        replica = self._replicas.whole(vm_id)
        if replica is None or replica.point != point_id:
            return None
        return self._replicas.take(vm_id, f"f{vm_id}", point_id)

    def definition(self, vm_id: str, purpose: str) -> str:
        return f"<memory name='{self._copy(vm_id, purpose).name}'/>"

    def replica(self, vm_id: str) -> ReplicaReport | None:
        found = self._replicas.whole(vm_id)
        if found is None:
            return None
        return ReplicaReport(
            vm_id=vm_id,
            host=self._hypervisor.name,
            state=ReplicaState.WARM,
            point=found.point,
            time=utc(found.time_ns),
            epoch=found.epoch,
            moved_to=found.moved_to,
        )

    def start(self, vm_id: str, purpose: str, *, offline: bool = False) -> CopyReport:
        with self._lock:
            copy = self._copy(vm_id, purpose)
            if "start" not in copy.done:
                if copy.token:
                    self._hypervisor.track(copy.copy_id, copy.token)
                copy.done.append("start")
            self._hypervisor.start(copy.copy_id)
            return self._report(copy)

    def plug(self, vm_id: str, purpose: str) -> CopyReport:
        with self._lock:
            copy = self._copy(vm_id, purpose)
            self.plugged.add(copy.copy_id)
            return self._report(copy)

    def watch(self, vm_id: str, purpose: str, timeout_s: float) -> CopyReport:
        with self._lock:
            copy = self._copy(vm_id, purpose)
            if "boot" not in copy.done:
                copy.done.append("boot")
            return self._report(copy)

    def picture(self, vm_id: str, purpose: str, check: Callable[[], None]) -> bytes:
        with self._lock:
            copy = self._copy(vm_id, purpose)
        return drawn(f"{copy.name} login: _\n\nmade of recovery point {copy.point}")

    def settle(self, vm_id: str) -> None:
        with self._lock:
            self._copy(vm_id, "failover").settled = True

    def discard(self, vm_id: str, purpose: str) -> None:
        with self._lock:
            copy = self._copies.pop((vm_id, purpose), None)
            if copy is not None:
                self.plugged.discard(copy.copy_id)
                self._hypervisor.force_off(copy.copy_id)
                self._hypervisor.remove(copy.copy_id)
                if copy.replica:
                    self._replicas.give_back(vm_id, f"f{vm_id}")

    def reports(self) -> list[CopyReport]:
        with self._lock:
            return [self._report(copy) for copy in self._copies.values()]

    def supervise(self) -> None:
        """Nothing hangs on the vault here."""

    def _copy(self, vm_id: str, purpose: str) -> _Copy:
        if (vm_id, purpose) not in self._copies:
            raise NotFound("there is no such copy", subject=vm_id)
        return self._copies[vm_id, purpose]

    def _report(self, copy: _Copy) -> CopyReport:
        return CopyReport(
            vm_id=copy.vm_id,
            vm_name=copy.name.removesuffix("-test"),
            purpose=copy.purpose,
            point=copy.point,
            copy_id=copy.copy_id,
            copy_name=copy.name,
            host=self._hypervisor.name,
            network="memory",
            steps=tuple(StepMessage(name=name, state="done" if name in copy.done else "waiting") for name in _STEPS),
            evidence={"agent": "answers"} if "boot" in copy.done else {},
            hydrated="boot" in copy.done,
            failed="",
            replica=copy.replica,
        )
