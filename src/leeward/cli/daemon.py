"""`leeward serve`: console and agent in one process."""

from __future__ import annotations

import os
import sys

from leeward.agent.wiring import build_agent
from leeward.cli.active import Active
from leeward.cli.config import Settings
from leeward.cli.seating import Seating, SharedSeating, is_shared
from leeward.console import listeners
from leeward.console.authority import Authority
from leeward.console.heap import calm
from leeward.console.listeners import Https, server_names, split_listen
from leeward.console.standby import Front
from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.state.database import FolderLock


def serve(settings: Settings, verbose: bool) -> None:
    """Run until SIGTERM or Ctrl-C. Raises Refused when another daemon has the state folder."""
    log.to_json(sys.stdout, verbose=verbose)
    os.umask(0o077)
    calm()
    with FolderLock(settings.daemon.state):
        if settings.console.listen:
            split_listen(settings.console.listen)  # wrong ones are told before anything begins
        agent = build_agent(settings.agent())
        agent.start()
        seating = SharedSeating(settings) if is_shared(settings) else Seating(settings)
        authority = seating.join()
        https = _https(settings, authority)
        if https:
            listeners.tls_context(https)
        active = Active(settings, agent, authority, https, seating)
        front = Front(seating.me.name, seating.holds, active.vouching, seating.active)
        works = seating.take()
        seating.attend(lambda: _take_over(front, active, seating))
        if works:
            _begin(front, active, seating)
        else:
            log.info("standing by", console=seating.me.name)
        listeners.serve(front, settings.socket, https)
        active.end()
        agent.stop()
        seating.stop()
        active.close()
    # Threads that hang in an absent vault or host must not keep a stopped daemon alive; nothing of theirs is lost.
    os._exit(0)


def _begin(front: Front, active: Active, seating: Seating) -> None:
    """A console that cannot work lets another one try."""
    try:
        front.open(active.begin())
    except BaseException:
        seating.stop()
        raise


def _take_over(front: Front, active: Active, seating: Seating) -> None:
    """In a thread of its own, in the middle of the process's life."""
    log.info("taking over", console=seating.me.name)
    try:
        _begin(front, active, seating)
    except LeewardError as error:
        log.error("this console cannot work", error=str(error))
        os._exit(error.exit_code)
    except Exception:
        log.exception("this console cannot work")
        os._exit(1)


def _https(settings: Settings, authority: Authority) -> Https | None:
    """What to listen on, None for nothing."""
    wanted = settings.console
    if not wanted.listen:
        return None
    host, port = split_listen(wanted.listen)
    if wanted.cert and wanted.key:
        given = (wanted.cert, wanted.key)
        return Https(host, port, lambda: given)
    names = server_names(host, wanted.names)
    return Https(host, port, lambda: authority.server_files(names))
