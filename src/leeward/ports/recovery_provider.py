"""Places in which VMs can be brought up, as somebody who sets Leeward up is offered them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pool:
    """A folder for disk images that the hypervisor knows. free: bytes, None when it cannot tell."""

    name: str
    path: str
    free: int | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a hypervisor has. accelerated: guests run on the processor itself. networks: active ones that cards can be
    plugged into, as keys: "network:default", "bridge:br0"."""

    software: str
    accelerated: bool
    pools: tuple[Pool, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A host to be. site: source or recovery. storage: folder for recovered VMs' disks, "" for a source. network:
    where cards go whose own network the host does not have; "" isolates them."""

    name: str
    site: str
    storage: str = ""
    network: str = ""


class RecoveryProvider(Protocol):
    """One kind of place. key: here, agent, azure."""

    @property
    def key(self) -> str: ...

    def why_not(self) -> str:
        """Why it cannot be chosen now, in a sentence; "" when it can."""


class OwnMachine(RecoveryProvider, Protocol):
    """The console's own machine, whose libvirt needs no agent but the console's."""

    def hosts(self) -> tuple[str, ...]:
        """Names of the hosts that are this machine's libvirt."""

    def survey(self) -> Survey:
        """Raises LeewardError when there is no libvirt that answers."""

    def integrate(self, wanted: Wanted) -> None:
        """Make its libvirt a host, at once and for good. Raises BadInput for what cannot be used (subject: the field
        of `Wanted`), Refused where it is one already, LeewardError when it cannot be kept."""

    def all_hosts(self) -> Mapping[str, str]:
        """Of this machine's agent, whatever libvirt they are: name → as `stands_in` tells."""

    def stands_in(self, name: str) -> str:
        """The configuration file in which a host of this machine's agent stands, "" for one that was added by
        `integrate`. Raises NotFound for another agent's."""

    def remove(self, name: str) -> None:
        """Have a host that was added no more, at once and for good; its VMs stay as they are. Raises NotFound,
        Refused for one of the configuration's or while anything on it needs its agent, LeewardError when it cannot be
        kept; then all is as it was."""
