"""`leeward failover planned`, `unplanned`, `commit`, `failback` and what goes with them."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from leeward.cli.asking import vm_path
from leeward.cli.before_moves import confirm_loss, must_be_host, must_lead_away, standing, tell_newest
from leeward.cli.confirming import asks, confirm
from leeward.cli.context import JSON, current
from leeward.cli.names import AnyVm, Vm, complete_host, complete_point, complete_recovery_host
from leeward.cli.output import live_table, out, print_json, run_line, run_table, runs_table
from leeward.cli.units import seconds, show_seconds
from leeward.domain.errors import BadInput, LeewardError
from leeward.domain.lifecycle import Event

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show the steps and return when it has ended.")]
Force = Annotated[
    bool | None, typer.Option("--force", help="Power the VM off when its guest does not shut down in time.")
]
Timeout = Annotated[
    str | None, typer.Option("--timeout", help="How long the guest may take to shut down. Default 2m.")
]
FromVault = Annotated[bool | None, typer.Option("--from-vault", help="Do not use a warm replica.")]
WithoutVault = Annotated[
    bool | None,
    typer.Option(
        "--without-vault",
        help="I have made sure that the VM is off at home: start it from the warm replica while the vault is away.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Newest = Annotated[
    bool | None,
    typer.Option(
        "--newest/--common",
        help="Of a VM of a consistency group: its newest point / the instant at which the group agrees, however old. "
        "Without either that instant, unless it is old.",
    ),
]


def planned(
    vm: Vm,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Recovery host; the first one without it.", autocompletion=complete_recovery_host),
    ] = None,
    force: Force = None,
    timeout: Timeout = None,
    network: Annotated[
        list[str] | None, typer.Option("--network", help="What a NIC hangs on there: bridge:br0=bridge:lan.")
    ] = None,
    from_vault: FromVault = None,
    wait: Wait = True,
    yes: Yes = False,
    as_json: JSON = False,
) -> None:
    """Move a VM to the recovery site without losing anything.

    It is shut down at home, its last changes go into the vault, and it starts at the recovery site. It can be
    taken back with `leeward failover cancel VM` until it is started there.
    """
    body: dict[str, Any] = {"to": to, "force": force, "timeout_s": _seconds(timeout)}
    body |= {"networks": _networks(network), "from_vault": from_vault}
    client = current().client()
    if asks(yes):
        view = standing(client, vm, Event.PLANNED)
        must_lead_away(client, to, view["home"])
        tell_newest(view)
        confirm(f"{view['vm']} is shut down here and started at the recovery site")
    _follow(client, client.post(vm_path(vm, "/failover/planned"), body), wait, as_json)


def unplanned(
    vm: Vm,
    point: Annotated[
        str,
        typer.Option(
            "--point",
            help="latest, app (the newest application-consistent one), or an id.",
            autocompletion=complete_point,
        ),
    ] = "latest",
    to: Annotated[
        str | None,
        typer.Option("--to", help="Recovery host; the first one without it.", autocompletion=complete_recovery_host),
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option("--network", help="What a NIC hangs on there: bridge:br0=bridge:lan.")
    ] = None,
    from_vault: FromVault = None,
    without_vault: WithoutVault = None,
    newest: Newest = None,
    wait: Wait = True,
    yes: Yes = False,
    as_json: JSON = False,
) -> None:
    """Start a VM at the recovery site because its home is gone.

    What is not in the vault is lost. If home still answers, the VM is stopped there first; if not, home finds out
    when it comes back and keeps its VM off.

    A warm replica at the recovery host is used where it holds the point. It also will do while the vault is away, if
    home has stopped the VM, or --without-vault says that it is off there.
    """
    body: dict[str, Any] = {"point": point, "to": to, "networks": _networks(network), "newest": newest}
    body |= {"from_vault": from_vault, "without_vault": without_vault}
    client = current().client()
    if asks(yes):
        how = {"event": "unplanned", "point": point, "to": to, "from_vault": from_vault, "newest": newest}
        confirm_loss(client, vm, how, "the recovery site")
    _follow(client, client.post(vm_path(vm, "/failover/unplanned"), body), wait, as_json)


def commit(vm: Vm, wait: Wait = True, as_json: JSON = False) -> None:
    """Say that a failover, or a failback, stays. Until then nothing that the way back needs is deleted."""
    client = current().client()
    _follow(client, client.post(vm_path(vm, "/commit")), wait, as_json)


def failback(
    vm: Vm,
    unplanned: Annotated[
        bool, typer.Option("--unplanned", help="The recovery site is gone: go home with what is in the vault.")
    ] = False,
    point: Annotated[
        str, typer.Option("--point", help="With --unplanned: latest, app or an id.", autocompletion=complete_point)
    ] = "latest",
    to: Annotated[
        str | None, typer.Option("--to", help="Another host than the one it came from.", autocompletion=complete_host)
    ] = None,
    force: Force = None,
    timeout: Timeout = None,
    wait: Wait = True,
    yes: Yes = False,
    as_json: JSON = False,
) -> None:
    """Bring a VM home, with what it has written at the recovery site.

    Its new disks are written beside the old ones while it runs on; only what differs is fetched. Then it is shut
    down, the rest follows, and it starts at home. The old disks stay until `leeward failover commit VM`.

    With --unplanned the recovery site need not answer: its log is closed, and the VM comes up at home with the newest
    recovery point that the vault has. If that site comes back, it finds out and keeps its VM off.
    """
    body: dict[str, Any] = {"to": to, "force": force, "timeout_s": _seconds(timeout)}
    body |= {"unplanned": unplanned, "point": point}
    client = current().client()
    if asks(yes) and unplanned:
        confirm_loss(client, vm, {"event": "unplanned-failback", "point": point, "to": to}, "home")
    elif asks(yes):
        view = standing(client, vm, Event.FAILBACK)
        must_be_host(client, to, view["away"])
        tell_newest(view)
        confirm(f"{view['vm']} is shut down at the recovery site and started at home")
    _follow(client, client.post(vm_path(vm, "/failback"), body), wait, as_json)


def retry(
    vm: Vm,
    force: Force = None,
    timeout: Timeout = None,
    without_vault: WithoutVault = None,
    wait: Wait = True,
    as_json: JSON = False,
) -> None:
    """Go on with a failover or failback that has stalled."""
    client = current().client()
    body = {"force": force, "timeout_s": _seconds(timeout), "without_vault": without_vault}
    view = client.post(vm_path(vm, "/retry"), body)
    _follow(client, view, wait, as_json)


def cancel(vm: Vm, wait: Wait = True, as_json: JSON = False) -> None:
    """Take a failover or failback back, as long as no client can reach the VM at its new site."""
    client = current().client()
    _follow(client, client.post(vm_path(vm, "/cancel")), wait, as_json)


def show(
    vm: Vm,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until it has ended.")] = False,
    as_json: JSON = False,
) -> None:
    """The newest failover, failback, commit or test of a VM, step by step."""
    client = current().client()
    view = client.get(vm_path(vm, "/run"))
    if watch and not as_json:
        _follow(client, view, True, False)
    elif as_json:
        print_json(view)
    else:
        out.print(_title(view))
        out.print(run_line(view), soft_wrap=True)
        out.print(run_table(view))


def history(
    vm: AnyVm = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest N.")] = 20,
    as_json: JSON = False,
) -> None:
    """What has been failed over, brought home and tested, newest first."""
    views = current().client().get("/runs", vm=vm, limit=limit)
    if as_json:
        print_json(views)
    elif views:
        out.print(runs_table(views))
    else:
        out.print("Nothing has been failed over or tested yet.")


def _seconds(text: str | None) -> float | None:
    return seconds(text) if text is not None else None


def _networks(pairs: list[str] | None) -> dict[str, str] | None:
    if not pairs:
        return None
    found = {}
    for pair in pairs:
        source, equals, target = pair.partition("=")
        if not (source and equals and target):
            raise BadInput("a network is given as SOURCE=TARGET, like bridge:br0=bridge:lan", subject=pair)
        found[source] = target
    return found


def _title(view: dict[str, Any]) -> str:
    words = {
        "planned": "Planned failover",
        "unplanned": "Unplanned failover",
        "failback": "Failback",
        "unplanned-failback": "Unplanned failback",
        "commit": "Commit of the failover",
        "finish": "Commit of the failback",
        "test": "Test failover",
        "cleanup": "Removal of the test copy",
    }
    return f"[bold]{words.get(view['kind'], view['kind'])}[/] of [bold]{view['vm']}[/] · run {view['id']}"


def _follow(client: Any, view: dict[str, Any], wait: bool, as_json: bool) -> None:
    """Show a run until it has ended or stalled; its outcome is the command's."""
    if wait:
        with live_table(quiet=as_json) as live:
            while view["state"] in ("running", "undoing"):
                if not as_json:
                    live.update(run_table(view), refresh=True)
                time.sleep(0.2)
                view = client.get(f"/runs/{view['id']}")
            if not as_json:
                live.update(run_table(view), refresh=True)
    if as_json:
        print_json(view)
        if view["state"] == "stalled":
            raise typer.Exit(1)
        return
    if view["state"] == "stalled":
        back = f", or take it back with `leeward failover cancel {view['vm']}`" if view["reversible"] else ""
        raise LeewardError(
            f"it has stalled: {view['failure']}",
            subject=view["vm"],
            hint=f"When that is mended: `leeward failover retry {view['vm']}`{back}",
        )
    out.print(_outcome(view))


def _outcome(view: dict[str, Any]) -> str:
    vm = f"[bold]{view['vm']}[/]"
    if view["state"] in ("running", "undoing"):
        return f"● {_title(view)}: watch it with [bold]leeward failover show {view['vm']} --watch[/]"
    if view["state"] == "undone":
        return f"[yellow]●[/] {vm}: taken back, it is as before"
    rto = f", up after {show_seconds(view['rto_s'])}" if view["rto_s"] is not None else ""
    said = {
        "planned": f"{vm} runs at {view['away']}{rto}\n  When it is as it should be: "
        f"[bold]leeward failover commit {view['vm']}[/]",
        "failback": f"{vm} runs at {view['home']} again{rto}\n  When it is as it should be: "
        f"[bold]leeward failover commit {view['vm']}[/]",
        "commit": f"{vm} stays at {view['away']}\n"
        f"  Bring it home with [bold]leeward failover failback {view['vm']}[/]",
        "finish": f"{vm} is home; its copy at {view['away']} is removed, and its recovery points stay in the vault",
    }
    said["unplanned"], said["unplanned-failback"] = said["planned"], said["failback"]
    return f"[green]●[/] {said.get(view['kind'], 'done')}"
