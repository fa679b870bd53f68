"""One scenario from its first step to its last look, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeward.domain.errors import LeewardError
from leeward.lab.scenario.acting import Play, act, told
from leeward.lab.scenario.document import Scenario, read_scenario
from leeward.lab.scenario.stage import Failed, Stage
from leeward.lab.scenario.watcher import Watcher


@dataclass(frozen=True, slots=True)
class Line:
    """One step that was done. seconds: how long it took. detail: what there was to tell."""

    text: str
    seconds: float
    detail: str


@dataclass
class Outcome:
    """failure: "" when all was as expected. looks: how often it was asked where the VMs are. points: how many told
    ones were looked for, and found, in the vault. excused_s: how long a VM was seen at two sites where nobody could
    know better."""

    name: str
    shows: str
    lines: list[Line] = field(default_factory=list)
    failure: str = ""
    seconds: float = 0.0
    looks: int = 0
    points: int = 0
    excused_s: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.failure

    def as_dict(self) -> dict[str, Any]:
        """What `leeward lab scenario --json` prints (docs/cli.md)."""
        return {
            "name": self.name,
            "passed": self.passed,
            "failure": self.failure,
            "seconds": round(self.seconds, 1),
            "looks": self.looks,
            "points": self.points,
            "excused_s": round(self.excused_s, 1),
            "steps": [
                {"step": line.text, "seconds": round(line.seconds, 1), "told": line.detail} for line in self.lines
            ],
        }


# Told at the begin of a step (None as detail), of what happens within it, and at its end.
Tell = Callable[[str, str | None], None]


def play(stage: Stage, file: Path, tell: Tell) -> Outcome:
    """Play the scenario of a file. What it expects and is not so stands in the outcome; raises what is no part of it:
    BadInput and NotFound for the file, LeewardError when the stage cannot be set up."""
    scenario = read_scenario(file)
    outcome, begin = Outcome(scenario.name, scenario.shows), time.monotonic()
    guests = stage.prepare(scenario)
    outcome.lines.append(Line("set up", time.monotonic() - begin, ""))
    try:
        with Watcher(stage.lab, guests, stage.status) as watcher:
            try:
                _steps(scenario, Play(stage, watcher, lambda text: tell(text, None)), outcome, tell)
                _at_the_end(stage, watcher, outcome)
            except LeewardError as error:
                outcome.failure = watcher.failure or str(error)
            outcome.looks, outcome.excused_s = watcher.looks, watcher.excused_s
    finally:
        outcome.seconds = time.monotonic() - begin
    if outcome.passed:
        stage.settled(scenario)
    return outcome


def _steps(scenario: Scenario, playing: Play, outcome: Outcome, tell: Tell) -> None:
    for step in scenario.steps:
        text, begin = told(step), time.monotonic()
        tell(text, None)
        detail = act(step, playing)
        outcome.lines.append(Line(text, time.monotonic() - begin, detail))
        tell(text, detail)
        if playing.watcher.failure:
            raise Failed(playing.watcher.failure)


def _at_the_end(stage: Stage, watcher: Watcher, outcome: Outcome) -> None:
    """No point that was told as committed has been lost, and the vault is sound to the last byte."""
    begin = time.monotonic()
    for name, vm in watcher.vms.items():
        told_of = set(vm.points)  # before the vault is asked: new ones come all the time
        there = {point["id"] for point in stage.parts.vault_command("points", name)}
        if lost := sorted(told_of - there, key=int):
            raise Failed(f"recovery points are lost: {', '.join(lost)}", subject=name)
        outcome.points += len(told_of)
    check = stage.parts.vault_command("vault", "check", "--deep")
    if not check["sound"]:
        raise Failed(f"the vault is damaged: {check['troubles']}")
    detail = f"{outcome.points} points told, all there; {check['objects']} objects sound"
    outcome.lines.append(Line("vault check", time.monotonic() - begin, detail))
    if watcher.failure:
        raise Failed(watcher.failure)
