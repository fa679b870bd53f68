"""`leeward drill …`: tests that come round, of VMs and of plans."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from leeward.cli.asking import plan_path, vm_path
from leeward.cli.context import JSON, current
from leeward.cli.lines import Lines
from leeward.cli.names import OptionalVm, complete_plan
from leeward.cli.output import out, plain, print_json
from leeward.cli.units import seconds, show_seconds, show_time
from leeward.domain.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="Test VMs and plans again and again, by a schedule.")


@app.command("list")
def list_(as_json: JSON = False) -> None:
    """Schedules, the one that is due first first."""
    views = current().client().get("/drills")
    if as_json:
        print_json(views)
    elif not views:
        out.print("No drill is scheduled. Schedule one with [bold]leeward drill set VM --every 30d[/]")
    else:
        out.print(_table(views))


@app.command("set")
def set_(
    vm: OptionalVm = None,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan", help="Of this plan's test run, of all its VMs together.", autocompletion=complete_plan
        ),
    ] = None,
    every: Annotated[str | None, typer.Option("--every", help="Between good tests, like 30d.")] = None,
    never: Annotated[bool, typer.Option("--never", help="No drills any more.")] = False,
    by_itself: Annotated[
        bool, typer.Option("--run/--warn", help="Run it by itself when it is due, or only tell (the default).")
    ] = False,
    window: Annotated[
        str, typer.Option("--window", help="Time of the day to run it in, by the console's clock: 22:00-04:00.")
    ] = "",
    keep: Annotated[str, typer.Option("--keep", help="How long the copies stay.")] = "10m",
    as_json: JSON = False,
) -> None:
    """Schedule tests of a VM, or of a plan. A test that somebody makes by hand counts as well."""
    if (vm is None) == (plan is None):
        raise BadInput("say which VM, or which plan", subject=vm or "", hint="Give one of VM and --plan")
    subject = vm or plan or ""
    if never == (every is not None):
        raise BadInput("say how often, or never", subject=subject, hint="Give one of --every and --never")
    path = vm_path(vm, "/drill") if vm is not None else plan_path(subject, "/drill")
    client = current().client()
    if never:
        view = client.delete(path)
    else:
        wanted = {"every_s": seconds(every or ""), "mode": "run" if by_itself else "warn", "window": window}
        view = client.put(path, {**wanted, "keep_s": seconds(keep)})
    name = view["vm"] if vm is not None else f"plan {view['plan']}"
    if as_json:
        print_json(view)
    elif never:
        out.print(f"● No drills of [bold]{plain(name)}[/] any more")
    else:
        when = "now" if view["overdue"] else show_time(view["next_due"])
        out.print(f"[green]●[/] [bold]{plain(name)}[/] is tested every {show_seconds(view['every_s'])}; due: {when}")


def _table(views: list[dict[str, Any]]) -> Any:
    columns = ("VM OR PLAN", "EVERY", "MODE", "WINDOW", "LAST GOOD TEST", "NEXT DUE", "LAST DRILL")
    shown = Lines(columns, right=("EVERY",), whole=("EVERY", "WINDOW"))
    for view in views:
        due = "[yellow]now[/]" if view["overdue"] else show_time(view["next_due"])
        good = show_time(view["last_good"]) if view["last_good"] else "never"
        last = "–"
        if view["last_drill"]:
            outcome = view["last_outcome"] or "under way"
            last = f"{show_time(view['last_drill'])} [red]{outcome}[/]" if outcome == "failed" else outcome
        mode = "runs by itself" if view["mode"] == "run" else "only tells"
        every = show_seconds(view["every_s"])
        name = f"plan {view['plan']}" if view["plan"] else view["vm"]
        shown.add(plain(name), every, mode, view["window"] or "any time", good, due, last)
    return shown
