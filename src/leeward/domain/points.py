"""Recovery points, and the marks that several VMs' points can share."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.domain.vm import Consistency, Disk


@dataclass(frozen=True, slots=True)
class Mark:
    """One instant of a consistency group, alike in the points of all its VMs.

    id: unique for ever. group: the group's name then. time_ns: when the VMs stood still, UTC. members: ids of the VMs
    that took part, sorted; the mark is whole when each of them has a point with it.
    """

    id: str
    group: str
    time_ns: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """A bootable instant of one VM.

    id: decimal sequence number of its commit in the VM's log, unique for the VM for ever ("42").
    time_ns: the instant, UTC nanoseconds since 1970. stored: bytes this point added to the vault.
    mark: None when it was made for itself.
    """

    id: str
    epoch: int
    time_ns: int
    consistency: Consistency
    disks: tuple[Disk, ...]
    stored: int
    mark: Mark | None = None

    @property
    def seq(self) -> int:
        return int(self.id)
