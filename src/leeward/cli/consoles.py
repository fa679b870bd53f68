"""`leeward console …`: the consoles that share one database."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from leeward.cli.context import JSON, current
from leeward.cli.output import out, print_json, table
from leeward.cli.units import show_seconds

app = typer.Typer(no_args_is_help=True, help="Consoles that share one database: one works, the others stand by.")


@app.command("list")
def listed(as_json: JSON = False) -> None:
    """All consoles of this database, and which of them works."""
    _show(current().client().get("/consoles"), as_json)


@app.command()
def forget(
    name: Annotated[str, typer.Argument(help="Name of the console, as `leeward console list` shows it.")],
    as_json: JSON = False,
) -> None:
    """Strike a console off that is gone for good; agents are no longer told its address."""
    _show(current().client().delete(f"/consoles/{name}"), as_json)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    shown = table("CONSOLE", "STATE", "ADDRESS", "FOR AGENTS", "HEARD OF", "NOTE", right=("HEARD OF",))
    for row in rows:
        state = f"[green]{row['state']}[/]" if row["state"] == "active" else row["state"]
        heard = f"{show_seconds(row['heard_s'])} ago"
        shown.add_row(row["name"], state, row["address"] or "–", row["agents"] or "–", heard, row["trouble"])
    out.print(shown)
