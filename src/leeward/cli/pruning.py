"""`leeward vault prune`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from leeward.cli.context import JSON
from leeward.cli.output import out, print_json, table
from leeward.cli.units import seconds, show_bytes
from leeward.cli.vaults import PassphraseFile, open_vault


def prune(
    vm: Annotated[
        str | None, typer.Argument(help="Name or id of a VM in the vault; all of them when left out.")
    ] = None,
    retain: Annotated[str | None, typer.Option(help="Keep all points of this long instead of the policy's.")] = None,
    hourly: Annotated[str | None, typer.Option(help="Keep one point an hour for this long instead.")] = None,
    daily: Annotated[str | None, typer.Option(help="Keep one point a day for this long instead.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: JSON = False,
) -> None:
    """Delete recovery points that the policies no longer keep, and what only they need.

    The agent does this by itself for the VMs it protects; this is for the others, and for looking: --dry-run shows
    the plan. Ages count from a VM's newest point, so a VM that is no longer replicated keeps its last points. A point
    that is in use is never pruned.
    """
    from leeward.console.service import find_in_vault

    vault = open_vault(passphrase_file)
    chosen = [find_in_vault(vault, vm)] if vm else _all_vms(vault)
    rows = [_prune_one(vault, vm_id, name, (retain, hourly, daily), dry_run) for vm_id, name in chosen]
    if as_json:
        print_json({"dry_run": dry_run, "vms": rows})
        return
    verb = "WOULD GO" if dry_run else "GONE"
    shown = table("VM", "POINTS", verb, "OBJECTS", "FREED", right=("POINTS", verb, "OBJECTS", "FREED"))
    for row in rows:
        left = str(row["vm"]), f"{row['points']:,}", f"{row['dropped']:,}", f"{row['objects']:,}"
        shown.add_row(*left, show_bytes(row["bytes"]))
    out.print(shown if rows else "No VM has been protected yet.")
    locked = sum(row["locked"] for row in rows)
    if locked:
        out.print(f"{locked:,} objects are locked by the store; they go when a later run finds them free.")


def _all_vms(vault: Any) -> list[tuple[str, str]]:
    from leeward.console.learning import CATALOG

    return [(vm_id, str((vault.document(vm_id, CATALOG) or {}).get("name") or vm_id)) for vm_id in vault.vm_ids()]


def _prune_one(
    vault: Any, vm_id: str, name: str, instead: tuple[str | None, str | None, str | None], dry_run: bool
) -> dict[str, Any]:
    from leeward.agent.keeper import retention_of
    from leeward.console.learning import CATALOG
    from leeward.domain.retention import Retention
    from leeward.wire.messages import PolicyMessage

    policy = retention_of(PolicyMessage.model_validate((vault.document(vm_id, CATALOG) or {}).get("policy", {})))
    given = [seconds(text) if text is not None else None for text in instead]
    usual = (policy.window_s, policy.hourly_s, policy.daily_s)
    plan = vault.prune_plan(vm_id, Retention(*(u if g is None else g for u, g in zip(usual, given, strict=True))))
    row = {
        "vm": name,
        "vm_id": vm_id,
        "points": len(vault.log(vm_id).points()) - len(plan.drop),
        "dropped": len(plan.drop),
        "objects": len(plan.delete),
        "bytes": plan.bytes,
        "locked": 0,
    }
    if not dry_run and not plan.empty:
        done = vault.prune(plan)
        row |= {"objects": done.objects, "bytes": done.bytes, "locked": done.locked}
    return row
