"""`leeward host remove`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from leeward.cli.context import JSON, current
from leeward.cli.names import complete_host
from leeward.cli.output import out, print_json
from leeward.domain.errors import NotFound


def remove(
    name: Annotated[str, typer.Argument(help="Name of the host.", autocompletion=complete_host)],
    as_json: JSON = False,
) -> None:
    """Take a host away that was added in the dashboard. Its VMs stay as they are, recovery points stay in the vault.

    Refused while anything of Leeward needs it. Hosts of leeward.toml are taken out there; those of an agent on
    another machine go with it: leeward agents revoke.
    """
    if not name or "/" in name:
        raise NotFound("there is no such host", subject=name, hint="See `leeward host list`")
    gone = current().client().delete(f"/hosts/{quote(name, safe='')}")
    if as_json:
        print_json(gone)
    else:
        out.print(f"[green]●[/] [bold]{name}[/] is no host any more; its VMs stay as they are", soft_wrap=True)
