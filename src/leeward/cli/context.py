"""What the options before the command say, for every command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leeward.cli.asking import Asker
    from leeward.cli.config import Settings
    from leeward.cli.remote import Target

JSON = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
LOCAL = "local"


@dataclass(slots=True)
class Context:
    """console: as given by --console or $LEEWARD_CONSOLE."""

    config: Path | None = None
    console: str | None = None

    def settings(self) -> Settings:
        from leeward.cli.config import find_settings

        return find_settings(self.config)

    def client(self, *, quiet: bool = False, timeout_s: float = 120.0) -> Asker:
        """quiet: do not start a daemon for this. timeout_s: for an answer."""
        target = self.target()
        if target is not None:
            from leeward.cli.remote import RemoteClient

            return RemoteClient(target, timeout_s=timeout_s)
        from leeward.cli.client import Client

        settings = self.settings()
        if quiet:
            settings = settings.model_copy(update={"daemon": settings.daemon.model_copy(update={"autostart": False})})
        return Client(settings, timeout_s)

    def target(self) -> Target | None:
        """The console that is asked; None for this machine's daemon.

        Named by --console or $LEEWARD_CONSOLE; else, unless a configuration is named, the one signed in to.
        """
        from leeward.cli.logins import Logins
        from leeward.cli.remote import Target, ca_from_environment, console_url

        if self.console == LOCAL:
            return None
        if self.console:
            url = console_url(self.console)
        elif self.config is None and (current := Logins.load().current) is not None:
            url = current
        else:
            return None
        known = Logins.load().targets.get(url, Target(url))
        return Target(url, os.environ.get("LEEWARD_TOKEN") or known.token, ca_from_environment() or known.ca)


_context = Context()


def current() -> Context:
    """Of this process's one command."""
    return _context
