"""Names as arguments and options, with completion by the shell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from leeward.cli.context import current

# Somebody waits with a finger on the key.
_PATIENCE_S = 2.0


def _asked(ctx: typer.Context, path: str, **params: Any) -> list[dict[str, Any]]:
    """What the console that would be asked knows; nothing when it does not run, answer soon, or know us: whatever is
    written here goes into the line that is being typed, and no daemon is to be started for that."""
    # Options before the command are read for a completion, but not heeded.
    given = ctx.find_root().params
    current().config, current().console = given.get("config"), given.get("console")
    try:
        found: list[dict[str, Any]] = current().client(quiet=True, timeout_s=_PATIENCE_S).get(path, **params)
    except Exception:
        return []
    return found


def _completing(path: str, key: str = "name", **only: str) -> Callable[..., list[str]]:
    """By the names in a list that the console has; only: of those of which this is so."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        rows = _asked(ctx, path)
        fitting = [row[key] for row in rows if all(row[name] == value for name, value in only.items())]
        return [name for name in fitting if name.startswith(incomplete)]

    return complete


def _vm(ctx: typer.Context) -> str | None:
    """The command's VM. An option that has no value yet ends the parsing, before arguments got their names."""
    return ctx.params.get("vm") or next(iter(ctx.args), None)


def complete_point(ctx: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Those that the console knows without looking into the vault."""
    known = [("latest", "the newest one"), ("app", "the newest application-consistent one")]
    vm = _vm(ctx)
    for row in _asked(ctx, "/status", vm=vm) if vm else ():
        if row["last_point"]:
            known.append((row["last_point"]["id"], row["last_point"]["time"]))
        if row["replica"] and row["replica"]["point"]:
            known.append((row["replica"]["point"], f"the warm replica at {row['replica']['host']} has it"))
    return (point for point in dict(reversed(known)).items() if point[0].startswith(incomplete))


def complete_disk(ctx: typer.Context, incomplete: str) -> list[str]:
    vm = _vm(ctx)
    rows = [row for row in _asked(ctx, "/vms") if vm in (row["name"], row["id"])]
    return [disk["name"] for row in rows for disk in row["disks"] if disk["name"].startswith(incomplete)]


complete_vm = _completing("/vms")
complete_host = _completing("/hosts")
complete_recovery_host = _completing("/hosts", site="recovery")
complete_plan = _completing("/plans")
complete_agent = _completing("/agents")
complete_console = _completing("/consoles")
complete_user = _completing("/users")
complete_token = _completing("/tokens")

Vm = Annotated[str, typer.Argument(help="Name or id of the VM.", autocompletion=complete_vm)]
OptionalVm = Annotated[str | None, typer.Argument(help="Name or id of the VM.", autocompletion=complete_vm)]
AnyVm = Annotated[str | None, typer.Argument(help="Name or id; all VMs without it.", autocompletion=complete_vm)]
