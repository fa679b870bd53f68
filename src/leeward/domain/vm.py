"""What Leeward knows of a VM: facts from a host, and what is needed to make it again elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Power(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"


class Consistency(StrEnum):
    """CRASH: as after a power cut. APP: the guest's file systems were frozen at the instant."""

    CRASH = "crash"
    APP = "app"


@dataclass(frozen=True, slots=True)
class Disk:
    """name: the target name inside the VM ("vda"). size: virtual size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class FirmwareState:
    """What a VM's firmware keeps outside of the disks.

    nvram: the UEFI variable store, b"" when there is none. tpm: files of the emulated TPM's state by name, sorted.
    """

    nvram: bytes = b""
    tpm: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class VmFacts:
    """One VM as its host reports it now.

    id: the VM's UUID (lower-case, with dashes): its identity, also after a rename.
    unsupported: why it cannot be protected ("" when it can), in words for the operator.
    definition: the host's own description (libvirt: inactive domain XML), opaque outside its driver.
    lacks: what no copy of it elsewhere will have, in words for the operator.
    firmware: told by cycles only, as of their instant; None when it is not known.
    """

    id: str
    name: str
    host: str
    power: Power
    disks: tuple[Disk, ...]
    memory_mib: int
    vcpus: int
    definition: str
    unsupported: str = ""
    lacks: tuple[str, ...] = ()
    firmware: FirmwareState | None = None
