"""A run: one procedure on one VM, with what has been done of it. Plain values; what comes next is decided here.

A run is never in two minds: its steps are done in order, or, once it is being undone, its undo steps are. What was
under way when everything died is done again; every action is harmless to repeat.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from leeward.domain.procedures import RESUMED, Kind, steps, undo_order


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

    def step(self, name: str) -> StepRecord | None:
        """None: this kind of run has no such step."""
        return next((record for record in self.steps if record.name == name), None)

    def result(self, step: str) -> dict[str, Any]:
        """What a step gave; {} when it has not been done."""
        record = self.step(step)
        return record.result if record is not None else {}

    def undone(self, name: str) -> dict[str, Any]:
        """What an undo step gave; {} when it has not been done."""
        return next((record.result for record in self.undo if record.name == name), {})

    @property
    def begun(self) -> int:
        """How many steps have been begun."""
        return sum(record.state is not StepState.WAITING for record in self.steps)

    @property
    def over(self) -> bool:
        return self.state in (RunState.DONE, RunState.UNDONE)

    @property
    def reversible(self) -> bool:
        """Whether it can still be taken back: not once a final step is under way. One that failed has started nothing
        that could not be cleared away; without this, a host that cannot start the VM would hold it for ever."""
        final = {step.name for step in steps(self.kind) if step.final}
        begun = (StepState.RUNNING, StepState.DONE)
        return not self.over and not any(record.name in final and record.state in begun for record in self.steps)

    @property
    def failed_step(self) -> str:
        """The step that a stalled run goes on with; "" when there is none."""
        return next((record.name for record in (self.undo or self.steps) if record.state is StepState.FAILED), "")


def may_owe(run: Run) -> bool:
    """Whether this run may go on without the vault, and have its epoch taken when that is back. Pure.

    A warm replica must be there. And since nobody can close a log that cannot be reached, the home site must have
    stopped the VM itself, or the operator must have said that it is off there.
    """
    options = run.options
    if run.kind is not Kind.UNPLANNED or options.get("from_vault") or not run.result("check").get("replica"):
        return False
    return bool(run.result("fence").get("reached", bool(run.result("fence"))) or options.get("without_vault"))


def may_have_owed(run: Run) -> bool:
    """The same of this run or one from which it took over."""
    return may_owe(run) or bool(run.options.get("owed_before"))


def passing(run: Run) -> dict[str, Any] | None:
    """Of a run to an older point of a log that cannot be read to its end: what it may pass over, as its check saw it
    or whoever had it tried again; None: nothing. See `leeward.vault.writer.Consent`. Pure."""
    seen = run.result("check") or run.result("check-home")
    found: dict[str, Any] | None = run.options.get("passing", seen.get("passing"))
    return found


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
    """Turn round. What has been begun is taken back, latest first; of a run that took over from another (see
    `gives_way`) also what it inherited, whatever it has begun itself. What a failover that it took over from had yet
    to do (see `gives_way_home`) is done."""
    begun = run.begun
    resumes = "there" in run.options
    if resumes:
        begun = max(begun, 1)
    if run.options.get("after"):
        final = next(number for number, step in enumerate(steps(run.kind)) if step.final)
        begun = max(begun, final + bool(run.options.get("tried")))
    order = undo_order(run.kind, begun)
    if not may_have_owed(run):
        order = tuple(name for name in order if name != "unowe")
    if not resumes:
        order = tuple(name for name in order if name not in RESUMED)
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


def its_turn(now: Run, seen: Run, move: Move) -> bool:
    """Whether `move`, chosen when the run was as `seen`, is still what comes next: two consoles may walk one run, and
    an operator may have decided otherwise. A wish to cancel comes first, as long as it can be heeded."""
    if (now.state, now.attempt) != (seen.state, seen.attempt) or next_move(now) != move:
        return False
    return not (now.cancel and now.state is RunState.RUNNING and now.reversible)


def with_record(run: Run, name: str, *, undo: bool, **changes: Any) -> Run:
    """The run with one step's record changed."""
    records = run.undo if undo else run.steps
    changed = tuple(replace(record, **changes) if record.name == name else record for record in records)
    return replace(run, undo=changed) if undo else replace(run, steps=changed)


def end(run: Run, outcome: RunState, at: float) -> Run:
    """at: UTC seconds."""
    return replace(run, state=outcome, ended=at, failure="")


def stall(run: Run, why: str) -> Run:
    """A step failed. What the operator wished to take back anyway is taken back, not left to wait."""
    if run.cancel and run.state is RunState.RUNNING and run.reversible:
        return begin_undo(run)
    return replace(run, state=RunState.STALLED, failure=why, cancel=False)


def retry(run: Run, options: dict[str, Any] | None = None) -> Run:
    """A stalled run goes on with the step that failed, forwards or backwards as it was going; any other run is left
    as it is. options: to change."""
    if run.state is not RunState.STALLED:
        return run
    state = RunState.UNDOING if run.undo else RunState.RUNNING
    return replace(run, state=state, attempt=run.attempt + 1, failure="", options={**run.options, **(options or {})})


def ask_cancel(run: Run) -> Run:
    """A stalled run turns round at once, one under way when it comes by; one that cannot is left as it is."""
    if not run.reversible:
        return run
    if run.state is RunState.STALLED:
        # A new attempt: what an earlier one began to take back is done anew, not remembered as done.
        return begin_undo(replace(run, attempt=run.attempt + 1))
    return replace(run, cancel=True) if run.state is RunState.RUNNING else run


def gives_way(run: Run) -> bool:
    """Whether an unplanned failover may take over from this run: one that still needs its home (which may be dead),
    to be stopped there or to be given back; never one that has begun to start the VM elsewhere."""
    final = {step.name for step in steps(run.kind) if step.final}
    begun = {record.name for record in run.steps if record.state is not StepState.WAITING}
    if run.over or begun & final:
        return False
    return bool(run.undo) or (run.kind is Kind.PLANNED and "epoch" not in begun)


def gives_way_home(run: Run) -> bool:
    """The same of an unplanned failback: one takes over from what still needs the recovery site (which may be dead).

    A failover that has not begun to plug the VM in can be taken back: that is the quicker way home. A commit moves
    nothing.
    """
    begun = {record.name for record in run.steps if record.state is not StepState.WAITING}
    if run.over:
        return False
    if run.kind in (Kind.PLANNED, Kind.UNPLANNED):
        return not run.reversible and not run.undo
    if run.kind is Kind.FAILBACK:
        return bool(run.undo) or "epoch-home" not in begun
    return run.kind is Kind.COMMIT or (run.kind is Kind.UNPLANNED_FAILBACK and bool(run.undo))


def inheritance(run: Run) -> dict[str, Any]:
    """Options for the run that takes over from this one: what it must be able to take back."""
    seen = run.result("check") or run.result("check-home")
    claim = run.options.get("claim", seen.get("claim", run.options.get("inherited_claim")))
    if claim is None:  # it had done nothing yet
        return {"there": run.options["there"]} if "there" in run.options else {}
    found = {"after": [*run.options.get("after", []), run.id], "inherited_claim": claim}
    final = {step.name for step in steps(run.kind) if step.final}
    if run.options.get("tried") or any(record.name in final for record in run.steps[: run.begun]):
        found["tried"] = True  # what its last step may have left running is cleared away first
    if "there" in run.options:
        found["there"] = run.options["there"]
    # For its being taken back alone: what it passes over itself it must be told itself.
    if over := passing(run) or run.options.get("inherited_passing"):
        found["inherited_passing"] = over
    return {**found, "owed_before": True} if may_have_owed(run) else found


def unabandon(run: Run) -> Run:
    """Whoever was to take over never did."""
    if run.state is not RunState.UNDONE or run.ended is not None:
        return run
    return replace(run, state=RunState.STALLED, failure="another failover was asked for, but never began")


def abandon(run: Run, why: str) -> Run:
    """Nothing more is done for it: another run takes over what it was to move. It has no end yet: that is noted once
    its jobs have been let go of."""
    return run if run.over else replace(run, state=RunState.UNDONE, failure=why, cancel=False)
