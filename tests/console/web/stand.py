"""A whole Leeward in memory with its dashboard, asked as a browser asks; and served over real HTTPS for real ones."""

import asyncio
import re
import threading
import time
from contextlib import nullcontext

import httpx
from tests.console.caller import PASSWORD, Caller, Console
from tests.console.plan_world import PlanWorld
from tests.console.world import Opener
from tests.vault.conftest import CHEAP

from leeward.agent.config import AgentConfig
from leeward.agent.here import LibvirtHere
from leeward.agent.wiring import build_agent
from leeward.console import listeners, metrics_api, vault_place_api
from leeward.console.agents import Agents
from leeward.console.agents_server import AgentsServer
from leeward.console.alerts.center import AlertCenter
from leeward.console.alerts.sealing import Sealer
from leeward.console.authority import Authority
from leeward.console.consoles import Consoles
from leeward.console.host_removal import HostRemoval
from leeward.console.metrics_api import Metrics
from leeward.console.routers import all_routers
from leeward.console.vault_care import VaultCare
from leeward.console.vault_place import VaultPlaces
from leeward.console.web.alert_letters import From
from leeward.console.web.dashboard import add_dashboard
from leeward.console.web.vault_door import VaultDoor
from leeward.domain.access import Role
from leeward.domain.errors import NotFound
from leeward.network.discovery.scans import Scans
from leeward.network.discovery.signs import DOORS
from leeward.state.seat import Member
from leeward.state.vault_place import PlaceFile


class KeyFolder:
    """The key that this machine holds, as the daemon keeps it in a file."""

    def __init__(self, keys=None):
        self.keys = keys

    def load(self):
        if self.keys is None:
            raise NotFound("this machine does not hold the vault's key")
        return self.keys

    def save(self, keys):
        self.keys = keys


# Of a door that is not in use yet: the lock of a place that may change, and the audit log.
UNNOTED = nullcontext(), lambda *_: None


class Stand(Console):
    """door: of the world's own vault unless given. doors: at which scans knock, libvirt's and the others' unless
    given. agents_port: where agents are listened for. empty: no host is known yet. place: of the vault, as
    leeward.toml says it; None: it does not, and the door is that of the place that is chosen."""

    def __init__(
        self,
        folder,
        make_world=PlanWorld,
        make_door=None,
        doors=DOORS,
        agents_port=None,
        empty=False,
        place="file:///vault",
    ):
        self.scans = Scans(doors)
        # This machine's libvirt: a real agent without hosts, on libvirt's own test driver.
        self.own = build_agent(AgentConfig("here", (), "file:///vault", folder / "own"))
        self.here = LibvirtHere(self.own, folder / "own", uri="test:///default")

        def routers(console):
            authority = Authority.open(folder / "authority")
            address = f"https://127.0.0.1:{agents_port}" if agents_port else ""
            console.agents = agents = Agents(console.database, authority, address)
            self.listener = None
            if agents_port:
                self.listener = AgentsServer(agents, authority, f"127.0.0.1:{agents_port}", ["127.0.0.1"])
            console.alerts = AlertCenter(console.database, authority, From("here", "https://console.example"))
            consoles = Consoles(None, Member("here", "1"))
            world = console.world
            self.place = PlaceFile(folder / "own", place)
            self.key = KeyFolder()
            self.door = make_door() if make_door else self.door_of_world() if place else self.door_of_place()
            sealer = Sealer(authority.derive("vault place"))
            self.places = VaultPlaces(console.database, self.place, sealer, self.door._load, told=agents.wake)
            self.door._steady, self.door._record = self.places.steady(), console.database.record
            agents.place = self.places.handed
            self.removal = HostRemoval(console.database, world.fleet, world.desk, self.here)
            return (
                *all_routers(agents, world.plans, consoles, console.alerts, self.removal, self.scans),
                vault_place_api.build_router(self.places, self.door, lambda: self.watch.forget_vault()),
            )

        super().__init__(folder, make_world, routers)
        first = [] if empty else list(self.world.links)
        self.world.fleet._links = lambda: [*first, self.own.link, *self.agents.links()]
        if self.listener:
            self.agents.start()
            self.listener.start()
        self.care = VaultCare(self.database, Opener(self.world))
        self.watch = add_dashboard(
            self.app,
            self.service,
            self.world.plans,
            self.identity,
            self.database,
            Opener(self.world),
            self.door,
            self.alerts,
            self.care,
            self.agents,
            self.scans,
            self.here,
            self.removal,
            self.places,
        )
        metrics = Metrics(self.watch, self.database, self.agents, self.alerts, "here")
        self.app.include_router(metrics_api.build_router(metrics))

    def door_of_world(self):
        key = KeyFolder(self.world.keys)
        return VaultDoor(
            lambda: "file:///vault", lambda create: self.world.store, key.load, key.save, *UNNOTED, CHEAP
        )

    def door_of_place(self):
        def store(create):
            return self.place.current().open(create=create, retry_s=0)

        return VaultDoor(lambda: self.place.url, store, self.key.load, self.key.save, *UNNOTED, CHEAP)

    def pages(self, **more):
        """A browser that nobody has signed in with."""
        return Pages(self.app, **more)

    def as_role(self, role, name=None, **more):
        """A browser in which a user of this role has signed in."""
        name = name or f"the-{role}"
        if name not in {user.name for user in self.identity.reception.users()}:
            self.identity.reception.add_user(name, PASSWORD, Role(role))
        pages = Pages(self.app, **more)
        answer = pages.post("/sign-in", {"user": name, "password": PASSWORD})
        assert answer.status_code == 204, answer.text
        pages.cookies |= dict(answer.cookies)
        pages.csrf = re.search(r'"X-CSRF-Token": "(\w+)"', pages.get("/settings").text)[1]
        return pages

    def failovers_begun(self):
        return [run.kind for run in self.world.failovers.runs() if run.kind in ("planned", "unplanned")]

    def close(self):
        self.watch.stop()
        self.care.stop()
        if self.listener:
            self.listener.stop()
            self.agents.stop()
        super().close()


class Pages(Caller):
    """Asks for pages as htmx does. csrf: what our own pages send along."""

    def __init__(self, app, language="en", **more):
        headers = {"Accept-Language": language, **more.pop("headers", {})}
        super().__init__(app, headers=headers, **more)
        self.csrf = ""

    def ask(self, method, path, form=None, bare=False, **more):
        """bare: as a page that is not ours."""
        headers = {**self.headers, **more.pop("headers", {})}
        if method != "GET" and not bare:
            headers |= {"HX-Request": "true", "X-CSRF-Token": self.csrf}

        async def once():
            transport = httpx.ASGITransport(self._app, client=(self._address, 5), raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://console", cookies=self.cookies
            ) as client:
                return await client.request(method, path, headers=headers, data=form, **more)

        return asyncio.run(once())

    def post(self, path, form=None, **more):
        return self.ask("POST", path, form or {}, **more)


class Served:
    """The stand behind the console's own HTTPS listener, in a thread of this process."""

    def __init__(self, stand, port=0):
        authority = stand.authority = Authority.open(stand.folder / "authority")
        files = authority.server_files(["127.0.0.1", "localhost"])
        https = listeners.Https("127.0.0.1", port, lambda: files)
        self._listener = listeners._tcp_listener(https)
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        config = listeners._config(listeners.public(stand.app), listeners.tls_context(https))
        self._server = listeners._Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        if stand.watch._thread is None:
            stand.watch.start()
        self._thread.start()
        ends = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < ends
            time.sleep(0.02)

    def _run(self):
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def close(self):
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)
        self._listener.close()
