"""`leeward lab`: the lab from the command line."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leeward.lab.lab import Lab

app = typer.Typer(
    help="A practice ground: an office and a recovery site with real VMs, on this one machine.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def up(
    guest: Annotated[
        list[str] | None, typer.Option("--guest", help="Demo guest to start at the office; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start both sites and the demo guests; safe to repeat, and after a kill.

    The first time also builds the guest (about 10 s) from Debian packages. The folder is /var/lib/leeward-lab, or
    $LEEWARD_LAB: labs in different folders live side by side. Needs root.
    """
    _up(guest, as_json)


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Remove the build cache as well.")] = False,
    as_json: Json = False,
) -> None:
    """Stop everything and remove it: guests, disks, vault, daemons, networks. Only the build cache stays."""
    _down(purge, as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Show the sites, their guests, and whether these answer."""
    _show(_lab().status(), as_json)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Take everything down at the end.")] = False,
) -> None:
    """Show the main job on real VMs: protect, watch points come, test failover, verify; a few minutes."""
    from leeward.lab.demo import demo as run_demo

    run_demo(once)


@app.command()
def scenario(
    files: Annotated[
        list[str] | None, typer.Argument(help="Files, or names of scenarios that come with Leeward (see --list).")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that come with Leeward.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Tell what there is, and what it shows.")] = False,
    hold: Annotated[
        bool, typer.Option("--hold", help="When one fails, leave everything as it is until Enter.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Play what may happen to two sites, on real VMs, with a watcher that nobody fools; see docs/scenarios.md.

    In a lab of its own, with console, agents and vault apart; it is taken down at the end. Exit code 1 when something
    was not as the scenario says.
    """
    from leeward.lab.scenario.commands import list_scenarios, play_scenarios

    if listed:
        list_scenarios(as_json)
    else:
        play_scenarios(files or [], every=every, hold=hold, as_json=as_json)


def _lab() -> Lab:
    from leeward.lab.lab import Lab

    return Lab()


def _up(wanted: list[str] | None, as_json: bool) -> None:
    from rich.console import Console

    from leeward.lab.lab import DEMO_GUESTS

    guests = tuple(wanted or DEMO_GUESTS)
    lab, start = _lab(), time.monotonic()
    with Console(stderr=True, quiet=as_json).status("Bringing the lab up"):
        lab.up(guests)
        for guest in (lab.guests("office")[name] for name in guests):
            lab.wait_http("office", guest.ip, timeout_s=180)
    _show(lab.status() | {"seconds": round(time.monotonic() - start, 1)}, as_json)


def _down(purge: bool, as_json: bool) -> None:
    lab = _lab()
    lab.down(purge=purge)
    if as_json:
        typer.echo(json.dumps({"folder": str(lab.places.root), "up": False}))
    else:
        print(f"The lab at {lab.places.root} is down.")


def _show(state: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(state))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("Site", "libvirt", "Guest", "State", "Address", "HTTP", box=None)
    for site in state["sites"]:
        daemon = "[green]up[/]" if site["libvirt"] else "[dim]down[/]"
        table.add_row(site["name"], daemon)
        for guest in site["guests"]:
            running = "[green]running[/]" if guest["running"] else "[yellow]off[/]"
            answers = "[green]answers[/]" if guest["http"] else "[yellow]silent[/]"
            table.add_row("", "", guest["name"], running, guest["ip"], answers)
    console.print(table)
    if state["up"]:
        console.print(f"Configuration: {state['config']}", soft_wrap=True)
