"""VM names as arguments, with completion."""

from __future__ import annotations

from typing import Annotated

import typer

from leeward.domain.errors import LeewardError


def _complete_vm(incomplete: str) -> list[str]:
    """Names that the daemon knows; none when it does not run (completion must not start it)."""
    from leeward.cli.client import Client
    from leeward.cli.context import current

    try:
        settings = current().settings()
        quiet = settings.model_copy(update={"daemon": settings.daemon.model_copy(update={"autostart": False})})
        return [vm["name"] for vm in Client(quiet).get("/vms") if vm["name"].startswith(incomplete)]
    except LeewardError:
        return []


Vm = Annotated[str, typer.Argument(help="Name or id of the VM.", autocompletion=_complete_vm)]
