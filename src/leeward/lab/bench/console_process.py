"""A whole console with many agents and VMs, in a process of its own, for the load bench.

    python -m leeward.lab.bench.console_process FOLDER AGENTS VMS

Enrols AGENTS agents, protects VMS VMs of each, prints the port for agents and serves its API at FOLDER/socket until
SIGTERM.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

from leeward.agent.config import AgentConfig
from leeward.agent.here import LibvirtHere
from leeward.agent.wiring import build_agent
from leeward.console import listeners
from leeward.console.agents import Agents
from leeward.console.agents_server import AgentsServer
from leeward.console.alerts.center import AlertCenter
from leeward.console.alerts.sealing import Sealer
from leeward.console.api import build_api
from leeward.console.authority import Authority
from leeward.console.consoles import Consoles
from leeward.console.heap import calm
from leeward.console.host_removal import HostRemoval
from leeward.console.identity import build_identity
from leeward.console.routers import all_routers
from leeward.console.vault_care import VaultCare
from leeward.console.vault_place import VaultPlaces
from leeward.console.web.alert_letters import From
from leeward.console.web.dashboard import add_dashboard
from leeward.console.web.vault_door import VaultDoor
from leeward.console.wiring import Console, ConsoleConfig
from leeward.lab.bench.agents import host_name, vm_id, vm_name
from leeward.lab.bench.agents_console import enrol_all
from leeward.logs import log
from leeward.network.discovery.scans import Scans
from leeward.state.clock import now
from leeward.state.database import Database
from leeward.state.seat import Member
from leeward.state.tables import ProtectedVm
from leeward.state.vault_place import PlaceFile
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.wire.messages import PolicyMessage


def main(folder: Path, agents: int, vms: int) -> None:
    log.quiet()
    calm()
    database = Database(f"sqlite:///{folder}/console.db")
    authority = Authority.open(folder / "authority")
    enrol_all(database, authority, [host_name(number) for number in range(agents)], folder)
    _protect_all(database, agents, vms)
    vault_folder = folder / "vault"
    vault, _ = Vault.create(LocalStore(vault_folder), "passphrase")
    keys: VaultKeys = vault.keys
    console_agents = Agents(database, authority, "https://127.0.0.1:1", on_hosts=lambda: console.respread())
    server = AgentsServer(console_agents, authority, "127.0.0.1:0", ["127.0.0.1"])
    place = PlaceFile(folder, vault_folder.as_uri())
    config = ConsoleConfig(place, f"sqlite:///{folder}/workflows.db", lambda: keys, folder / "scripts")
    console = Console(config, database, console_agents.links)
    console_agents.start()
    server.start()
    console.start()
    alerts = AlertCenter(database, authority, From("bench", ""))
    identity = build_identity(database)
    own = build_agent(AgentConfig("here", (), vault_folder.as_uri(), folder / "own"))
    here = LibvirtHere(own, folder / "own")
    removal = HostRemoval(database, console.fleet, console.desk, here)
    api = build_api(
        console.service,
        identity,
        all_routers(console_agents, console.plans, Consoles(None, Member("bench", "")), alerts, removal),
    )
    store = LocalStore(vault_folder)
    door = VaultDoor(
        lambda: place.url, lambda create: store, lambda: keys, lambda new: None, nullcontext(), database.record
    )
    watch = add_dashboard(
        api,
        console.service,
        console.plans,
        identity,
        database,
        console.vault,
        door,
        alerts,
        VaultCare(database, console.vault),
        console_agents,
        Scans(),
        here,
        removal,
        VaultPlaces(database, place, Sealer(authority.derive("vault place")), lambda: keys),
    )
    watch.start()
    print(server.port, flush=True)
    listeners.serve(api, folder / "socket", None)
    watch.stop()
    console.stop()
    server.stop()
    console_agents.stop()


def _protect_all(database: Database, agents: int, vms: int) -> None:
    policy = PolicyMessage().model_dump()
    with database.session() as session:
        session.add_all(
            ProtectedVm(
                vm_id=vm_id(agent, vm),
                name=vm_name(agent, vm),
                host=host_name(agent),
                claim=0,
                paused=False,
                created=now(),
                **policy,
            )
            for agent in range(agents)
            for vm in range(vms)
        )
        session.commit()
    database.count()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
