"""`leeward agents …`: on the console, the agents of other machines."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from leeward.cli.context import JSON, current
from leeward.cli.lines import Lines
from leeward.cli.names import complete_agent
from leeward.cli.output import out, plain, print_json
from leeward.cli.units import seconds, show_time

app = typer.Typer(no_args_is_help=True, help="Agents on other machines, seen from the console.")


@app.command()
def token(
    expires: Annotated[str, typer.Option(help="How long it can be used, like 30m or 1d.")] = "1h",
    name: Annotated[
        str, typer.Option(help="What the agent will be called. An agent of this name is replaced: its host is new.")
    ] = "",
    as_json: JSON = False,
) -> None:
    """Make a one-time token with which a host enrols. Whoever has it can enrol one host: treat it as a password."""
    made = current().client().post("/agents/tokens", {"name": name, "expires_s": seconds(expires)})
    if as_json:
        print_json(made)
        return
    out.print(f"On the host, until {show_time(made['expires'])}:\n")
    out.print(f"    leeward agent enrol {made['token']}\n", soft_wrap=True)
    out.print(f"It will look for this console at {made['address']}", soft_wrap=True)


@app.command("list")
def list_agents(as_json: JSON = False) -> None:
    """Agents, when they were last heard of, and what is wrong with them."""
    found = current().client().get("/agents")
    if as_json:
        print_json(found)
        return
    if not found:
        out.print("No agent has enrolled yet. Make a token for one with [bold]leeward agents token[/].")
        return
    columns = ("AGENT", "STATE", "HOSTS", "VMS", "LAST HEARD", "CERTIFICATE UNTIL")
    shown = Lines(columns, right=("VMS",), whole=("STATE", "VMS", "LAST HEARD"))
    for agent in found:
        heard = show_time(agent["heard"]) if agent["heard"] else "never"
        until = show_time(agent["certificate_expires"]) if agent["certificate_expires"] else "–"
        note = plain(agent["revoked"] or agent["trouble"])
        cells = (agent["name"], _state(agent), ", ".join(agent["hosts"]), str(agent["protected"]), heard, until)
        shown.add(*cells, notes=[note] if note else [])
    out.print(shown)


def _state(agent: dict[str, Any]) -> str:
    if agent["revoked"]:
        return "[red]revoked[/]"
    return "[green]present[/]" if agent["present"] else "[yellow]absent[/]"


@app.command()
def revoke(
    agent: Annotated[str, typer.Argument(help="Name or id.", autocompletion=complete_agent)], as_json: JSON = False
) -> None:
    """Refuse an agent from now on. It goes on replicating what it was told last; stop it on its host."""
    gone = current().client().post(f"/agents/{quote(agent, safe='')}/revoke")
    if as_json:
        print_json(gone)
    else:
        out.print(f"[green]●[/] {gone['name']} is revoked. To let its host back in, enrol it with a new token.")
