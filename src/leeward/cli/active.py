"""What of a console works only while it has the seat, put together and taken apart again."""

from __future__ import annotations

import sys
import threading
from functools import partial

from starlette.types import ASGIApp

from leeward.agent.here import LibvirtHere
from leeward.agent.keys import load_keys, save_keys
from leeward.agent.wiring import RunningAgent
from leeward.cli.config import Settings
from leeward.cli.seating import Seating
from leeward.console import metrics_api, vault_place_api
from leeward.console.agents import Agents
from leeward.console.agents_server import AgentsServer
from leeward.console.alerts.center import AlertCenter
from leeward.console.alerts.sealing import Sealer
from leeward.console.api import build_api
from leeward.console.authority import Authority
from leeward.console.consoles import Consoles
from leeward.console.host_removal import HostRemoval
from leeward.console.identity import Identity, build_identity
from leeward.console.listeners import Https
from leeward.console.metrics_api import Metrics
from leeward.console.routers import all_routers
from leeward.console.vault_care import VaultCare
from leeward.console.vault_place import VaultPlaces
from leeward.console.web.alert_letters import From
from leeward.console.web.dashboard import add_dashboard
from leeward.console.web.vault_door import VaultDoor
from leeward.console.web.watch import Watch
from leeward.console.wiring import Console, ConsoleConfig
from leeward.domain.errors import Refused
from leeward.logs import log
from leeward.network.discovery.scans import Scans
from leeward.ports.objects import ObjectStore
from leeward.state.database import Database
from leeward.wire.tokens import split_address


class Active:
    """`begin` once, from any thread; `end` when nobody asks any more.

    https: where it is listened for people, None for nowhere. vouching: the authority's certificate and fingerprint
    where it vouches for that, None where another one does.
    """

    def __init__(
        self, settings: Settings, agent: RunningAgent, authority: Authority, https: Https | None, seating: Seating
    ) -> None:
        self._settings = settings
        self._agent = agent
        self._authority = authority
        self._https = https
        self._seating = seating
        ours = https is not None and not settings.console.cert
        self.vouching = (authority.ca_pem.decode(), authority.fingerprint) if ours else None
        self._lock = threading.Lock()  # it may have to end while it is being put together
        self._over = False
        self._database: Database | None = None
        self._agents: Agents | None = None
        self._listener: AgentsServer | None = None
        self._console: Console | None = None
        self._watch: Watch | None = None
        self._alerts: AlertCenter | None = None
        self._care: VaultCare | None = None
        self._places: VaultPlaces | None = None

    def begin(self) -> ASGIApp:
        """Raises LeewardError when this console cannot work."""
        with self._lock:
            if self._over:
                raise Refused("this console was stopped")
            return self._begin()

    def _begin(self) -> ASGIApp:
        settings, seating = self._settings, self._seating
        self._database = database = seating.open_database()
        places = self._places = self._open_places(database)
        agents = self._agents = self._open_agents(database)
        console = self._console = Console(self._config(), database, lambda: [self._agent.link, *agents.links()])
        if settings.daemon.adopt:
            console.adopt()
        places.start()  # what another console has chosen is what we begin with
        agents.start()
        if self._listener is not None:
            self._listener.start()  # before anything that has to be ended again when the port is taken
        console.start()
        identity = build_identity(database, self.vouching)
        if self._https:
            _welcome(identity, self._https)
        log.info("serving", socket=str(settings.socket), vault=places.file.url)
        consoles = Consoles(seating.book, seating.me)
        sender = From(seating.me.name, seating.me.address)
        alerts = self._alerts = AlertCenter(database, self._authority, sender, seating.may_act)
        scans = Scans()
        here = self._this_machine(console)
        removal = HostRemoval(database, console.fleet, console.desk, here)
        door = vault_door(settings, places, database)
        routers = (
            *all_routers(agents, console.plans, consoles, alerts, removal, scans),
            vault_place_api.build_router(places, door, lambda: watch.forget_vault()),
        )
        api = build_api(console.service, identity, routers)
        care = self._care = VaultCare(database, console.vault, may_act=seating.may_act)
        watch = self._watch = add_dashboard(
            api,
            console.service,
            console.plans,
            identity,
            database,
            console.vault,
            door,
            alerts,
            care,
            agents,
            scans,
            here,
            removal,
            places,
        )
        metrics = Metrics(watch, database, agents, alerts, seating.me.name)
        api.include_router(metrics_api.build_router(metrics))
        watch.start()
        alerts.start(watch.glance)
        care.start()
        return api

    def _this_machine(self, console: Console) -> LibvirtHere:
        settings = self._settings
        return LibvirtHere(
            self._agent,
            settings.daemon.state,
            shared=self._seating.book is not None,
            configured=[host.name for host in settings.host],
            file=str(settings.path or "leeward.toml"),
            on_added=console.respread,
        )

    def _config(self) -> ConsoleConfig:
        settings, seating = self._settings, self._seating
        state = settings.daemon.state
        return ConsoleConfig(
            settings.place,
            seating.engine_url,
            partial(load_keys, state),
            state / "scripts",
            executor=seating.executor,
            shared=seating.book is not None,
            may_act=seating.may_act,
            opened=seating.opened,
        )

    def _open_places(self, database: Database) -> VaultPlaces:
        settings = self._settings
        return VaultPlaces(
            database,
            settings.place,
            Sealer(self._authority.derive("vault place")),
            partial(load_keys, settings.daemon.state),
            told=lambda: self._agents.wake() if self._agents else None,
            held=lambda: self._agents.newest_place() if self._agents else 0,
        )

    def _open_agents(self, database: Database) -> Agents:
        """The agents on other machines, and the listener for them where the configuration wants one."""
        on_hosts = lambda: self._console.respread() if self._console else None  # noqa: E731
        address = self._seating.me.agents
        agents = Agents(
            database,
            self._authority,
            address,
            on_hosts=on_hosts,
            consoles=self._seating.agents_addresses,
            may_act=self._seating.may_act,
            place=lambda: self._places.handed() if self._places else None,
        )
        if address:
            listen = self._settings.console.agents_listen
            self._listener = AgentsServer(agents, self._authority, listen, [split_address(address)[0]])
        return agents

    def end(self) -> None:
        with self._lock:
            self._over = True
            if self._care is not None:
                self._care.stop()
            if self._alerts is not None:
                self._alerts.stop()
            if self._watch is not None:
                self._watch.stop()
            if self._listener is not None:
                self._listener.stop()
            if self._console is not None:
                self._console.stop()
            if self._places is not None:
                self._places.stop()
            if self._agents is not None:
                self._agents.stop()

    def close(self) -> None:
        """After the last who may write something down."""
        if self._database is not None:
            self._database.close()


def vault_door(settings: Settings, places: VaultPlaces, database: Database) -> VaultDoor:
    """For the dashboard's first steps, and the API's."""
    state, place = settings.daemon.state, places.file

    def store(create: bool) -> ObjectStore:
        return place.current().open(create=create, retry_s=0.0)  # a page says at once that the vault is away

    return VaultDoor(
        lambda: place.url,
        store,
        partial(load_keys, state),
        partial(save_keys, state),
        places.steady(),
        database.record,
    )


def _welcome(identity: Identity, https: Https) -> None:
    """How the first user comes about, told by a console that can be reached and has none yet."""
    if identity.reception.users_exist():
        return
    code, ends = identity.reception.offer_setup()
    address = f"[{https.host}]" if ":" in https.host else https.host
    lines = [f"This console has no users yet. Until {ends} the first one, an admin, can be made with", ""]
    lines += [f"    leeward login https://{address}:{https.port} --setup-code {code}", ""]
    if identity.authority:
        lines += ["Its certificate authority has the fingerprint", "", f"    {identity.authority[1]}", ""]
    print("\n".join(lines), file=sys.stderr, flush=True)
