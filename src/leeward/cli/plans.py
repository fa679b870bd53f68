"""`leeward plan …`: groups of VMs that are failed over together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from leeward.cli.asking import plan_path
from leeward.cli.before_moves import confirm_losses, must_lead_away
from leeward.cli.confirming import asks, confirm
from leeward.cli.context import JSON, current
from leeward.cli.moves import Newest
from leeward.cli.names import complete_plan, complete_recovery_host
from leeward.cli.output import err, live_table, out, plain, print_json
from leeward.cli.plan_files import read_document
from leeward.cli.plan_output import outcome, plan_run_table, plan_table, plans_table, title
from leeward.cli.units import seconds
from leeward.domain.errors import BadInput, LeewardError

app = typer.Typer(no_args_is_help=True, help="Recovery plans: groups of VMs that are failed over together, in order.")

Name = Annotated[str, typer.Argument(help="Name of the plan.", autocompletion=complete_plan)]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show the steps, until it ends or needs you.")]
RunId = Annotated[str | None, typer.Option("--run", help="Id of the run that is meant; mostly not needed.")]
Force = Annotated[bool | None, typer.Option("--force", help="Power VMs off whose guests do not shut down in time.")]
Timeout = Annotated[str | None, typer.Option("--timeout", help="How long a guest may take to shut down. Default 2m.")]
_GOES_ON = ("running", "aborting", "cleaning")


@app.command("list")
def list_(as_json: JSON = False) -> None:
    """All plans, with what became of their last run."""
    views = current().client().get("/plans")
    if as_json:
        print_json(views)
    elif views:
        out.print(plans_table(views))
    else:
        out.print("There is no plan. Make one out of a file: [bold]leeward plan create FILE[/]")


@app.command()
def show(plan: Name, as_json: JSON = False) -> None:
    """A plan: its groups, in order."""
    view = current().client().get(plan_path(plan))
    if as_json:
        print_json(view)
        return
    out.print(plan_table(view))
    for trouble in view["troubles"]:
        err.print(f"[red]✗[/] {trouble}")


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="YAML, TOML or JSON (docs/plans.md); - is standard input.")],
    replace: Annotated[bool, typer.Option("--replace", help="Change the plan of this name.")] = False,
    as_json: JSON = False,
) -> None:
    """Make a plan out of a file."""
    document = read_document(file)
    client = current().client()
    if replace and document.get("name") in {known["name"] for known in client.get("/plans")}:
        view = client.put(plan_path(document["name"]), document)
    else:
        view = client.post("/plans", document)
    if as_json:
        print_json(view)
    else:
        out.print(f"[green]●[/] Plan [bold]{view['name']}[/]: {len(view['vms'])} VMs. Try it: ", end="")
        out.print(f"[bold]leeward plan run {view['name']} --test --wait[/]")


@app.command()
def delete(plan: Name, as_json: JSON = False) -> None:
    """Forget a plan. What its runs have done stays."""
    view = current().client().delete(plan_path(plan))
    if as_json:
        print_json(view)
    else:
        out.print(f"● Plan [bold]{plan}[/] is gone")


@app.command()
def run(
    plan: Name,
    test: Annotated[bool, typer.Option("--test", help="Copies, apart from production.")] = False,
    planned: Annotated[bool, typer.Option("--planned", help="Shut all down at home and lose nothing.")] = False,
    unplanned: Annotated[bool, typer.Option("--unplanned", help="Home is gone.")] = False,
    point: Annotated[str, typer.Option("--point", help="latest or app.")] = "latest",
    to: Annotated[
        str | None,
        typer.Option("--to", help="Recovery host; the first one without it.", autocompletion=complete_recovery_host),
    ] = None,
    newest: Newest = None,
    force: Force = None,
    timeout: Timeout = None,
    wait: Wait = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JSON = False,
) -> None:
    """Run a plan: its groups one after the other, the VMs of a group side by side."""
    wanted = [kind for kind, given in (("test", test), ("planned", planned), ("unplanned", unplanned)) if given]
    if len(wanted) != 1:
        raise BadInput("say which: --test, --planned or --unplanned", subject=plan)
    client = current().client()
    body: dict[str, Any] = {"kind": wanted[0], "point": point, "to": to, "newest": newest}
    body |= {"force": force, "timeout_s": _seconds(timeout)}
    if wanted[0] != "test" and asks(yes):
        _confirm(client, plan, wanted[0], {"point": point, "to": to, "newest": newest})
    _follow(client, client.post(plan_path(plan, "/runs"), body), wait, as_json)


@app.command()
def status(
    plan: Name,
    run_id: RunId = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until it ends or needs you.")] = False,
    as_json: JSON = False,
) -> None:
    """The newest run of a plan, step by step."""
    client = current().client()
    view = client.get(f"/plan-runs/{quote(run_id.replace('/', '-'))}" if run_id else plan_path(plan, "/run"))
    if watch and not as_json:
        _follow(client, view, True, False)
    elif as_json:
        print_json(view)
    else:
        out.print(title(view))
        out.print(plan_run_table(view))
        for step in view["steps"]:
            if step["output"] and step["state"] == "failed":
                out.print(f"\n{step['tells']} said:\n{step['output']}", markup=False)


@app.command()
def history(
    plan: Name, limit: Annotated[int, typer.Option(min=1, help="The newest N.")] = 20, as_json: JSON = False
) -> None:
    """The runs of a plan, newest first."""
    views = current().client().get(plan_path(plan, "/runs"), limit=limit)
    if as_json:
        print_json(views)
        return
    for view in views:
        out.print(title(view))
        if view["failure"]:
            out.print(f"  {view['failure']}", markup=False)


@app.command()
def approve(
    plan: Name,
    group: Annotated[str | None, typer.Option("--group", help="Refuse unless it is this group that waits.")] = None,
    note: Annotated[str, typer.Option("--note", help="Kept with the approval.")] = "",
    run_id: RunId = None,
    wait: Wait = False,
    as_json: JSON = False,
) -> None:
    """Say yes to the group that waits for it."""
    _ask(plan, "approve", {"group": group, "note": note, "run": run_id}, wait, as_json)


@app.command()
def pause(plan: Name, run_id: RunId = None, as_json: JSON = False) -> None:
    """Begin nothing further; what is under way goes on to its end."""
    _ask(plan, "pause", {"run": run_id}, False, as_json)


@app.command()
def resume(plan: Name, run_id: RunId = None, wait: Wait = False, as_json: JSON = False) -> None:
    """Go on with a run that was paused."""
    _ask(plan, "resume", {"run": run_id}, wait, as_json)


@app.command()
def abort(plan: Name, run_id: RunId = None, wait: Wait = False, as_json: JSON = False) -> None:
    """End a run: what has not come up yet is taken back and runs at home again, what has come up stays.

    Asked once more, nobody waits for what is still being taken back.
    """
    _ask(plan, "abort", {"run": run_id}, wait, as_json)


@app.command()
def retry(
    plan: Name,
    skip: Annotated[bool, typer.Option("--skip", help="Go on without what has failed.")] = False,
    force: Force = None,
    timeout: Timeout = None,
    run_id: RunId = None,
    wait: Wait = False,
    as_json: JSON = False,
) -> None:
    """Do again what has failed, and go on. Of a run that has ended: what it had to leave out."""
    body = {"skip": skip, "force": force, "timeout_s": _seconds(timeout), "run": run_id}
    _ask(plan, "retry", body, wait, as_json)


@app.command()
def cleanup(plan: Name, run_id: RunId = None, wait: Wait = True, as_json: JSON = False) -> None:
    """End a test: remove all copies that it has made."""
    _ask(plan, "cleanup", {"run": run_id}, wait, as_json)


def _ask(plan: str, what: str, body: dict[str, Any], wait: bool, as_json: bool) -> None:
    client = current().client()
    given = {name: value for name, value in body.items() if value is not None}
    _follow(client, client.post(plan_path(plan, f"/{what}"), given), wait, as_json)


def _confirm(client: Any, plan: str, kind: str, how: dict[str, Any]) -> None:
    vms = client.get(plan_path(plan))["vms"]
    if kind == "unplanned":
        confirm_losses(client, vms, how)
    else:
        must_lead_away(client, how["to"])
        confirm(f"{', '.join(plain(vm) for vm in vms)}: all are shut down here and started at the recovery site")


def _seconds(text: str | None) -> float | None:
    return seconds(text) if text is not None else None


def _follow(client: Any, view: dict[str, Any], wait: bool, as_json: bool) -> None:
    """Show a run until it has ended or needs somebody; its outcome is the command's."""
    if wait:
        with live_table(quiet=as_json) as live:
            while view["state"] in _GOES_ON:
                if not as_json:
                    live.update(plan_run_table(view), refresh=True)
                time.sleep(0.3)
                view = client.get(f"/plan-runs/{view['id']}")
            if not as_json:
                live.update(plan_run_table(view), refresh=True)
    failed = view["state"] == "stalled" or (view["state"] == "done" and not view["complete"])
    if as_json:
        print_json(view)
        if failed:
            raise typer.Exit(1)
        return
    if view["state"] == "stalled":
        again = f"leeward plan retry {view['plan']}"
        raise LeewardError(
            f"it has stalled: {view['failure']}",
            subject=view["plan"],
            hint=f"When that is mended: `{again}`. Without it: `{again} --skip`",
        )
    if failed:
        raise LeewardError(
            f"not everything was done: {view['failure']}",
            subject=view["plan"],
            hint=f"Once more: `leeward plan retry {view['plan']}`",
        )
    out.print(outcome(view))
