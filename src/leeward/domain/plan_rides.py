"""How the run of one VM fits into the run of a plan: where the former is held, and what it has reached."""

from __future__ import annotations

from dataclasses import dataclass, replace

from leeward.domain.plan_runs import WALKING, Act, PlanRun, StepState
from leeward.domain.procedures import steps as steps_of
from leeward.domain.runs import Run, RunState
from leeward.domain.runs import StepState as RunStepState

# What the ids of plan runs begin with; ids of runs of one VM never do.
PLAN = "plan-"


@dataclass(frozen=True, slots=True)
class Stage:
    """hold: the VM's run waits before this step ("": nowhere). until: the stage is over when this step is done ("":
    when the run is)."""

    hold: str
    until: str


# Up to READY all of it can be taken back; the step before which it then waits is the final one.
STAGES: dict[Act, Stage] = {
    Act.LOOK: Stage("stop", "check"),
    Act.STOP: Stage("start", "stop"),
    Act.READY: Stage("start", "build"),
    Act.START: Stage("", ""),
}


@dataclass(frozen=True, slots=True)
class Seen:
    state: StepState
    detail: str


def seen(until: str, run: Run | None) -> Seen:
    """What the run of one VM, as it is now, means for the step of the plan that carries it on."""
    if run is None:
        return Seen(StepState.FAILED, "its run is not known any more")
    if run.state is RunState.STALLED:
        return Seen(StepState.FAILED, run.failure)
    if run.state is RunState.UNDONE:
        return Seen(StepState.FAILED, f"it was taken back{f' ({run.failure})' if run.failure else ''}")
    if run.state is RunState.UNDOING:
        return Seen(StepState.RUNNING, "it is being taken back")
    if run.state is RunState.DONE:
        return Seen(StepState.DONE, _evidence(run))
    reached = run.step(until)
    if reached is not None and reached.state is RunStepState.DONE:
        return Seen(StepState.DONE, reached.detail)
    return Seen(StepState.RUNNING, _doing(run))


def taken_back(run: Run | None) -> Seen:
    """The same when the run of one VM is to be taken back, or to come to its end where it is too late for that."""
    if run is None:
        return Seen(StepState.DONE, "nothing was done to it")
    if run.state is RunState.UNDONE:
        return Seen(StepState.DONE, "taken back")
    if run.state is RunState.DONE:
        return Seen(StepState.DONE, "it had come up already")
    if run.state is RunState.STALLED and (run.undo or not run.reversible):
        return Seen(StepState.FAILED, run.failure)
    return Seen(
        StepState.RUNNING, "it is being taken back" if run.reversible else f"too late to take back: {_doing(run)}"
    )


def cleaned(run: Run | None) -> Seen:
    """The same of the run that removes a test's copy."""
    if run is None or run.state is RunState.UNDONE:
        return Seen(StepState.FAILED, "its removal is not known any more")
    if run.state is RunState.STALLED:
        return Seen(StepState.FAILED, run.failure)
    return Seen(StepState.DONE, "") if run.over else Seen(StepState.RUNNING, _doing(run))


def with_ride(run: PlanRun, vm_id: str) -> PlanRun:
    """With an id for a VM's run, to be begun once this is written down; as it is when it has ended meanwhile."""
    if run.state not in WALKING:
        return run
    return replace(run, rides={**run.rides, vm_id: _next_id(run)}, begun=run.begun + 1)


def with_cleanup(run: PlanRun, vm_id: str) -> PlanRun:
    """The same for the removal of its copy. One that was reserved already is kept."""
    if vm_id in run.cleanups:
        return run
    return replace(run, cleanups={**run.cleanups, vm_id: _next_id(run)}, begun=run.begun + 1)


def _next_id(run: PlanRun) -> str:
    return f"{run.id.removeprefix(PLAN)}-{run.begun + 1}"


def _evidence(run: Run) -> str:
    boot = run.step("boot")
    return boot.detail if boot is not None else ""


def _doing(run: Run) -> str:
    tells = {step.name: step.tells for step in steps_of(run.kind)}
    for record in run.steps:
        if record.state is not RunStepState.DONE:
            return record.detail or tells.get(record.name, record.name)
    return ""
