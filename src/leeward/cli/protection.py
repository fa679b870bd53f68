"""`leeward protect`, `status`, `points` and their relatives."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from leeward.cli.asking import vm_path
from leeward.cli.context import JSON, current
from leeward.cli.names import AnyVm, Vm, complete_host
from leeward.cli.output import (
    aside_line,
    err,
    events_table,
    hosts_table,
    out,
    points_table,
    print_json,
    status_table,
    vms_table,
)
from leeward.cli.units import seconds, show_bytes, show_seconds, size
from leeward.domain.errors import BadInput, LeewardError

host_app = typer.Typer(no_args_is_help=True, help="Hypervisor hosts.")
# What the API calls otherwise than the command line.
_OPTIONS = {"group_s": "--group-every"}

vm_app = typer.Typer(no_args_is_help=True, help="Virtual machines.")


@host_app.command("list")
def list_hosts(as_json: JSON = False) -> None:
    """Hosts of both sites, and whether they answer."""
    hosts = current().client().get("/hosts")
    print_json(hosts) if as_json else out.print(hosts_table(hosts))


@vm_app.command("list")
def list_vms(as_json: JSON = False) -> None:
    """VMs of the source hosts, and which of them are protected."""
    vms = current().client().get("/vms")
    if as_json:
        print_json(vms)
    elif vms:
        out.print(vms_table(vms))
    else:
        out.print("The hosts have no VMs.")


def protect(
    vm: Vm,
    rpo: Annotated[str | None, typer.Option(help="Time between points: 1s … 24h. Default 5s.")] = None,
    retain: Annotated[str | None, typer.Option(help="How long all points are kept. Default 24h.")] = None,
    hourly: Annotated[
        str | None, typer.Option(help="How long one point an hour is kept, like 3d; 0 for not. Default 0.")
    ] = None,
    daily: Annotated[
        str | None, typer.Option(help="How long one point a day is kept, like 30d; 0 for not. Default 0.")
    ] = None,
    app_interval: Annotated[
        str | None, typer.Option(help="Time between application-consistent points; 0 for none. Default 1h.")
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(help="Upload limit a second, like 10M; 64k or more; 0 for none.")
    ] = None,
    warm: Annotated[
        bool | None,
        typer.Option("--warm/--no-warm", help="Keep the VM's disks whole at a recovery host, or no longer."),
    ] = None,
    warm_host: Annotated[
        str | None,
        typer.Option("--warm-host", help="At which one; --warm alone takes the first.", autocompletion=complete_host),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Consistency group: VMs of one host that have points of one instant; '' leaves it."),
    ] = None,
    group_every: Annotated[
        str | None, typer.Option(help="Time between two instants of the group, for all of its VMs. Default 1m.")
    ] = None,
    past_damage: Annotated[
        bool,
        typer.Option(
            "--past-damage", help="Go on behind a log that cannot be read to its end. The VM must run nowhere else."
        ),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the first copy is complete.")] = False,
    as_json: JSON = False,
) -> None:
    """Protect a VM, or change how it is protected.

    The first copy begins at once while the VM runs on; failover opens when it is complete. Safe to repeat.

    With --warm the recovery host also keeps whole disks that follow the recovery points: a failover to them needs
    neither the vault nor the time to copy anything out of it.

    With --past-damage a VM whose newest points in the vault are damaged is replicated on, all of it compared with the
    newest point that can be read. Try first to put the damaged object back from a copy of the vault. Where the VM
    runs at another site all the same, it is stopped there.
    """
    if warm is False and warm_host:
        raise BadInput("--no-warm and --warm-host exclude each other", subject=vm)
    request = {
        "warm": warm_host or warm,
        "rpo_s": seconds(rpo) if rpo is not None else None,
        "retain_s": seconds(retain) if retain is not None else None,
        "hourly_s": seconds(hourly) if hourly is not None else None,
        "daily_s": seconds(daily) if daily is not None else None,
        "app_interval_s": seconds(app_interval) if app_interval is not None else None,
        "bandwidth": size(bandwidth) if bandwidth is not None else None,
        "group": group,
        "group_s": seconds(group_every) if group_every is not None else None,
        "past_damage": past_damage,
    }
    client = current().client()
    anew = wait and client.get("/status", vm=vm)[0]["policy"] is None
    ordered = time.monotonic()  # before it: its agent may have a point before we have our answer
    try:
        view = client.put(vm_path(vm, "/protection"), request)
    except LeewardError as error:
        if error.exit_code == BadInput.exit_code and error.subject in request:  # as it was typed here
            error.subject = _OPTIONS.get(error.subject) or f"--{error.subject.removesuffix('_s').replace('_', '-')}"
        raise
    _show_cost(float(view["rpo_target_s"]))
    if wait:
        view = _wait_enabled(client, view["vm_id"], quiet=as_json, after=ordered if anew else None)
    if as_json:
        print_json(view)
        return
    lacks: list[str] = next((each.get("lacks", []) for each in client.get("/vms") if each["id"] == view["vm_id"]), [])
    if lacks:
        out.print(f"[yellow]●[/] A copy of [bold]{view['vm']}[/] will lack {', '.join(lacks)}", soft_wrap=True)
    point = view["last_point"]
    if view["state"] == "paused":
        out.print(
            f"[yellow]●[/] [bold]{view['vm']}[/] is paused; its policy counts once it goes on: "
            f"[bold]leeward resume {view['vm']}[/]"
        )
    elif view["state"] == "error":
        out.print(f"[red]●[/] [bold]{view['vm']}[/] is to be protected, but: {view['reason']}", soft_wrap=True)
    elif point:
        out.print(
            f"[green]●[/] [bold]{view['vm']}[/] is protected: newest point {point['id']}, "
            f"{show_seconds(view['rpo_actual_s'])} old (target {show_seconds(view['rpo_target_s'])})"
        )
    else:
        out.print(
            f"[cyan]●[/] [bold]{view['vm']}[/]: {view['reason']}. Watch it with [bold]leeward status --watch[/]"
        )


def _show_cost(rpo_s: float) -> None:
    """The yearly price of the choice, where requests cost money."""
    from leeward.vault.stores.cost import ADVICE, provider_of, request_cost, whole_dollars

    try:
        provider = provider_of(current().settings().place.url)
    except LeewardError:  # root alone may read where the vault is
        return
    dollars = whole_dollars(request_cost(provider, rpo_s, 1))
    if dollars:
        err.print(f"An RPO of {show_seconds(rpo_s)} costs about ${dollars:,} a year in requests ({ADVICE}).")


def _wait_enabled(client: Any, vm_id: str, *, quiet: bool, after: float | None) -> dict[str, Any]:
    """after: when (monotonic) the order was given to protect what was not protected so far. The points that it has
    are of an earlier protection, and say nothing of what came since: one that is younger has to be there."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]{task.description}[/]"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    failures = 0
    with Progress(*columns, console=err, disable=quiet, transient=True) as bar:
        task = bar.add_task("First copy", total=None, note="starting")
        while True:
            view: dict[str, Any] = client.get("/status", vm=vm_id)[0]
            age = view["rpo_actual_s"]
            current = after is None or (age is not None and age <= time.monotonic() - after)
            if view["state"] == "enabled" and current:
                return view
            failures = failures + 1 if view["state"] in ("error", "paused") else 0
            if failures > 20:
                paused = f"Go on with `leeward resume {view['vm']}`" if view["state"] == "paused" else ""
                hint = paused or "It goes on trying; look at `leeward status`"
                raise LeewardError(view["reason"] or "it is paused", subject=view["vm"], hint=hint)
            progress = view["progress"]
            if progress:
                note = f"{show_bytes(progress['done'])} of {show_bytes(progress['total'])}"
                note += f" · {show_bytes(progress['rate'])}/s"
                bar.update(task, total=progress["total"], completed=progress["done"], note=note)
            time.sleep(0.2)


def unprotect(
    vm: Vm,
    force: Annotated[
        bool, typer.Option("--force", help="Give up the points that wait on the host and are not in the vault yet.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Stop protecting a VM. Its recovery points stay in the vault.

    Refused while points wait on the VM's host because the vault is away: nobody would send them afterwards.
    """
    # A console of before knows no `force`, and has nothing against it.
    done = current().client().delete(vm_path(vm, "/protection"), **({"force": True} if force else {}))
    lost = done.get("given_up_bytes", 0)
    if as_json:
        print_json(done)
    elif lost:
        out.print(
            f"● [bold]{vm}[/] is no longer protected; {show_bytes(lost)} of points that had not reached the vault "
            "were given up, the others stay in it",
            soft_wrap=True,
        )
    else:
        out.print(f"● [bold]{vm}[/] is no longer protected; its recovery points stay in the vault")


def pause(vm: Vm, as_json: JSON = False) -> None:
    """Stop replicating for a while; changes stay tracked."""
    _set_paused(vm, "pause", as_json)


def resume(vm: Vm, as_json: JSON = False) -> None:
    """Go on replicating after a pause."""
    _set_paused(vm, "resume", as_json)


def _set_paused(vm: str, verb: str, as_json: bool) -> None:
    view = current().client().post(vm_path(vm, f"/{verb}"))
    if as_json:
        print_json(view)
    else:
        out.print(f"● [bold]{view['vm']}[/]: replication {'paused' if verb == 'pause' else 'goes on'}")


def status(
    vm: AnyVm = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it, until Ctrl-C.")] = False,
    as_json: JSON = False,
) -> None:
    """How each VM is protected: state, actual and target RPO, newest point, whether failover is possible."""
    client = current().client()
    if watch and not as_json:
        from rich.live import Live

        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(status_table(client.get("/status", vm=vm)), refresh=True)
                time.sleep(0.5)
    rows = client.get("/status", vm=vm)
    if as_json:
        print_json(rows[0] if vm else rows)
    elif rows:
        out.print(status_table(rows))
        _tell_set_aside(rows)
    else:
        out.print("There are no VMs yet. Add hosts to leeward.toml, or try `leeward lab up`.")


def _tell_set_aside(rows: list[dict[str, Any]]) -> None:
    """On the machine itself: on others `leeward agent status` does."""
    from leeward.agent.set_aside import set_aside
    from leeward.state.clock import stamp

    if current().target() is not None:
        return
    names = {row["vm_id"]: row["vm"] for row in rows}
    for one in set_aside(current().settings().daemon.state):
        if one.vm_id in names:
            out.print(aside_line(names[one.vm_id], one.bytes, stamp(one.since), str(one.folder)), soft_wrap=True)


def points(
    vm: Vm,
    limit: Annotated[int, typer.Option(help="Show the newest N; 0 for all.", min=0)] = 20,
    as_json: JSON = False,
) -> None:
    """Recovery points of a VM, newest last. Read from the vault itself; no daemon is needed.

    With --json, all of them unless --limit says otherwise.
    """
    from leeward.cli.vaults import open_vault
    from leeward.console.service import find_in_vault
    from leeward.wire.translate import point_message

    vault = open_vault()
    vm_id, _ = find_in_vault(vault, vm)
    found = [point_message(point).model_dump(mode="json") for point in vault.log(vm_id).points()]
    explicit = limit != 20
    shown = found[-limit:] if limit and (explicit or not as_json) else found
    if as_json:
        print_json(shown)
        return
    out.print(points_table(shown))
    if len(shown) < len(found):
        out.print(f"[bright_black]… and {len(found) - len(shown):,} older ones (--limit 0 shows all)[/]")


def events(limit: Annotated[int, typer.Option(min=1, help="The newest N.")] = 20, as_json: JSON = False) -> None:
    """What was done lately, newest first."""
    rows = current().client().get("/events", limit=limit)
    if as_json:
        print_json(rows)
    else:
        out.print(events_table(rows) if rows else "Nothing has been done yet.")
