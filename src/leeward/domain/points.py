"""Recovery points."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.domain.vm import Consistency, Disk


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """A bootable instant of one VM.

    id: decimal sequence number of its commit in the VM's log, unique for the VM for ever ("42").
    time_ns: the instant, UTC nanoseconds since 1970. stored: bytes this point added to the vault.
    """

    id: str
    epoch: int
    time_ns: int
    consistency: Consistency
    disks: tuple[Disk, ...]
    stored: int

    @property
    def seq(self) -> int:
        return int(self.id)
