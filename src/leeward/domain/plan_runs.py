"""A run of a recovery plan, with what has been done of it. Plain values; what comes next is decided here.

Steps with the same bundle number are done side by side; a bundle begins when the one before it is over. A run holds a
copy of its plan: what is changed in the plan afterwards concerns later runs only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from leeward.domain.plans import Check, Group, OnFailure, Plan, PlanKind, Script


class PlanState(StrEnum):
    """WAITING: for an approval. PAUSED, STALLED: for the operator. The last three are ends, but a run that is DONE or
    ABORTED can still be retried or cleaned up where there is something to do."""

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    STALLED = "stalled"
    ABORTING = "aborting"
    CLEANING = "cleaning"
    ABORTED = "aborted"
    DONE = "done"
    CLEANED = "cleaned"


WALKING = (PlanState.RUNNING, PlanState.ABORTING, PlanState.CLEANING)
ENDS = (PlanState.ABORTED, PlanState.DONE, PlanState.CLEANED)
OPEN = tuple(state for state in PlanState if state not in ENDS)


class Act(StrEnum):
    APPROVE = "approve"
    DELAY = "delay"
    SCRIPT = "script"
    LOOK = "look"
    STOP = "stop"
    READY = "ready"
    START = "start"
    CHECK = "check"
    TAKE_BACK = "take-back"
    CLEAN = "clean"


# The steps in which a VM's own run is carried on.
_MOVES = (Act.LOOK, Act.STOP, Act.READY, Act.START)


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Wish(StrEnum):
    """What the operator wants of a run that is under way; heeded as soon as nothing is half done."""

    NONE = ""
    PAUSE = "pause"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """key: unique in the run. group: its number in the plan. vm_id: of the VM that it is about. index: of its script
    or check; after: of a script, whether it comes after the VMs. attempt: counts retries. waived: it failed, and the
    run goes on all the same. started, ended: UTC seconds. detail: for people; output: the end of what a script said.
    by: who approved, or skipped it."""

    key: str
    bundle: int
    act: Act
    group: int
    vm_id: str = ""
    index: int = 0
    after: bool = False
    state: StepState = StepState.WAITING
    attempt: int = 1
    waived: bool = False
    started: float | None = None
    ended: float | None = None
    detail: str = ""
    output: str = ""
    by: str = ""

    @property
    def over(self) -> bool:
        return self.state in (StepState.DONE, StepState.FAILED, StepState.SKIPPED)

    @property
    def settled(self) -> bool:
        """The run can go past it."""
        return self.over and not self.hurts

    @property
    def hurts(self) -> bool:
        return self.state is StepState.FAILED and not self.waived


@dataclass(frozen=True, slots=True)
class PlanRun:
    """options: to, point, force, timeout_s, plain JSON. back: the steps of aborting, or of cleaning up after a test.

    rides: VM id → the run (of one VM) that carries it; cleanups: the same for cleaning up. begun: how many such runs
    were begun, so that each gets an id of its own. created, ended: UTC seconds.
    """

    id: str
    plan: Plan
    kind: PlanKind
    by: str
    created: float
    options: dict[str, Any] = field(default_factory=dict)
    state: PlanState = PlanState.RUNNING
    steps: tuple[PlanStep, ...] = ()
    back: tuple[PlanStep, ...] = ()
    rides: dict[str, str] = field(default_factory=dict)
    cleanups: dict[str, str] = field(default_factory=dict)
    begun: int = 0
    wish: Wish = Wish.NONE
    failure: str = ""
    ended: float | None = None

    @property
    def over(self) -> bool:
        return self.state in ENDS

    @property
    def way(self) -> tuple[PlanStep, ...]:
        """The steps that are being gone through."""
        return self.back or self.steps

    @property
    def whole(self) -> bool:
        """All its steps are over, and none has failed. Of a run that is being aborted that says nothing."""
        return all(step.state in (StepState.DONE, StepState.SKIPPED) and not step.waived for step in self.steps)

    @property
    def complete(self) -> bool:
        """It came to its end, and nothing failed."""
        return self.state in (PlanState.DONE, PlanState.CLEANED) and self.whole

    @property
    def up(self) -> float:
        """When the last of its steps ended, without what came afterwards; UTC seconds."""
        return max((step.ended for step in self.steps if step.ended is not None), default=self.created)

    def step(self, key: str) -> PlanStep:
        return next(step for step in (*self.steps, *self.back) if step.key == key)

    def group(self, step: PlanStep) -> Group:
        return self.plan.groups[step.group]

    def script(self, step: PlanStep) -> Script:
        group = self.group(step)
        return (group.after if step.after else group.before)[step.index]

    def check(self, step: PlanStep) -> Check:
        return self.group(step).checks[step.index]


def next_bundle(run: PlanRun) -> tuple[PlanStep, ...]:
    """The steps that are done now, side by side; () when nothing is left."""
    number = next((step.bundle for step in run.way if not step.settled), None)
    return tuple(step for step in run.way if step.bundle == number)


def with_step(run: PlanRun, key: str, **changes: Any) -> PlanRun:
    """The run with one step's record changed."""
    return replace(run, steps=_changed(run.steps, key, changes), back=_changed(run.back, key, changes))


def _changed(steps: tuple[PlanStep, ...], key: str, changes: dict[str, Any]) -> tuple[PlanStep, ...]:
    return tuple(replace(step, **changes) if step.key == key else step for step in steps)


def failed(run: PlanRun, key: str, why: str, at: float) -> PlanRun:
    """The step has failed; whether the run goes past it is said in the plan. Going back nothing stops us."""
    waived = on_failure(run, run.step(key)) is OnFailure.CONTINUE
    return with_step(run, key, state=StepState.FAILED, detail=why, ended=at, waived=waived)


def on_failure(run: PlanRun, step: PlanStep) -> OnFailure:
    if step.act is Act.TAKE_BACK:
        return OnFailure.CONTINUE
    if step.act is Act.SCRIPT:
        return run.script(step).on_failure
    if step.act is Act.CHECK:
        return run.check(step).on_failure
    return OnFailure.STOP if step.act is Act.CLEAN else run.group(step).on_failure


def spared(run: PlanRun, step: PlanStep) -> str:
    """Why there is nothing to do in a step that has not been begun, "" when there is."""
    if step.act is Act.SCRIPT and run.kind not in run.script(step).kinds:
        return f"not in a {run.kind} run"
    return "its VM has failed" if lost(run, step) else ""


def lost(run: PlanRun, step: PlanStep) -> bool:
    """An earlier step of the step's VM has failed, and the run went on without it."""
    return step.act in (*_MOVES, Act.CHECK) and any(
        other.state is StepState.FAILED and (other.vm_id, other.act in _MOVES) == (step.vm_id, True)
        for other in run.steps
        if other.bundle < step.bundle
    )


def settle(run: PlanRun, bundle: int) -> PlanRun:
    """All steps of the bundle are over: stall when one of them hurts."""
    hurt = [step for step in run.way if step.bundle == bundle and step.hurts]
    if not hurt or run.state not in WALKING:
        return run
    return replace(run, state=PlanState.STALLED, failure="; ".join(_told(run, step) for step in hurt))


def finish(run: PlanRun, at: float) -> PlanRun:
    """Nothing is left to do. at: UTC seconds."""
    ends = {
        PlanState.RUNNING: PlanState.DONE,
        PlanState.ABORTING: PlanState.ABORTED,
        PlanState.CLEANING: PlanState.CLEANED,
    }
    if run.state not in ends:
        return run
    lost = [step for step in run.way if step.state is StepState.FAILED]
    failure = "; ".join(_told(run, step) for step in lost)
    return replace(run, state=ends[run.state], ended=at, failure=failure, wish=Wish.NONE)


def _told(run: PlanRun, step: PlanStep) -> str:
    name = run.plan.member(step.vm_id).vm_name if step.vm_id else run.group(step).name
    return f"{name}: {step.detail}" if step.act is not Act.CHECK else f"check of {name}: {step.detail}"
