"""What people and scripts see: one JSON document, or tables; errors on one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.errors import MarkupError
from rich.table import Table
from rich.text import Text

from leeward.cli.lines import Lines
from leeward.cli.units import show_bytes, show_seconds, show_time
from leeward.domain.durations import short

if TYPE_CHECKING:
    from rich.live import Live  # dear to import, and seldom needed

_TAGS = ("/", "bold", "bold red", "green", "red", "yellow", "cyan", "bright_black", "white")
_NO_TAG = re.compile(rf"(?<!\\)\[(?!(?:{'|'.join(_TAGS)})\])")


class Plain(Console):
    """Shows names, reasons and fingerprints as they are: a VM may be called "web[old]", and ":AB:" is no emoji."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        if options.get("markup") is False:
            return super().render_str(text, **options)
        try:
            return super().render_str(_NO_TAG.sub(r"\\[", text), **options)
        except MarkupError:  # what is shown ends a style of its own
            return super().render_str(text, **{**options, "markup": False})


out = Plain(soft_wrap=False)
err = Plain(stderr=True)

_COLOURS = {
    "enabled": "green",
    "replicating": "cyan",
    "resynchronizing": "yellow",
    "paused": "yellow",
    "error": "red",
    "disabled": "bright_black",
}


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def plain(text: str) -> str:
    """Of what strangers wrote, or what their VMs and hosts are called: it must not write into our terminal."""
    printable = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return printable.replace("[", "\\[")


_PHASES = {
    "failing-over": "[cyan]failing over to {away}[/]",
    "failover-stalled": "[red]failover stalled[/]",
    "failover-undoing": "[yellow]being taken back[/]",
    "away": "[yellow]runs at {away}, not committed[/]",
    "committing": "[cyan]committing[/]",
    "settled": "[green]runs at {away}[/]",
    "failing-back": "[cyan]failing back to {home}[/]",
    "failback-stalled": "[red]failback stalled[/]",
    "failback-undoing": "[yellow]being taken back[/]",
    "back": "[yellow]home again, not committed[/]",
    "finishing": "[cyan]committing[/]",
}


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def state_text(state: str) -> str:
    colour = _COLOURS.get(state, "white")
    return f"[{colour}]●[/] {state.capitalize()}"


def hosts_table(hosts: list[dict[str, Any]]) -> Lines:
    made = Lines(("HOST", "SITE", "VMS", "STATE", "ADDRESS"), right=("VMS",), whole=("STATE",), below=True)
    for host in hosts:
        state = "[green]● Reachable[/]" if host["reachable"] else "[red]● Unreachable[/]"
        notes = [f"[red]● {plain(host['error'])}[/]"] if host["error"] else []
        notes += [f"[yellow]● {plain(host['trouble'])}[/]"] if host["trouble"] else []
        count = str(host["vms"]) if host["site"] == "source" else ""
        made.add(host["name"], host["site"], count, state, host["uri"], notes=notes)
    return made


def vms_table(vms: list[dict[str, Any]]) -> Lines:
    columns = ("VM", "HOST", "POWER", "CPUS", "MEMORY", "DISKS", "PROTECTED")
    made = Lines(columns, right=("CPUS", "MEMORY"), whole=("CPUS", "MEMORY", "PROTECTED"))
    for vm in vms:
        disks = ", ".join(f"{disk['name']} {show_bytes(disk['size'])}" for disk in vm["disks"])
        protected = "[green]yes[/]" if vm["protected"] else "[red]cannot be[/]" if vm["unsupported"] else "no"
        cells = (vm["name"], vm["host"], vm["power"], str(vm["vcpus"]), f"{vm['memory_mib']} MiB", disks, protected)
        notes = [plain(vm["unsupported"])] if vm["unsupported"] else []
        lacks = vm.get("lacks")  # a console of before does not tell
        notes += [f"[yellow]● a copy will lack {plain(', '.join(lacks))}[/]"] if lacks else []
        made.add(*cells, notes=notes)
    return made


def status_table(rows: list[dict[str, Any]]) -> Lines:
    """A line for each VM, which fits into 80 columns; what is to be said of one stands below it."""
    columns = ("VM", "HOST", "STATE", "RPO", "TARGET", "NEWEST POINT", "FAILOVER")
    made = Lines(columns, right=("RPO", "TARGET"), whole=("RPO", "TARGET", "NEWEST POINT"))
    for row in rows:
        made.add(*_status_cells(row), notes=_status_notes(row))
    return made


def _status_cells(row: dict[str, Any]) -> tuple[str, ...]:
    point = row["last_point"]
    actual, target = row["rpo_actual_s"], row["rpo_target_s"]
    late = actual is not None and target is not None and actual > 2 * target
    rpo = f"[{'red' if late else 'green'}]{show_seconds(actual)}[/]" if actual is not None else "–"
    state = state_text(row["state"])
    progress = row["progress"]
    if progress and row["state"] in ("replicating", "resynchronizing"):
        state += f" {progress['fraction'] * 100:.0f} %"
    newest = f"{point['id']} · {_lately(point['time'])}" if point else "–"
    possible = "possible" if row["failover_possible"] else "[bright_black]not yet[/]"
    if row["phase"] != "home":
        possible = _PHASES.get(row["phase"], row["phase"]).format(**row)
    if row["state"] == "disabled":
        possible = "–"
    return row["vm"], row["host"], state, rpo, show_seconds(target), newest, possible


def _lately(iso: str) -> str:
    """The time of day; with its date where that is not today's."""
    day, _, time = show_time(iso).partition(" ")
    today = datetime.now().astimezone().strftime("%Y-%m-%d")
    return time if day == today else f"{day} {time[:5]}"


def _status_notes(row: dict[str, Any]) -> list[str]:
    notes = [row["reason"]] if row["reason"] and row["reason"] != "not protected" else []
    if row["test_failover"]:
        notes.append(f"test copy: {row['test_failover']}")
    if row["replica"]:
        notes.append(replica_text(row["replica"]))
    return notes


def replica_text(replica: dict[str, Any]) -> str:
    """A warm replica in words."""
    host, lag = replica["host"], replica["lag_s"]
    age = f", {show_seconds(lag)} behind" if lag else ""
    said = {
        "copying": f"replica at {host}: copying {replica['fraction'] * 100:.0f} %",
        "warm": f"warm at {host}{age}",
        "behind": f"[yellow]replica at {host}{age}: {replica['reason']}[/]",
        "taken": f"the replica at {host} is in use by a failover",
        "error": f"[red]no replica at {host}: {replica['reason']}[/]",
    }
    return said.get(replica["state"], f"replica at {host}: {replica['reason']}")


def points_table(points: list[dict[str, Any]]) -> Table:
    # Fits into 80 columns, so that each point is one line.
    groups = any(point["mark"] for point in points)
    columns = ("POINT", "TIME", "CONSISTENCY", *(("GROUP",) if groups else ()), "DISKS", "STORED")
    made = table(*columns, right=("POINT", "STORED"))
    made.columns[1].no_wrap = True
    for point in points:
        size = show_bytes(sum(disk["size"] for disk in point["disks"]))
        disks = f"{', '.join(disk['name'] for disk in point['disks'])} · {size}"
        time = show_time(point["time"]) + point["time"][19:23]
        group = (point["mark"]["group"] if point["mark"] else "",) if groups else ()
        made.add_row(point["id"], time, point["consistency"], *group, disks, show_bytes(point["bytes"]))
    return made


@contextmanager
def live_table(*, quiet: bool) -> Iterator[Live]:
    """A table that is shown anew where it stands, beside the answer, which may go into a pipe. quiet: none is."""
    from rich.live import Live

    with Live(console=err, auto_refresh=False, transient=False) as live:
        yield live
    # Where nothing can be shown anew it prints the last one, and leaves its last line open.
    if not quiet and not err.is_terminal:
        err.line()


def aside_line(name: str, size: int, since: str, folder: str) -> str:
    """Of points that were set aside: where they are, and that they are not needed for anything."""
    return (
        f"[yellow]●[/] [bold]{plain(name)}[/]: points that never reached the vault were set aside at "
        f"{show_time(since)} ({show_bytes(size)}). Leeward needs them no more; when you do not either: "
        f"[bold]rm -r {plain(folder)}[/]"
    )


_MARKS = {"waiting": "[bright_black]○[/]", "running": "[cyan]◐[/]", "done": "[green]●[/]", "failed": "[red]✗[/]"}


_RUN_STATES = {
    "running": "[cyan]under way[/]",
    "stalled": "[red]stalled[/]",
    "undoing": "[yellow]being taken back[/]",
    "done": "[green]done[/]",
    "undone": "[yellow]taken back[/]",
}


def run_table(view: dict[str, Any]) -> Table:
    """A run, step by step; once it is being taken back, those steps below."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column()
    made.add_column(overflow="fold")
    made.add_column(justify="right", no_wrap=True)
    made.add_column(overflow="fold", style="bright_black")
    over = view["state"] in ("done", "undone")
    for step in [*view["steps"], *view["undo"]]:
        taken = f"{step['seconds']:.1f} s" if step["seconds"] is not None else ""
        detail = step["detail"] or ("not done" if over and step["state"] == "waiting" else "")
        made.add_row(_MARKS[step["state"]], step["tells"], taken, detail.replace("[", "\\["))
    return made


def run_line(view: dict[str, Any]) -> str:
    """How a run stands, and when it was."""
    ended = f", ended {show_time(view['ended'])}" if view["ended"] else ""
    why = f": {view['failure']}" if view["failure"] else ""
    return f"{_RUN_STATES[view['state']]}{why} · begun {show_time(view['created'])} by {view['by']}{ended}"


# As they are called elsewhere too: what a commit settles shows by what was moved before it.
_KINDS = {"finish": "commit", "unplanned-failback": "unplanned failback"}
_POINTLESS = ("commit", "finish")


def runs_table(views: list[dict[str, Any]]) -> Lines:
    columns = ("RUN", "VM", "WHAT", "STATE", "POINT", "BEGUN", "BY", "RTO")
    made = Lines(columns, right=("POINT", "RTO"), whole=("RUN", "BEGUN", "RTO"), spare=True)
    for view in views:
        rto = show_seconds(view["rto_s"]) if view["rto_s"] is not None else ""
        point = "" if view["kind"] in _POINTLESS else view["point"]  # consoles of before name one
        cells = (view["id"], view["vm"], _KINDS.get(view["kind"], view["kind"]), _RUN_STATES[view["state"]], point)
        notes = [plain(view["failure"])] if view["failure"] else []
        made.add(*cells, show_time(view["created"]), view["by"], rto, notes=notes)
    return made


def audit_table(rows: list[dict[str, Any]]) -> Lines:
    colours = {"done": "green", "refused": "yellow", "failed": "red"}
    columns = ("NO.", "TIME", "WHO", "FROM", "WHAT", "SUBJECT", "OUTCOME", "")
    made = Lines(columns, right=("NO.",), whole=("NO.", "TIME", "OUTCOME"), below=True)
    for row in rows:
        outcome = f"[{colours.get(row['outcome'], 'white')}]{row['outcome']}[/]"
        where = (row["who"], row["address"], row["what"], row["subject"])
        cells = (str(row["id"]), show_time(row["time"]), *(plain(text) for text in where), outcome)
        made.add(*cells, plain(row["detail"]))
    return made


def events_table(rows: list[dict[str, Any]]) -> Lines:
    made = Lines(("TIME", "WHAT", "SUBJECT", "WHO", "DETAIL"), whole=("TIME",), below=True)
    for row in rows:
        kind, space, rest = row["what"].partition(" ")
        cells = (_KINDS.get(kind, kind) + space + rest, row["subject"], row["who"], _event_detail(row["detail"]))
        made.add(show_time(row["time"]), *(plain(text) for text in cells))
    return made


def _event_detail(detail: str) -> str:
    """A policy is noted as JSON; what it does not want is left out."""
    try:
        policy = json.loads(detail)
    except ValueError:
        return detail
    if not isinstance(policy, dict):
        return detail
    return ", ".join(
        f"{name.removesuffix('_s').replace('_', '-')} {short(value) if name.endswith('_s') else value}"
        for name, value in policy.items()
        if value and (name != "group_s" or policy.get("group"))
    )
