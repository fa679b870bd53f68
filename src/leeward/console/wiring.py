"""The only place of the console where adapters are chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from leeward.console.service import AgentLink, Service
from leeward.console.views import HostView
from leeward.domain.errors import NotFound
from leeward.recovery.copies import Copies
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.recovery.records import CopyRecord, CopyRecords, Purpose
from leeward.state.database import Database
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.stores.opening import open_store


@dataclass(frozen=True, slots=True)
class RecoverySite:
    """A host where copies can run. storage: folder for their overlays."""

    name: str
    uri: str
    storage: Path


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """load_keys: gives the vault's keys, or raises what the operator has to do first."""

    vault_url: str
    state_dir: Path
    recovery: Sequence[RecoverySite]
    key_file: Path
    load_keys: Callable[[], VaultKeys]


class LazyVault:
    """Opened at the first use, so that the daemon runs before a vault exists and while it is away."""

    def __init__(self, config: ConsoleConfig) -> None:
        self._config = config
        self._vault: Vault | None = None
        self._lock = threading.Lock()

    def open(self) -> Vault:
        with self._lock:
            if self._vault is None:
                keys = self._config.load_keys()
                self._vault = Vault.open(open_store(self._config.vault_url, create=False), keys=keys)
            return self._vault


class LazyTests:
    """Test failovers at the first recovery host."""

    __test__ = False

    def __init__(self, config: ConsoleConfig, vault: LazyVault) -> None:
        self._config = config
        self._vault = vault
        self._folder = config.state_dir / "test"
        self._copies: Copies | None = None
        self._lock = threading.Lock()

    def open(self) -> Copies:
        if not self._config.recovery:
            raise NotFound(
                "no recovery host is configured",
                hint='Add a [[host]] with site = "recovery" and a storage folder to leeward.toml',
            )
        vault = self._vault.open()
        with self._lock:
            if self._copies is None:
                site = self._config.recovery[0]
                host = LibvirtRecoveryHost(site.name, site.uri, site.storage)
                self._copies = Copies(host, self._folder, self._config.vault_url, self._config.key_file, vault)
            return self._copies

    def record(self, vm_id: str) -> CopyRecord | None:
        return CopyRecords(self._folder).load(vm_id, Purpose.TEST)

    def existing(self) -> list[CopyRecord]:
        return [record for record in CopyRecords(self._folder).all() if record.purpose == Purpose.TEST]


def build_service(config: ConsoleConfig, database: Database, agent: AgentLink) -> tuple[Service, LazyTests]:
    vault = LazyVault(config)
    tests = LazyTests(config, vault)
    recovery = [_recovery_view(site) for site in config.recovery]
    return Service(database, agent, vault, tests, recovery), tests


def _recovery_view(site: RecoverySite) -> HostView:
    return HostView(name=site.name, site="recovery", uri=site.uri, reachable=True, error="", vms=0)
