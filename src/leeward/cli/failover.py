"""`leeward failover …` and `leeward export`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from leeward.cli import moves
from leeward.cli.asking import vm_path
from leeward.cli.context import JSON, current
from leeward.cli.names import Vm, complete_disk, complete_point
from leeward.cli.output import err, live_table, out, print_json, run_table, table
from leeward.cli.units import show_bytes
from leeward.domain.errors import BadInput, LeewardError

app = typer.Typer(no_args_is_help=True, help="Bring VMs up at the recovery site, and home again.")
app.command()(moves.planned)
app.command()(moves.unplanned)
app.command()(moves.commit)
app.command()(moves.failback)
app.command()(moves.retry)
app.command()(moves.cancel)
app.command()(moves.show)
app.command()(moves.history)

Point = Annotated[
    str,
    typer.Option("--point", help="Id of the recovery point (`leeward points VM`).", autocompletion=complete_point),
]


@app.command()
def test(
    vm: Vm,
    point: Point = "latest",
    wait: Annotated[bool, typer.Option("--wait", help="Return when the copy has come up.")] = False,
    as_json: JSON = False,
) -> None:
    """Boot a copy from a recovery point, apart from everything, while production and replication go on.

    The copy has its own disks, identity and an isolated network. Remove it with `leeward failover cleanup VM`.
    """
    client = current().client()
    view = client.post(vm_path(vm, "/test-failover"), {"point": point})
    if wait:
        view = _wait(client, view, quiet=as_json)
    if as_json:
        print_json(view)
    elif not wait:
        out.print(
            f"● Test failover of [bold]{view['vm']}[/] to point {view['point']} begins on {view['host']}\n"
            f"  Look at it with [bold]leeward failover list[/]"
        )
    else:
        out.print(
            f"[green]●[/] [bold]{view['copy_name']}[/] runs on {view['host']}, "
            f"isolated on {view['network']}, at point {view['point']}"
        )
        out.print(f"  Remove it with [bold]leeward failover cleanup {view['vm']}[/]")
    if view["failed"]:
        raise typer.Exit(1)


def _wait(client: Any, view: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Shows the steps of its run, as `leeward failover show` does."""
    run = next(run for run in client.get("/runs", vm=view["vm_id"]) if run["kind"] == "test")
    with live_table(quiet=quiet) as live:
        while True:
            if not quiet:
                live.update(run_table(run), refresh=True)
            if run["state"] not in ("running", "undoing"):
                break
            time.sleep(0.2)
            run = client.get(f"/runs/{run['id']}")
    view = client.get(f"/vms/{view['vm_id']}/test-failover")
    if view["failed"]:
        raise LeewardError(
            f"the test failover failed: {view['failed']}",
            subject=view["vm"],
            hint=f"Remove what was made with `leeward failover cleanup {view['vm']}`",
        )
    return view


@app.command()
def cleanup(vm: Vm, as_json: JSON = False) -> None:
    """End a test failover: remove the copy, its disks and its network."""
    view = current().client().delete(vm_path(vm, "/test-failover"))
    if as_json:
        print_json(view)
    else:
        out.print(f"● The test copy [bold]{view['copy_name']}[/] and all that belonged to it are gone")


@app.command("list")
def list_(as_json: JSON = False) -> None:
    """Test failovers that exist now."""
    views = current().client().get("/test-failovers")
    if as_json:
        print_json(views)
        return
    if not views:
        out.print("There is no test failover.")
        return
    shown = table("VM", "POINT", "COPY", "HOST", "NETWORK", "STATE", right=("POINT",))
    for view in views:
        state = "[red]failed[/]" if view["failed"] else "up" if view["done"] else "starting"
        if view["hydrated"]:
            state += ", independent of the vault"
        shown.add_row(view["vm"], view["point"], view["copy_name"], view["host"], view["network"], state)
    out.print(shown)


def export(
    vm: Vm,
    disk: Annotated[str, typer.Option(help="Disk of the VM, like vda.", autocompletion=complete_disk)],
    to: Annotated[Path, typer.Option(help="File to write.")],
    point: Point = "latest",
    fmt: Annotated[str, typer.Option("--format", help="raw or qcow2.")] = "raw",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: JSON = False,
) -> None:
    """Write one disk of a recovery point to a file, byte for byte.

    Read from the vault itself; no daemon is needed. The file appears when it is complete.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from leeward.cli.vaults import called, open_vault
    from leeward.console.service import find_in_vault
    from leeward.recovery.image import export_image

    if str(to) == "-":
        raise BadInput("an image cannot be written to standard output", subject="--to", hint="Name a file")
    vault = open_vault()
    vm_id, name = find_in_vault(vault, vm)
    columns = (TextColumn("Exporting"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with (
        called(vm_id, name),
        vault.holding(vm_id, point, "export") as held,
        vault.log(vm_id).open_point(held) as image,
        Progress(*columns, console=err, disable=as_json, transient=True) as bar,
    ):
        task = bar.add_task("export", total=None)
        data = export_image(
            image,
            disk,
            to,
            fmt=fmt,
            force=force,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        chosen, size = image.point.id, image.disks[disk].size
    if as_json:
        document = {"vm": name, "vm_id": vm_id, "point": chosen, "disk": disk, "file": str(to)}
        print_json({**document, "format": fmt, "size": size, "data": data})
    else:
        out.print(f"[green]●[/] {to}: disk {disk} of {name} at point {chosen}, {show_bytes(size)}")
