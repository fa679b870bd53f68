"""`leeward serve`: console and agent in one process."""

from __future__ import annotations

import logging
import os
import sys
import time
from functools import partial

import structlog

from leeward.agent.keys import load_keys
from leeward.agent.wiring import build_agent
from leeward.cli.config import Settings
from leeward.console import listeners
from leeward.console.api import build_api
from leeward.console.authority import Authority
from leeward.console.identity import Identity, build_identity
from leeward.console.listeners import Https, server_names, split_listen
from leeward.console.wiring import Console, ConsoleConfig
from leeward.domain.errors import Unavailable
from leeward.state.database import Database, FolderLock

log = structlog.get_logger(__name__)

_DATABASE_AGAIN_S = 2.0


def serve(settings: Settings, verbose: bool) -> None:
    """Run until SIGTERM or Ctrl-C. Raises Refused when another daemon has the state folder."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        cache_logger_on_first_use=True,
    )
    state = settings.daemon.state
    with FolderLock(state):
        https, authority = _https(settings)
        agent = build_agent(settings.agent())
        agent.start()
        database = _open_database(settings)
        config = ConsoleConfig(settings.vault.url, f"sqlite:///{state / 'workflows.db'}", partial(load_keys, state))
        console = Console(config, database, lambda: [agent.link])
        if settings.daemon.adopt:
            console.adopt()
        console.start()
        vouching = (authority.ca_pem.decode(), authority.fingerprint) if authority else None
        identity = build_identity(database, vouching)
        if https:
            _welcome(identity, https)
        log.info("serving", socket=str(settings.socket), vault=settings.vault.url)
        listeners.serve(build_api(console.service, identity), settings.socket, https)
        console.stop()
        agent.stop()
        database.close()
    # Threads that hang in an absent vault or host must not keep a stopped daemon alive; nothing of theirs is lost.
    os._exit(0)


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
