"""`leeward serve`: console and agent in one process."""

from __future__ import annotations

import os
import platform
import signal
import socket
from collections.abc import Callable
from functools import partial

import structlog
import uvicorn
from fastapi import FastAPI

from leeward.agent.keys import load_keys
from leeward.agent.wiring import build_agent
from leeward.cli.config import Settings
from leeward.cli.logs import log_as_daemon
from leeward.console.agents import Agents
from leeward.console.agents_api import agents_router
from leeward.console.agents_server import AgentsServer, split_listen
from leeward.console.api import build_api
from leeward.console.authority import Authority
from leeward.console.wiring import Console, ConsoleConfig
from leeward.state.database import Database, FolderLock
from leeward.wire.tokens import split_address

log = structlog.get_logger(__name__)


def serve(settings: Settings, verbose: bool) -> None:
    """Run until SIGTERM or Ctrl-C. Raises Refused when another daemon has the state folder."""
    log_as_daemon(verbose)
    state = settings.daemon.state
    with FolderLock(state):
        database = Database(f"sqlite:///{state / 'leeward.db'}")
        agent = build_agent(settings.agent())
        config = ConsoleConfig(settings.vault.url, f"sqlite:///{state / 'workflows.db'}", partial(load_keys, state))
        agents, listener = open_agents(settings, database, lambda: console.respread())
        console = Console(config, database, lambda: [agent.link, *agents.links()])
        if settings.daemon.adopt:
            console.adopt()
        agents.start()
        if listener is not None:
            listener.start()  # before anything that has to be ended again when the port is taken
        agent.start()
        console.start()
        log.info("serving", socket=str(settings.socket), vault=settings.vault.url)
        api = build_api(console.service)
        api.include_router(agents_router(agents))
        _listen(api, settings)
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


def _listen(app: FastAPI, settings: Settings) -> None:
    """Serve until a signal. The socket is made here, so that it is never open to others than its owner."""
    path = settings.socket
    path.unlink(missing_ok=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal that ended it once more; without a handler that would end us before our own end.
        signal.signal(number, lambda *_: None)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        try:
            server.run(sockets=[listener])
        finally:
            path.unlink(missing_ok=True)
