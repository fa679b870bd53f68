"""`leeward alert …`: what is wrong, that somebody has seen it, and who hears of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from leeward.cli import alert_settings
from leeward.cli.context import JSON, current
from leeward.cli.lines import Lines
from leeward.cli.output import out, plain, print_json
from leeward.cli.units import show_time

app = typer.Typer(no_args_is_help=True, help="What is wrong, that somebody has seen it, and who hears of it.")
app.command("settings")(alert_settings.settings)
app.add_typer(alert_settings.app, name="set")
app.command("test")(alert_settings.test)


class WhichChoice(StrEnum):
    open = "open"
    past = "past"
    all = "all"


_COLOURS = {"critical": "red", "warning": "yellow"}


@app.command("list")
def list_alerts(
    state: Annotated[WhichChoice, typer.Option("--state", help="open, past or all.")] = WhichChoice.open,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind, like rpo or host.")] = None,
    limit: Annotated[int, typer.Option(help="The newest N.", min=1, max=10_000)] = 100,
    before: Annotated[int | None, typer.Option(help="Only those before this number.", min=1)] = None,
    as_json: JSON = False,
) -> None:
    """Alerts, newest first."""
    rows = current().client().get("/alerts", state=state.value, kind=kind, limit=limit, before=before)
    if as_json:
        print_json(rows)
        return
    columns = ("NO.", "SINCE", "SEVERITY", "HOST", "STATE", "WHAT")
    shown = Lines(columns, right=("NO.",), whole=("NO.", "SINCE", "SEVERITY"), below=True)
    for row in rows:
        colour = "bright_black" if row["state"] == "ended" else _COLOURS[row["severity"]]
        cells = (f"[{colour}]● {row['severity']}[/]", plain(row["host"]) or "–", _state(row), plain(row["text"]))
        notes = [f"[bright_black]{plain(row['detail'])}[/]"] if row["detail"] else []
        shown.add(str(row["id"]), show_time(row["began"]), *cells, notes=notes)
    out.print(
        shown if rows else "There are no such alerts." if state is not WhichChoice.open else "Nothing is wrong."
    )


@app.command()
def ack(
    number: Annotated[int, typer.Argument(help="Number of the alert, as `leeward alert list` shows it.", min=1)],
    as_json: JSON = False,
) -> None:
    """Acknowledge an alert: somebody has seen it, no more reminders are sent. It stays open while it is so."""
    done = current().client().post(f"/alerts/{number}/acknowledge")
    if as_json:
        print_json(done)
    else:
        out.print(f"● {plain(done['text'])} Acknowledged by [bold]{plain(done['acknowledged_by'])}[/]")


def _state(row: dict[str, Any]) -> str:
    if row["state"] == "ended":
        return f"over since {show_time(row['ended'])}"
    return f"seen by {plain(row['acknowledged_by'])}" if row["state"] == "acknowledged" else "open"
