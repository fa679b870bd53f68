"""`leeward serve`: console and agent in one process."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial

from leeward.agent.keys import load_keys
from leeward.agent.wiring import build_agent
from leeward.cli.config import Settings
from leeward.console import listeners
from leeward.console.agents import Agents
from leeward.console.agents_server import AgentsServer
from leeward.console.api import build_api
from leeward.console.authority import Authority
from leeward.console.identity import Identity, build_identity
from leeward.console.listeners import Https, server_names, split_listen
from leeward.console.routers import all_routers
from leeward.console.wiring import Console, ConsoleConfig
from leeward.domain.errors import Unavailable
from leeward.logs import log
from leeward.state.database import Database, FolderLock
from leeward.wire.tokens import split_address

_DATABASE_AGAIN_S = 2.0


def serve(settings: Settings, verbose: bool) -> None:
    """Run until SIGTERM or Ctrl-C. Raises Refused when another daemon has the state folder."""
    log.to_json(sys.stdout, verbose=verbose)
    os.umask(0o077)
    state = settings.daemon.state
    with FolderLock(state):
        https, authority = _https(settings)
        agent = build_agent(settings.agent())
        agent.start()
        database = _open_database(settings)
        engine_url = f"sqlite:///{state / 'workflows.db'}"
        config = ConsoleConfig(settings.vault.url, engine_url, partial(load_keys, state), state / "scripts")
        agents, listener = open_agents(settings, database, lambda: console.respread())
        console = Console(config, database, lambda: [agent.link, *agents.links()])
        if settings.daemon.adopt:
            console.adopt()
        agents.start()
        if listener is not None:
            listener.start()  # before anything that has to be ended again when the port is taken
        console.start()
        vouching = (authority.ca_pem.decode(), authority.fingerprint) if authority else None
        identity = build_identity(database, vouching)
        if https:
            _welcome(identity, https)
        log.info("serving", socket=str(settings.socket), vault=settings.vault.url)
        api = build_api(console.service, identity, all_routers(agents, console.plans))
        listeners.serve(api, settings.socket, https)
        if listener is not None:
            listener.stop()
        console.stop()
        agents.stop()
        agent.stop()
        database.close()
    # Threads that hang in an absent vault or host must not keep a stopped daemon alive; nothing of theirs is lost.
    os._exit(0)


def open_agents(
    settings: Settings, database: Database, on_hosts: Callable[[], None]
) -> tuple[Agents, AgentsServer | None]:
    """The console's agents on other machines, and the listener for them where the configuration wants one."""
    authority = Authority.open(settings.daemon.state / "authority")
    listen, address = settings.console.agents_listen, settings.console.agents_address
    if not listen:
        return Agents(database, authority, "", on_hosts=on_hosts), None
    address = address or f"https://{platform.node()}:{split_listen(listen)[1]}"
    agents = Agents(database, authority, address, on_hosts=on_hosts)
    return agents, AgentsServer(agents, authority, listen, [split_address(address)[0]])


def _open_database(settings: Settings) -> Database:
    """A database server may come up after us. The agent works meanwhile, by the wishes that it holds itself."""
    told = ""
    while True:
        try:
            return Database(settings.database)
        except Unavailable as error:
            if error.message != told:
                log.warning("waiting for the database", error=str(error))
            told = error.message
            time.sleep(_DATABASE_AGAIN_S)


def _https(settings: Settings) -> tuple[Https | None, Authority | None]:
    """What to listen on, and the authority that vouches for it, when it is our own."""
    wanted = settings.console
    if not wanted.listen:
        return None, None
    host, port = split_listen(wanted.listen)
    if wanted.cert and wanted.key:
        given = (wanted.cert, wanted.key)
        return Https(host, port, lambda: given), None
    authority = Authority.open(settings.daemon.state / "authority")
    names = server_names(host, wanted.names)
    return Https(host, port, lambda: authority.server_files(names)), authority


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
