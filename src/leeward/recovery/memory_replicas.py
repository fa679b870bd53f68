"""Warm replicas in memory, for simulations: the same promises as on a real host. State is kept in the object."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from leeward.domain.errors import Refused
from leeward.vault.facade import Vault


@dataclass(slots=True)
class MemoryReplica:
    """See `leeward.recovery.replica.ReplicaRecord`. disks: contents by name."""

    vm_id: str
    tag: str
    point: str = ""
    time_ns: int = 0
    taken: str = ""
    epoch: int = 0
    moved_to: str = ""
    disks: dict[str, bytes] = field(default_factory=dict)


class MemoryReplicas:
    """Of one host; see `leeward.recovery.replica.Replicas`."""

    def __init__(self, open_vault: Callable[[], Vault]) -> None:
        self._open_vault = open_vault
        self._replicas: dict[str, MemoryReplica] = {}
        self._lock = threading.RLock()

    def record(self, vm_id: str) -> MemoryReplica | None:
        return self._replicas.get(vm_id)

    def records(self) -> list[MemoryReplica]:
        return list(self._replicas.values())

    def sizes(self) -> dict[str, int]:
        return {replica.tag: sum(map(len, replica.disks.values())) for replica in self.records()}

    def whole(self, vm_id: str) -> MemoryReplica | None:
        found = self._replicas.get(vm_id)
        return found if found is not None and found.point and not found.taken else None

    def advance(
        self,
        vm_id: str,
        point_id: str = "latest",
        progress: Callable[[int, int, int], None] = lambda done, total, fetched: None,
    ) -> str | None:
        with self._lock:
            replica = self._replicas.setdefault(vm_id, MemoryReplica(vm_id, f"r{vm_id[:9]}"))
            if replica.taken:
                return None
            log = self._open_vault().log(vm_id)
            move, replica.epoch = log.last_move(), log.epoch()
            replica.moved_to = str(move.info.get("host", "")) if move else ""
            point = log.point(point_id)
            if point.id == replica.point:
                return None
            progress(0, 1, 0)
            with log.open_point(point.id) as image:
                replica.disks = {name: image.disks[name].read(0, disk.size) for name, disk in image.disks.items()}
            replica.point, replica.time_ns = point.id, point.time_ns
            return point.id

    def take(self, vm_id: str, tag: str, point_id: str) -> dict[str, bytes]:
        with self._lock:
            replica = self._replicas[vm_id]
            if replica.taken not in ("", tag) or replica.point != point_id:
                raise Refused(f"the replica does not hold point {point_id}", subject=vm_id)
            replica.taken = tag
            return replica.disks

    def give_back(self, vm_id: str, tag: str) -> None:
        with self._lock:
            replica = self._replicas.get(vm_id)
            if replica is not None and replica.taken == tag:
                replica.taken, replica.point, replica.disks = "", "", {}

    def remove(self, vm_id: str) -> None:
        with self._lock:
            if vm_id in self._replicas and self._replicas[vm_id].taken:
                raise Refused("a copy has the replica's images", subject=vm_id)
            self._replicas.pop(vm_id, None)
