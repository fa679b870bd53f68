"""`leeward evidence`: what test failovers have shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from leeward.cli.asking import vm_path
from leeward.cli.context import JSON, current
from leeward.cli.names import Vm
from leeward.cli.output import out, print_json, table
from leeward.cli.units import show_seconds, show_time
from leeward.domain.errors import BadInput

_OUTCOMES = {
    "under-way": "[cyan]under way[/]",
    "passed": "[green]passed[/]",
    "unproven": "[yellow]runs, nothing to ask[/]",
    "failed": "[red]failed[/]",
    "undone": "taken back",
}


def evidence(
    vm: Vm,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write each test as a JSON file and a picture into this folder.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """What the newest test failovers of a VM have shown: pictures, checks, RTO and RPO. Kept after their cleanup."""
    client = current().client()
    views = client.get(vm_path(vm, "/evidence"))
    if save is not None:
        _save(client, views, save)
    if as_json:
        print_json(views)
    elif not views:
        out.print("It has never been tested.")
    else:
        out.print(_table(views))
        if save is not None:
            out.print(f"[green]●[/] {len(views)} written to {save}")


def _save(client: Any, views: list[dict[str, Any]], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for view in views:
            # Sorted by name they are sorted by time.
            name = f"{view['time'][:19].replace(':', '')}-{view['run']}"
            (folder / f"{name}.json").write_text(json.dumps(view, indent=2, ensure_ascii=False) + "\n")
            if view["picture_bytes"]:
                picture = client.fetch(f"/vms/{view['vm_id']}/evidence/{view['run']}/picture")
                (folder / f"{name}.png").write_bytes(picture)
    except OSError as error:
        raise BadInput(f"it cannot be written: {error.strerror}", subject=str(folder)) from None


def _table(views: list[dict[str, Any]]) -> Any:
    shown = table("TEST", "POINT", "RTO", "RPO", "TARGET", "CHECKS", "PICTURE", "OUTCOME", right=("RTO", "RPO"))
    for view in views:
        checks = ", ".join(f"{check['what']} {'✓' if check['passed'] else '✗'}" for check in view["checks"])
        times = [show_seconds(view[name]) for name in ("rto_s", "rpo_s", "rpo_target_s")]
        picture = "yes" if view["picture_bytes"] else view["no_picture"] or "no"
        outcome = _OUTCOMES.get(view["outcome"], view["outcome"])
        shown.add_row(show_time(view["time"]), view["point"], *times, checks or "–", picture, outcome)
    return shown
