"""`leeward host scan`: looks for hypervisor hosts in address ranges. Runs by itself and needs no daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from leeward.cli.context import JSON
from leeward.cli.output import err, out, print_json, table
from leeward.cli.units import seconds, show_seconds
from leeward.network.discovery.pace import DEFAULT, Pace

if TYPE_CHECKING:  # slow to load, and needed by this one command only
    from leeward.console.discovery_api import FindingView, ScanView
    from leeward.network.discovery.scans import Look, Scans

_LOOK_S = 0.1
_INTERRUPTED = 130
_SUPPORTED = {True: "[green]yes[/]", False: "[red]no[/]", None: "[yellow]not known yet[/]"}


def scan(
    ranges: Annotated[
        list[str],
        typer.Argument(help="Like 10.77.0.0/24, 10.77.0.5-20, fd00::5 or a host name; at most 4,096 addresses."),
    ],
    timeout: Annotated[str, typer.Option(help="How long to wait for a connection.")] = f"{DEFAULT.connect_s:g}s",
    rate: Annotated[float, typer.Option(help="New connections a second.")] = DEFAULT.rate,
    names: Annotated[bool, typer.Option("--names/--no-names", help="Ask the name service for names.")] = True,
    wait: Annotated[bool, typer.Option("--wait", hidden=True, help="It always waits: the scan ends with it.")] = True,
    as_json: JSON = False,
) -> None:
    """Look for hypervisor hosts in address ranges.

    Knocks at the ports of SSH, libvirt and Windows' remote management, and signs in nowhere. Ctrl-C ends it and shows
    what was found so far.
    """
    from leeward.console.discovery_api import scan_view
    from leeward.network.discovery.scans import Scans

    scans = Scans()
    scan_id = scans.start(ranges, Pace(connect_s=seconds(timeout), rate=rate), names=names)
    try:
        look = _follow(scans, scan_id, quiet=as_json)
    except KeyboardInterrupt:
        look = scans.cancel(scan_id)
    if look.error is not None:
        raise look.error
    view = scan_view(look)
    print_json(view.model_dump(mode="json")) if as_json else _show(view)
    if look.state == "cancelled":
        raise typer.Exit(_INTERRUPTED)


def _follow(scans: Scans, scan_id: str, *, quiet: bool) -> Look:
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]Scanning[/]"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=quiet, transient=True) as bar:
        task: TaskID = bar.add_task("scan", total=None, note="")
        while (look := scans.look(scan_id)).state == "running":
            note = f"{len(look.findings)} found"
            bar.update(task, total=look.total or None, completed=look.done, note=note)
            time.sleep(_LOOK_S)
    return look


def _show(view: ScanView) -> None:
    if view.findings:
        out.print(_table(view.findings))
    asked = f"{view.addresses:,} {'address' if view.addresses == 1 else 'addresses'}"
    result = f"{view.found} with an open port, {view.alive} alive"
    if view.state == "cancelled":
        out.print(f"Interrupted after {view.done:,} of {view.total:,} connections ({asked}): {result} so far.")
    else:
        out.print(f"{asked} scanned in {show_seconds(view.seconds)}: {result}.")


def _table(findings: list[FindingView]) -> Table:
    made = table("ADDRESS", "NAME", "WHAT IT IS", "SUPPORTED", "NEXT STEP")
    for finding in findings:
        # Words that strangers sent must not be taken for markup.
        supported = _SUPPORTED[finding.supported] + (f": {escape(finding.reason)}" if finding.reason else "")
        made.add_row(
            finding.address, escape(finding.name or "–"), escape(finding.what), supported, escape(finding.next or "–")
        )
    return made
