"""The only place of the agent where adapters are chosen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from leeward.agent.agent import Agent, Source
from leeward.agent.config import AgentConfig
from leeward.agent.keys import load_keys
from leeward.agent.ledger import Ledger
from leeward.agent.worker import Services
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.replication.copy import copy_pool
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.opening import open_store

_RETRY_S = 5.0


def build_agent(config: AgentConfig) -> Agent:
    """An agent that is ready to start. Raises BadInput for an unusable state folder."""
    ledger = Ledger(config.state_dir / "agent.json")
    services = Services(
        agent=config.name,
        pool=copy_pool(config.workers or 0),
    )
    scratch = config.state_dir / "scratch"
    hosts = {host.name: Source(host, LibvirtHost(host.name, host.uri, scratch / host.name)) for host in config.hosts}
    return Agent(
        config.name, hosts, partial(_open_vault, config), ledger, services, partial(_open_plain_vault, config)
    )


def _open_plain_vault(config: AgentConfig) -> Vault:
    store = open_store(config.vault_url, retry_s=_RETRY_S, create=False)
    return Vault.open(store, keys=load_keys(config.state_dir))


def _open_vault(config: AgentConfig, vm_id: str) -> tuple[Vault, SpoolingStore]:
    # The spool takes over when the vault is away, so there is little point in trying for long.
    remote = open_store(config.vault_url, retry_s=_RETRY_S, create=False)
    spool = LocalStore(_folder(config.state_dir / "spool" / vm_id))
    store = SpoolingStore(remote, spool, config.spool_limit)
    return Vault.open(store, keys=load_keys(config.state_dir)), store


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
