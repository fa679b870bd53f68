"""`leeward lab scenario`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from leeward.cli.output import print_json, table
from leeward.domain.errors import BadInput, NotFound
from leeward.lab.lab import Lab, take_down_dead
from leeward.lab.places import CACHE_VARIABLE, DEFAULT_ROOT
from leeward.lab.scenario.document import read_scenario, shipped
from leeward.lab.scenario.playing import Outcome, play
from leeward.lab.scenario.showing import Shown
from leeward.lab.scenario.stage import Failed, Stage

# Not below the playground of `leeward lab up`, which may be up at the same time; images need O_DIRECT, sockets a
# short path.
_ROOT = Path("/var/tmp/lw-scenarios")


def list_scenarios(as_json: bool) -> None:
    found = [(path, read_scenario(path)) for path in shipped()]
    if as_json:
        print_json([{"name": known.name, "shows": known.shows, "file": str(path)} for path, known in found])
        return
    from rich.console import Console

    rows = table("SCENARIO", "SHOWS")
    for _, known in found:
        rows.add_row(known.name, known.shows)
    Console().print(rows)


def play_scenarios(named: list[str], *, every: bool, hold: bool, as_json: bool) -> None:
    """All files are read before anything begins. Raises Failed when one did not go as it says."""
    paths = [_file(name) for name in named] + (shipped() if every else [])
    if not paths:
        raise BadInput("no scenario is named", hint="Name files or scenarios, or --all; see --list")
    for path in paths:
        read_scenario(path)
    outcomes = []
    with _stage() as stage:
        for path in paths:
            outcomes.append(_played(stage, path, quiet=as_json))
            if hold and not outcomes[-1].passed:
                typer.prompt(f"It is all there still, at {stage.lab.places.root}", default="", err=True)
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    if as_json:
        print_json([outcome.as_dict() for outcome in outcomes])
        if failed:  # the document says which ones; an error would be a second document
            raise typer.Exit(Failed.exit_code)
    elif failed:
        raise Failed(f"{len(failed)} of {len(outcomes)} did not go as they say: {', '.join(failed)}")


def _played(stage: Stage, path: Path, *, quiet: bool) -> Outcome:
    shown = Shown(quiet=quiet)
    shown.begin(f"{path.stem}: {read_scenario(path).shows.strip()}")
    try:
        outcome = play(stage, path, shown.tell)
    except BaseException:
        shown.stop()
        raise
    shown.end(outcome)
    return outcome


@contextmanager
def _stage() -> Iterator[Stage]:
    """A lab for this run alone; it shares the playground's build cache."""
    if os.geteuid() == 0:
        os.environ.setdefault(CACHE_VARIABLE, str(DEFAULT_ROOT / "cache"))
        take_down_dead(_ROOT.parent, f"{_ROOT.name}-")
    lab = Lab(Path(f"{_ROOT}-{os.getpid()}"))
    try:
        yield Stage(lab)
    finally:
        lab.down()
        shutil.rmtree(lab.places.root, ignore_errors=True)


def _file(name: str) -> Path:
    """A file, or one of ours by its name."""
    if (path := Path(name)).suffix or path.exists():
        return path
    for known in shipped():
        if known.stem == name:
            return known
    raise NotFound("there is no such scenario", subject=name, hint="See `leeward lab scenario --list`")
