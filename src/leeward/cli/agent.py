"""`leeward agent …`: on a host, its own agent."""

from __future__ import annotations

import platform
from typing import Annotated, Any

import typer

from leeward.cli.context import JSON, current
from leeward.cli.output import out, print_json, state_text, table
from leeward.cli.units import show_seconds, show_time
from leeward.domain.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="The agent of this host, when its console is on another machine.")

TokenText = Annotated[str, typer.Argument(help="What `leeward agents token` showed on the console.")]
Name = Annotated[str | None, typer.Option(help="What this host is called; the token may say so already.")]


@app.command()
def enrol(token: TokenText, name: Name = None, as_json: JSON = False) -> None:
    """Join this host to the console that made the token. A running agent takes the new identity up by itself.

    Makes a key that never leaves this host. Safe to repeat with the same token when the answer was lost.
    """
    from leeward.agent.enrolment import enrol as enrol_host
    from leeward.wire.tokens import read_token

    state = current().settings().daemon.state
    identity = enrol_host(state, read_token(token), name or platform.node())
    if as_json:
        print_json(
            {
                "name": identity.name,
                "agent_id": identity.agent_id,
                "console": identity.console,
                "fingerprint": identity.fingerprint,
                "certificate_expires": _utc(identity),
            }
        )
        return
    out.print(f"[green]●[/] This host is [bold]{identity.name}[/] at {identity.console}", soft_wrap=True)
    out.print("Next: [bold]leeward vault unlock[/], then [bold]leeward agent run[/] (or its systemd unit)")


app.command("enroll", hidden=True)(enrol)


@app.command()
def run(verbose: Annotated[bool, typer.Option("--verbose", help="Log every cycle.")] = False) -> None:
    """Run the agent: replicates as it was told, and keeps the line to its console."""
    from leeward.cli.agent_daemon import run_agent

    run_agent(current().settings(), verbose)


@app.command()
def status(as_json: JSON = False) -> None:
    """Whether the agent runs, has a line to its console, and what it replicates. Asks nobody but this host."""
    document = _status()
    if as_json:
        print_json(document)
        return
    name = document["name"] or "not enrolled"
    out.print(f"[bold]{name}[/]   {document['state']}   {document['console']}", soft_wrap=True)
    if document["reason"]:
        out.print(document["reason"], soft_wrap=True)
    if document["certificate_expires"]:
        out.print(f"Certificate until {show_time(document['certificate_expires'])}")
    if document["protections"]:
        shown = table("VM", "STATE", "RPO", "TARGET", "NOTE", right=("RPO", "TARGET"))
        for vm in document["protections"]:
            rpo, target = show_seconds(vm["rpo_actual_s"]), show_seconds(vm["rpo_target_s"])
            shown.add_row(vm["vm"], state_text(vm["state"]), rpo, target, vm["reason"])
        out.print(shown)


def _status() -> dict[str, Any]:
    from leeward.agent.identity import load_identity
    from leeward.agent.ledger import Ledger
    from leeward.agent.link_status import read_status

    settings = current().settings()
    state = settings.daemon.state
    try:
        identity = load_identity(state)
    except NotFound as error:
        identity, reason = None, error.message
    else:
        reason = ""
    line = read_status(state)
    ledger = state / "agent.json"
    wishes = Ledger(ledger).desired.protections if ledger.exists() else ()
    names = {wish.vm_id: wish.vm_name for wish in wishes}
    report = (line or {}).get("report") or {"generation": 0, "protections": []}
    fields = ("vm_id", "state", "reason", "rpo_target_s", "rpo_actual_s", "failover_possible")
    enrolled = settings.agent_section.console or (identity.console if identity else "")
    return {
        "name": identity.name if identity else "",
        "agent_id": identity.agent_id if identity else "",
        "console": (line or {}).get("console") or enrolled,
        "consoles": list(identity.consoles) if identity else [],
        "fingerprint": identity.fingerprint if identity else "",
        "certificate_expires": _utc(identity) if identity else "",
        "running": line is not None,
        "state": line["state"] if line else "stopped",
        "reason": line["reason"] if line else reason,
        "since": line["since"] if line else "",
        "generation": report["generation"],
        "protections": [
            {"vm": names.get(vm["vm_id"], vm["vm_id"]), **{field: vm[field] for field in fields}}
            for vm in report["protections"]
        ],
    }


def _utc(identity: Any) -> str:
    return str(identity.expires.isoformat(timespec="seconds").replace("+00:00", "Z"))
