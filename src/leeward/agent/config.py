"""What an agent must be told before it starts; everything else comes as desired state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what it needs is more than light commands load
    from leeward.state.vault_place import PlaceFile


@dataclass(frozen=True, slots=True)
class HostConfig:
    """One hypervisor host. site: "source" or "recovery". storage: folder for overlays of recovered VMs, or None.
    network: "bridge:NAME" or "network:NAME", where cards of recovered VMs go that are mapped to nothing and whose own
    network this host does not have; "" isolates them."""

    name: str
    site: str
    uri: str
    storage: Path | None = None
    network: str = ""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """vault_url: as leeward.toml has it; "": it says nothing, and the place is what was chosen for this machine.
    spool_limit: bytes a VM may keep locally while the vault is away. workers: packing threads; 0 = one a core."""

    name: str
    hosts: tuple[HostConfig, ...]
    vault_url: str
    state_dir: Path
    spool_limit: int = 2 << 30
    workers: int = 0

    @property
    def place(self) -> PlaceFile:
        from leeward.state.vault_place import PlaceFile

        return PlaceFile(self.state_dir, self.vault_url or None)
