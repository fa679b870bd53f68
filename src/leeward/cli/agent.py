"""`leeward agent …`: on a host, its own agent."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from leeward.cli.context import JSON, current
from leeward.cli.output import aside_line, out, print_json, state_text, table
from leeward.cli.units import show_seconds, show_time
from leeward.domain.errors import BadInput, LeewardError, NotFound

app = typer.Typer(no_args_is_help=True, help="The agent of this host, when its console is on another machine.")

TokenText = Annotated[
    str, typer.Argument(help="What `leeward agents token` showed on the console; - reads it from standard input.")
]
_LONGEST_TOKEN = 4096
Name = Annotated[str | None, typer.Option(help="What this host is called; the token may say so already.")]


@app.command()
def enrol(token: TokenText, name: Name = None, as_json: JSON = False) -> None:
    """Join this host to the console that made the token. A running agent takes the new identity up by itself.

    Makes a key that never leaves this host. Safe to repeat with the same token when the answer was lost.
    """
    from leeward.agent.enrolment import enrol as enrol_host
    from leeward.wire.tokens import read_token

    state = current().settings().daemon.state
    text = sys.stdin.readline(_LONGEST_TOKEN) if token == "-" else token  # a command line is seen by every user
    identity = enrol_host(state, read_token(text), name or platform.node())
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
    out.print("Next: [bold]leeward vault unlock[/], then [bold]leeward agent run[/] (or its systemd unit);")
    out.print("[bold]leeward agent hook[/] lets libvirt refuse to start VMs that run elsewhere")


@app.command()
def leave(as_json: JSON = False) -> None:
    """Be no agent of its console any more. The agent must not run.

    Removes this host's certificate and what the console has told of the vault, its credentials among it. VMs, their
    points and the vault's key stay as they are; the console lets go of the agent with `leeward agents revoke`.
    """
    from leeward.agent.enrolment import leave as leave_console
    from leeward.state.database import FolderLock

    state = current().settings().daemon.state
    with FolderLock(state):
        console = leave_console(state)
    if as_json:
        print_json({"console": console, "left": True})
    else:
        out.print(f"[green]●[/] This host is no agent of {console} any more", soft_wrap=True)


app.command("enroll", hidden=True)(enrol)


@app.command()
def run(verbose: Annotated[bool, typer.Option("--verbose", help="Log every cycle.")] = False) -> None:
    """Run the agent: replicates as it was told, and keeps the line to its console."""
    from leeward.cli.agent_daemon import run_agent

    run_agent(current().settings(), verbose)


@app.command()
def hook(
    host: Annotated[
        str | None,
        typer.Option("--host", help="Of the hosts in leeward.toml; needed when several are on this machine."),
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="libvirt's folder of hooks.")] = Path("/etc/libvirt/hooks"),
    remove: Annotated[bool, typer.Option("--remove", help="Take the boot fence away.")] = False,
    as_json: JSON = False,
) -> None:
    """Set up the boot fence: libvirt refuses to start a VM that runs at another site now.

    Without it such a VM is stopped when the agent sees it running; with it, it does not start at all: not when the
    host boots, nor by hand, nor while the agent is down. Safe to repeat.
    """
    from leeward.agent.fence import fence_of, hook_file, install_hook, remove_hook

    settings = current().settings()
    name = _local_host(settings, host)
    changed = remove_hook(folder) if remove else install_hook(folder, fence_of(settings.daemon.state).path(name))
    file = hook_file(folder)
    if as_json:
        print_json({"host": name, "file": str(file), "installed": not remove, "changed": changed})
    elif remove:
        out.print(f"● {file} is gone" if changed else "● There was no boot fence", soft_wrap=True)
    else:
        out.print(f"[green]●[/] {file} keeps VMs off that run elsewhere", soft_wrap=True)
        if changed:
            out.print(
                "If libvirt has had no hooks before, let it see this one (its VMs run on): "
                "[bold]systemctl restart libvirtd[/], or virtqemud"
            )


def _local_hosts(settings: Any) -> list[str]:
    return [host.name for host in settings.hosts if not urlsplit(host.uri).hostname]


def _boot_fence(settings: Any) -> str:
    """Whether libvirt refuses here to start what stands down: installed, missing, other (it looks into another list),
    or "" where no host is on this machine."""
    from leeward.agent.fence import HOOKS, fence_of, hook_state

    fence = fence_of(settings.daemon.state)
    former = fence.former({host.name: host.uri for host in settings.hosts})
    try:
        states = {
            hook_state(HOOKS, fence.path(name), *(fence.path(old) for old, new in former.items() if new == name))
            for name in _local_hosts(settings)
        }
    except LeewardError:
        return "missing"  # somebody else's file is in its place
    return next((state for state in ("installed", "other", "missing") if state in states), "")


def _local_host(settings: Any, name: str | None) -> str:
    """The host of this machine that is meant. Raises BadInput, NotFound."""
    known = {host.name for host in settings.hosts}
    local = _local_hosts(settings)
    if name is not None and name not in known:
        raise NotFound("no such host is set up here", subject=name, hint=f"It has: {', '.join(sorted(known))}")
    if name is not None and name not in local:
        raise BadInput(
            "its libvirt is on another machine, and so would its hooks be",
            subject=name,
            hint="Put an agent on that machine and set the boot fence up there",
        )
    if name is None and len(local) != 1:
        known_here = ", ".join(local) or "none"
        raise BadInput(f"{len(local)} hosts are on this machine: {known_here}", hint="Name one with --host")
    return name or local[0]


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
    if document["boot_fence"] not in ("", "installed"):
        out.print(
            "No boot fence: libvirt would start VMs that run elsewhere. Set it up with [bold]leeward agent hook[/]"
        )
    if document["protections"]:
        shown = table("VM", "STATE", "RPO", "TARGET", "NOTE", right=("RPO", "TARGET"))
        for vm in document["protections"]:
            rpo, target = show_seconds(vm["rpo_actual_s"]), show_seconds(vm["rpo_target_s"])
            shown.add_row(vm["vm"], state_text(vm["state"]), rpo, target, vm["reason"])
        out.print(shown)
    for one in document["set_aside"]:
        out.print(aside_line(one["vm"], one["bytes"], one["since"], one["folder"]), soft_wrap=True)


def _status() -> dict[str, Any]:
    from leeward.agent.identity import load_identity
    from leeward.agent.ledger import Ledger
    from leeward.agent.link_status import read_status
    from leeward.agent.set_aside import set_aside
    from leeward.state.clock import stamp

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
        "boot_fence": _boot_fence(settings),
        "protections": [
            {"vm": names.get(vm["vm_id"], vm["vm_id"]), **{field: vm[field] for field in fields}}
            for vm in report["protections"]
        ],
        "set_aside": [
            {
                "vm": names.get(one.vm_id, one.vm_id),
                "vm_id": one.vm_id,
                "since": stamp(one.since),
                "bytes": one.bytes,
                "folder": str(one.folder),
            }
            for one in set_aside(state)
        ],
    }


def _utc(identity: Any) -> str:
    return str(identity.expires.isoformat(timespec="seconds").replace("+00:00", "Z"))
