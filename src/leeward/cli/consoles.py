"""`leeward console …`: the consoles that share one database."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from leeward.cli.context import JSON, current
from leeward.cli.lines import Lines
from leeward.cli.names import complete_console
from leeward.cli.output import out, plain, print_json
from leeward.cli.units import show_seconds
from leeward.domain.errors import Refused

app = typer.Typer(no_args_is_help=True, help="Consoles that share one database: one works, the others stand by.")


@app.command("list")
def listed(as_json: JSON = False) -> None:
    """All consoles of this database, and which of them works."""
    _show(current().client().get("/consoles"), as_json)


@app.command()
def forget(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the console, as `leeward console list` shows it.", autocompletion=complete_console
        ),
    ],
    database: Annotated[
        bool,
        typer.Option("--database", help="Ask the configured database itself."),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Strike a console off that is gone for good; agents are no longer told its address."""
    _show(
        _forget_directly(name) if database else current().client().delete(f"/consoles/{quote(name, safe='')}"),
        as_json,
    )


def _forget_directly(name: str) -> list[dict[str, Any]]:
    from leeward.cli.seating import is_shared
    from leeward.console.consoles import Consoles
    from leeward.state.seat import Member, SeatBook

    settings = current().settings()
    if not is_shared(settings):
        raise Refused("this machine's console shares its database with no other one")
    book = SeatBook(settings.database)
    try:
        return [view.model_dump() for view in Consoles(book, Member("", "")).forget(name)]
    finally:
        book.close()


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    shown = Lines(("CONSOLE", "STATE", "HEARD OF", "ADDRESS", "FOR AGENTS"), whole=("STATE", "HEARD OF"))
    for row in rows:
        state = f"[green]{row['state']}[/]" if row["state"] == "active" else row["state"]
        heard = f"{show_seconds(row['heard_s'])} ago"
        notes = [plain(row["trouble"])] if row["trouble"] else []
        shown.add(row["name"], state, heard, row["address"] or "–", row["agents"] or "–", notes=notes)
    out.print(shown)
