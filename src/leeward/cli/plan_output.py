"""Recovery plans and their runs as people see them."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from leeward.cli.output import table
from leeward.cli.units import show_seconds, show_time

_STATES = {
    "running": "[cyan]under way[/]",
    "waiting": "[yellow]waits for an approval[/]",
    "paused": "[yellow]paused[/]",
    "stalled": "[red]stalled[/]",
    "aborting": "[yellow]being aborted[/]",
    "aborted": "[yellow]aborted[/]",
    "cleaning": "[cyan]being cleaned up[/]",
    "cleaned": "cleaned up",
    "done": "[green]done[/]",
}
_MARKS = {
    "waiting": "[bright_black]○[/]",
    "running": "[cyan]◐[/]",
    "done": "[green]●[/]",
    "failed": "[red]✗[/]",
    "skipped": "[bright_black]–[/]",
}


def state_words(run: dict[str, Any]) -> str:
    if run["state"] == "done" and not run["complete"]:
        return "[yellow]done, not everything[/]"
    return _STATES[run["state"]]


def plans_table(plans: list[dict[str, Any]]) -> Table:
    made = table("PLAN", "GROUPS", "VMS", "LAST RUN", "", right=("GROUPS", "VMS"))
    for plan in plans:
        last = plan["last_run"]
        shown = f"{last['kind']}, {state_words(last)}, {show_time(last['created'])}" if last else "never"
        troubles = "; ".join(plan["troubles"])
        groups = str(len(plan["document"]["groups"]))
        made.add_row(escape(plan["name"]), groups, str(len(plan["vms"])), shown, f"[red]{escape(troubles)}[/]")
    return made


def plan_table(plan: dict[str, Any]) -> Table:
    """What happens in which group, in order."""
    made = table("GROUP", "BEFORE", "VMS", "THEN")
    for group in plan["document"]["groups"]:
        before = [f"wait {show_seconds(group['delay'])}"] if group["delay"] else []
        before += ["approval"] if group["approval"] else []
        before += [f"run {script['run']}" for script in group["before"]]
        then = [f"check {check['vm']}: {_check(check)}" for check in group["checks"]]
        then += [f"run {script['run']}" for script in group["after"]]
        cells = (group["name"], "\n".join(before), "\n".join(group["vms"]), "\n".join(then))
        made.add_row(*(escape(cell) for cell in cells))
    return made


def _check(check: dict[str, Any]) -> str:
    if check["kind"] == "agent":
        return "guest agent"
    return f"tcp {check['port']}" if check["kind"] == "tcp" else f"http {check['port']} {check['path']}"


def plan_run_table(run: dict[str, Any]) -> Table:
    """A run, step by step; what takes it back, or cleans it up, below."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(overflow="fold", style="bold")
    made.add_column()
    made.add_column(overflow="fold")
    made.add_column(justify="right", no_wrap=True)
    made.add_column(overflow="fold", style="bright_black")
    shown = ""
    for step in [*run["steps"], *run["back"]]:
        group = "" if step["group"] == shown else step["group"]
        shown = step["group"]
        taken = f"{step['seconds']:.1f} s" if step["seconds"] is not None else ""
        made.add_row(escape(group), _MARKS[step["state"]], escape(step["tells"]), taken, escape(_detail(step)))
    return made


def _detail(step: dict[str, Any]) -> str:
    words = [step["detail"]] if step["detail"] else []
    if step["by"]:
        words.insert(0, f"{'skipped by' if step['waived'] else 'by'} {step['by']}")
    elif step["waived"]:
        words.append("the run went on")
    return ": ".join(words)


def title(run: dict[str, Any]) -> str:
    kind = {"test": "Test", "planned": "Planned run", "unplanned": "Unplanned run"}[run["kind"]]
    notes = "".join(f"\n  To {escape(note)}" for note in run["notes"])
    return f"[bold]{kind}[/] of plan [bold]{escape(run['plan'])}[/] · {run['id']} · {state_words(run)}{notes}"


def outcome(run: dict[str, Any]) -> str:
    """One line: what came of it, or what is to be done now."""
    name = escape(run["plan"])
    if run["state"] == "waiting":
        return f"● Group {escape(run['waits_for'])} waits for an approval: [bold]leeward plan approve {name}[/]"
    if run["state"] == "paused":
        return f"● It is paused. Go on with [bold]leeward plan resume {name}[/]"
    if run["state"] == "done" and run["complete"]:
        rto = f" in {show_seconds(run['rto_s'])}" if run["rto_s"] is not None else ""
        more = f" Remove the copies with [bold]leeward plan cleanup {name}[/]" if run["kind"] == "test" else ""
        return f"[green]●[/] All of plan [bold]{name}[/] has come up{rto}.{more}"
    if run["state"] == "cleaned":
        return f"● All copies that the test of plan [bold]{name}[/] had made are gone"
    return f"● Plan [bold]{name}[/]: {state_words(run)}. Watch it with [bold]leeward plan status {name} --watch[/]"
