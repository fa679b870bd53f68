"""`leeward serve`: console and agent in one process."""

from __future__ import annotations

import os
import socket
import sys
from functools import partial

import uvicorn
from fastapi import FastAPI

from leeward.agent.keys import load_keys
from leeward.agent.wiring import build_agent
from leeward.cli.config import Settings
from leeward.console.api import build_api
from leeward.console.wiring import Console, ConsoleConfig
from leeward.logs import log
from leeward.state.database import Database, FolderLock


def serve(settings: Settings, verbose: bool) -> None:
    """Run until SIGTERM or Ctrl-C. Raises Refused when another daemon has the state folder."""
    log.to_json(sys.stdout, verbose=verbose)
    state = settings.daemon.state
    with FolderLock(state):
        database = Database(f"sqlite:///{state / 'leeward.db'}")
        agent = build_agent(settings.agent())
        config = ConsoleConfig(settings.vault.url, f"sqlite:///{state / 'workflows.db'}", partial(load_keys, state))
        console = Console(config, database, lambda: [agent.link])
        if settings.daemon.adopt:
            console.adopt()
        agent.start()
        console.start()
        log.info("serving", socket=str(settings.socket), vault=settings.vault.url)
        _listen(build_api(console.service), settings)
        console.stop()
        agent.stop()
        database.close()
    # Threads that hang in an absent vault or host must not keep a stopped daemon alive; nothing of theirs is lost.
    os._exit(0)


def _listen(app: FastAPI, settings: Settings) -> None:
    """Serve until a signal. The socket is made here, so that it is never open to others than its owner."""
    path = settings.socket
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        try:
            server.run(sockets=[listener])
        finally:
            path.unlink(missing_ok=True)
