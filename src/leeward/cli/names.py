"""VM names as arguments, with completion."""

from __future__ import annotations

from typing import Annotated

import typer

from leeward.domain.errors import LeewardError


def _complete_vm(incomplete: str) -> list[str]:
    """Names that the daemon knows; none when it does not run (completion must not start it)."""
    from leeward.cli.context import current

    try:
        return [vm["name"] for vm in current().client(quiet=True).get("/vms") if vm["name"].startswith(incomplete)]
    except LeewardError:
        return []


Vm = Annotated[str, typer.Argument(help="Name or id of the VM.", autocompletion=_complete_vm)]
OptionalVm = Annotated[str | None, typer.Argument(help="Name or id of the VM.", autocompletion=_complete_vm)]
