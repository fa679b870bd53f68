"""What an agent must be told before it starts; everything else comes as desired state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostConfig:
    """One hypervisor host. site: "source" or "recovery". storage: folder for overlays of recovered VMs, or None."""

    name: str
    site: str
    uri: str
    storage: Path | None = None


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """spool_limit: bytes a VM may keep locally while the vault is away. workers: copying threads; 0 = by cores."""

    name: str
    hosts: tuple[HostConfig, ...]
    vault_url: str
    state_dir: Path
    spool_limit: int = 2 << 30
    workers: int = 0
