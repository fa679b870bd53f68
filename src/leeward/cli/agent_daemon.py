"""`leeward agent run`: the agent alone, its console elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace

from leeward.agent.identity import load_identity
from leeward.agent.remote import AgentClient
from leeward.agent.wiring import build_agent
from leeward.cli.config import Settings
from leeward.domain.errors import NotFound
from leeward.logs import log
from leeward.state.database import FolderLock


def run_agent(settings: Settings, verbose: bool) -> None:
    """Run until SIGTERM or Ctrl-C. Raises Refused when another daemon has the state folder."""
    log.to_json(sys.stdout, verbose=verbose)
    os.umask(0o077)
    state = settings.daemon.state
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with FolderLock(state):
        config = settings.agent()
        try:
            config = replace(config, name=load_identity(state).name)
        except NotFound:
            log.warning("not enrolled yet; what was wished earlier is replicated")
        agent = build_agent(config)
        place = config.place
        told = None if config.vault_url else place
        client = AgentClient(state, agent.link, settings.agent_section.console, place=told)
        agent.start()
        client.start()
        log.info("agent runs", name=config.name, vault=place.url)
        over.wait()
        client.stop()
        agent.stop()
    # Threads that hang in an absent vault or host must not keep a stopped agent alive; nothing of theirs is lost.
    os._exit(0)
