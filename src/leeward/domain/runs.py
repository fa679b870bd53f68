"""A run: one procedure on one VM, with what has been done of it. Plain values; what comes next is decided here.

A run is never in two minds: its steps are done in order, or, once it is being undone, its undo steps are. What was
under way when everything died is done again; every action is harmless to repeat.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from leeward.domain.procedures import Kind, reversible, steps, undo_order


class RunState(StrEnum):
    RUNNING = "running"
    STALLED = "stalled"  # a step failed; waits for the operator
    UNDOING = "undoing"
    DONE = "done"
    UNDONE = "undone"


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """started, ended: UTC seconds. detail: what happened, for people. result: what later steps need, plain JSON."""

    name: str
    state: StepState = StepState.WAITING
    started: float | None = None
    ended: float | None = None
    detail: str = ""
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """home, away: names of the two hosts. point: what was asked for: latest, app (the newest app-consistent one) or
    an id. options: of the kind, plain JSON. undo: steps of taking it back. attempt: counts retries. failure: why it
    stalled. by: who asked for it. created, ended: UTC seconds."""

    id: str
    vm_id: str
    vm_name: str
    kind: Kind
    home: str
    away: str
    point: str
    by: str
    created: float
    options: dict[str, Any] = field(default_factory=dict)
    state: RunState = RunState.RUNNING
    steps: tuple[StepRecord, ...] = ()
    undo: tuple[StepRecord, ...] = ()
    cancel: bool = False
    attempt: int = 1
    failure: str = ""
    ended: float | None = None

    def result(self, step: str) -> dict[str, Any]:
        """What a step gave; {} when it has not been done."""
        return next((record.result for record in self.steps if record.name == step), {})

    @property
    def begun(self) -> int:
        """How many steps have been begun."""
        return sum(record.state is not StepState.WAITING for record in self.steps)

    @property
    def over(self) -> bool:
        return self.state in (RunState.DONE, RunState.UNDONE)

    @property
    def reversible(self) -> bool:
        return not self.over and reversible(self.kind, self.begun)


def new_run(run: Run) -> Run:
    """With its steps laid out."""
    return replace(run, steps=tuple(StepRecord(step.name) for step in steps(run.kind)))


@dataclass(frozen=True, slots=True)
class Move:
    """What comes next: the step (or undo step) of this name; "" = the run is over, as `outcome` says."""

    name: str = ""
    undo: bool = False
    outcome: RunState | None = None


def begin_undo(run: Run) -> Run:
    """Turn round. What has been begun is taken back, latest first."""
    order = undo_order(run.kind, run.begun)
    return replace(
        run, state=RunState.UNDOING, undo=tuple(StepRecord(name) for name in order), cancel=False, failure=""
    )


def next_move(run: Run) -> Move:
    """Of a run that is running or being undone (a wish to cancel has been heeded already, see begin_undo)."""
    undoing = run.state is RunState.UNDOING
    for record in run.undo if undoing else run.steps:
        if record.state is not StepState.DONE:
            return Move(record.name, undo=undoing)
    return Move(outcome=RunState.UNDONE if undoing else RunState.DONE)


# The option that names the step before which a run is held; something greater than this one VM lets it go on.
HOLD = "hold"


def held(run: Run, move: Move) -> bool:
    """Whether the run waits for its turn before this move. Held runs are running: they can be cancelled."""
    return not move.undo and bool(move.name) and run.options.get(HOLD) == move.name


def with_record(run: Run, name: str, *, undo: bool, **changes: Any) -> Run:
    """The run with one step's record changed."""
    records = run.undo if undo else run.steps
    changed = tuple(replace(record, **changes) if record.name == name else record for record in records)
    return replace(run, undo=changed) if undo else replace(run, steps=changed)


def end(run: Run, outcome: RunState, at: float) -> Run:
    """at: UTC seconds."""
    return replace(run, state=outcome, ended=at, failure="")


def stall(run: Run, why: str) -> Run:
    return replace(run, state=RunState.STALLED, failure=why)


def retry(run: Run) -> Run:
    """A stalled run goes on with the step that failed, forwards or backwards as it was going."""
    return replace(run, state=RunState.UNDOING if run.undo else RunState.RUNNING, attempt=run.attempt + 1, failure="")
