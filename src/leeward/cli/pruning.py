"""`leeward vault prune`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from leeward.cli.confirming import asks, confirm
from leeward.cli.context import JSON
from leeward.cli.names import complete_vm
from leeward.cli.output import err, out, plain, print_json, table
from leeward.cli.units import seconds, show_bytes, show_time
from leeward.cli.vaults import PassphraseFile, called, open_vault
from leeward.domain.durations import short
from leeward.domain.errors import BadInput, LeewardError


def prune(
    vm: Annotated[
        str | None,
        typer.Argument(
            help="Name or id of a VM in the vault; all of them when left out.", autocompletion=complete_vm
        ),
    ] = None,
    retain: Annotated[str | None, typer.Option(help="Keep all points of this long instead of the policy's.")] = None,
    hourly: Annotated[str | None, typer.Option(help="Keep one point an hour for this long instead.")] = None,
    daily: Annotated[str | None, typer.Option(help="Keep one point a day for this long instead.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    passphrase_file: PassphraseFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JSON = False,
) -> None:
    """Delete recovery points that the policies no longer keep, and what only they need.

    The agent does this by itself for the VMs it protects; this is for the others, and for looking: --dry-run shows
    the plan. Ages count from a VM's newest point, so a VM that is no longer replicated keeps its last points. A point
    that is in use is never pruned. VMs of a consistency group keep their common instants together.

    On a terminal it shows which points would go and asks, unless --yes is given.
    """
    from leeward.console.service import find_in_vault

    instead = [_age("--retain", retain), _age("--hourly", hourly), _age("--daily", daily)]
    if instead[0] is not None and instead[0] < 1:
        raise BadInput(
            "that would keep a VM's newest point alone", subject=f"--retain {retain}", hint="Say how long, like 24h"
        )
    vault = open_vault(passphrase_file)
    policies = _policies(vault)
    chosen = [find_in_vault(vault, vm)] if vm else [(vm_id, name) for vm_id, (name, _) in policies.items()]
    asked = {vm_id for vm_id, _ in chosen}
    rules = {
        vm_id: _rules(policy, instead if vm_id in asked else [None] * 3) for vm_id, (_, policy) in policies.items()
    }
    groups = {vm_id: policy.group for vm_id, (_, policy) in policies.items()}
    failed: list[_Failed] = []
    plans = []
    for vm_id, name in chosen:
        fellows = [
            other for other, group in groups.items() if group and other != vm_id and group == groups.get(vm_id)
        ]
        with _going_on(failed, vm_id, name):
            plan = vault.prune_plan(vm_id, rules[vm_id], together={other: rules[other] for other in fellows})
            plans.append((vm_id, name, plan))
    if not dry_run and asks(yes):
        _confirm(vault, plans)
    rows = []
    for vm_id, name, plan in plans:
        with _going_on(failed, vm_id, name):
            rows.append(_prune_one(vault, vm_id, name, plan, dry_run))
    if vm and failed:
        raise failed[0].error
    if as_json:
        errors = [{"vm": one.vm, "vm_id": one.vm_id, "error": one.error.as_dict()} for one in failed]
        print_json({"dry_run": dry_run, "vms": rows, "failed": errors})
    elif rows or not failed:
        _show(rows, dry_run)
    for one in failed:
        told = str(one.error) if one.error.subject == one.vm else f"{one.vm}: {one.error}"
        err.print(f"[bold red]Error:[/] {plain(told)}", soft_wrap=True)
    if failed:
        raise typer.Exit(failed[0].error.exit_code)


@dataclass(frozen=True, slots=True)
class _Failed:
    """A VM that could not be pruned."""

    vm: str
    vm_id: str
    error: LeewardError


@contextmanager
def _going_on(failed: list[_Failed], vm_id: str, name: str) -> Iterator[None]:
    """What is wrong with one VM keeps none of the others from being pruned."""
    try:
        with called(vm_id, name):
            yield
    except LeewardError as error:
        failed.append(_Failed(name, vm_id, error))


def _show(rows: Sequence[dict[str, Any]], dry_run: bool) -> None:
    verb = "WOULD GO" if dry_run else "GONE"
    shown = table("VM", "POINTS", verb, "OBJECTS", "FREED", right=("POINTS", verb, "OBJECTS", "FREED"))
    for row in rows:
        left = str(row["vm"]), f"{row['points']:,}", f"{row['dropped']:,}", f"{row['objects']:,}"
        shown.add_row(*left, show_bytes(row["bytes"]))
    out.print(shown if rows else "No VM has been protected yet.")
    locked = sum(row["locked"] for row in rows)
    if locked:
        until = min((row["locked_until"] for row in rows if row["locked_until"]), default="")
        when = f" until {show_time(until)} at least" if until else ""
        out.print(f"The store keeps {locked:,} objects{when}; they go when a later run finds them free.")


def _age(option: str, text: str | None) -> float | None:
    """What deletes for good must be meant. Raises BadInput that names the option."""
    from leeward.wire.messages import CENTURY_S

    if text is None:
        return None
    try:
        wanted = seconds(text)
    except BadInput as error:
        error.subject = option
        raise
    if wanted > CENTURY_S:
        raise BadInput(f"at most {short(CENTURY_S)}, not {text}", subject=option)
    return wanted


def _confirm(vault: Any, plans: Sequence[tuple[str, str, Any]]) -> None:
    """What would go for good, VM by VM, and the question; none where no point goes."""
    going = 0
    for vm_id, name, plan in plans:
        drop = sorted(plan.drop, key=lambda point: point.seq)
        if not drop:
            continue
        gone = {point.id for point in drop}
        stay = [point for point in vault.log(vm_id).points() if point.id not in gone]
        going += len(drop)
        err.print(
            f"{plain(name)}: {len(drop):,} points would go, {_span(drop)}; {len(stay):,} stay"
            + (f", {_span(stay)}" if stay else ""),
            soft_wrap=True,
        )
    if going:
        confirm(f"{going:,} recovery points are deleted for good")


def _span(points: Sequence[Any]) -> str:
    """From when to when they are."""
    from leeward.wire.translate import utc

    first, last = (show_time(utc(point.time_ns)) for point in (points[0], points[-1]))
    return f"from {first} to {last}" if first != last else f"of {first}"


def _policies(vault: Any) -> dict[str, tuple[str, Any]]:
    """(name, policy) of every VM in the vault, by id."""
    from leeward.console.learning import CATALOG
    from leeward.wire.messages import PolicyMessage

    found = {}
    for vm_id in vault.vm_ids():
        document = vault.document(vm_id, CATALOG) or {}
        policy = PolicyMessage.model_validate(document.get("policy", {}))
        found[vm_id] = (str(document.get("name") or vm_id), policy)
    return found


def _rules(policy: Any, instead: list[float | None]) -> Any:
    from leeward.agent.keeper import retention_of
    from leeward.domain.retention import Retention

    usual = retention_of(policy)
    values = (usual.window_s, usual.hourly_s, usual.daily_s)
    return Retention(*(value if given is None else given for value, given in zip(values, instead, strict=True)))


def _prune_one(vault: Any, vm_id: str, name: str, plan: Any, dry_run: bool) -> dict[str, Any]:
    from leeward.wire.translate import utc

    row = {
        "vm": name,
        "vm_id": vm_id,
        "points": len(vault.log(vm_id).points()) - len(plan.drop),
        "dropped": len(plan.drop),
        "objects": len(plan.delete),
        "bytes": plan.bytes,
        "locked": 0,
        "locked_until": None,
    }
    if not dry_run and not plan.empty:
        done = vault.prune(plan)
        row |= {"objects": done.objects, "bytes": done.bytes, "locked": done.locked}
        row["locked_until"] = utc(done.until_ns) if done.until_ns is not None else None
    return row
