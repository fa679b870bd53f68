"""What an operator can ask of a plan's run: when it makes sense, and what it changes. Pure."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from leeward.domain.plan_layout import each, numbered
from leeward.domain.plan_runs import Act, PlanRun, PlanState, PlanStep, StepState, Wish, lost, next_bundle, with_step
from leeward.domain.plans import PlanKind


class Ask(StrEnum):
    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    RETRY = "retry"
    CLEANUP = "cleanup"


_ALLOWED: dict[Ask, tuple[PlanState, ...]] = {
    Ask.APPROVE: (PlanState.WAITING,),
    Ask.PAUSE: (PlanState.RUNNING,),
    Ask.RESUME: (PlanState.PAUSED,),
    Ask.ABORT: (PlanState.RUNNING, PlanState.WAITING, PlanState.PAUSED, PlanState.STALLED, PlanState.ABORTING),
    Ask.RETRY: (PlanState.STALLED, PlanState.DONE),
    Ask.CLEANUP: (PlanState.WAITING, PlanState.PAUSED, PlanState.STALLED, PlanState.ABORTED, PlanState.DONE),
}
# Why nothing else is possible in a state, and what is the sensible thing to do. {plan} is the plan's name.
_WHY: dict[PlanState, tuple[str, str]] = {
    PlanState.RUNNING: ("a run of it is under way", "Watch it with `leeward plan status {plan}`"),
    PlanState.WAITING: ("its run waits for an approval", "Give it with `leeward plan approve {plan}`"),
    PlanState.PAUSED: ("its run is paused", "Go on with `leeward plan resume {plan}`"),
    PlanState.STALLED: (
        "its run has stalled",
        "Go on with `leeward plan retry {plan}`, or end it with `leeward plan abort {plan}`",
    ),
    PlanState.ABORTING: ("its run is being aborted", "Watch it with `leeward plan status {plan}`"),
    PlanState.CLEANING: ("its test is being cleaned up", "Watch it with `leeward plan status {plan}`"),
    PlanState.ABORTED: ("its last run was aborted", "Begin another one with `leeward plan run {plan}`"),
    PlanState.DONE: ("its last run has ended", "Begin another one with `leeward plan run {plan}`"),
    PlanState.CLEANED: ("its last run was cleaned up", "Begin another one with `leeward plan run {plan}`"),
}


def busy(run: PlanRun) -> tuple[str, str]:
    """(what it is at, what can be done about it)"""
    why, hint = _WHY[run.state]
    return why, hint.format(plan=run.plan.name)


def refused(run: PlanRun, ask: Ask) -> tuple[str, str] | None:
    """(why, what to do instead) when the ask makes no sense now; None when it does."""
    if ask is Ask.CLEANUP and run.kind is not PlanKind.TEST:
        return "there is nothing to clean up: this was no test", "Commit or fail back its VMs one by one"
    if ask is Ask.RETRY and run.state is PlanState.DONE and run.complete:
        return "nothing of it has failed", busy(run)[1]
    cleaning = run.state is PlanState.STALLED and bool(run.back)
    if run.state in _ALLOWED[ask] and not (ask is Ask.ABORT and cleaning):
        return None
    return busy(run)


def approve(run: PlanRun, by: str, at: float, note: str = "") -> PlanRun:
    """Of a run that waits: the one approval that it waits for is given."""
    for step in next_bundle(run):
        run = with_step(run, step.key, state=StepState.DONE, ended=at, by=by, detail=note)
    return replace(run, state=PlanState.RUNNING)


def retry(run: PlanRun) -> PlanRun:
    """What failed is done again. A stalled run goes on from there; an ended one goes back to what it left out."""
    stalled = run.state is PlanState.STALLED
    steps = tuple(_again(step) if (step.hurts if stalled else _left_out(run, step)) else step for step in run.way)
    if run.back:
        return replace(run, state=PlanState.CLEANING, back=steps, failure="", wish=Wish.NONE)
    return replace(run, state=PlanState.RUNNING, steps=steps, failure="", ended=None, wish=Wish.NONE)


def _left_out(run: PlanRun, step: PlanStep) -> bool:
    return step.state is StepState.FAILED or (step.state is StepState.SKIPPED and lost(run, step))


def _again(step: PlanStep) -> PlanStep:
    return replace(
        step,
        state=StepState.WAITING,
        attempt=step.attempt + 1,
        waived=False,
        started=None,
        ended=None,
        detail="",
        output="",
        by="",
    )


def skip(run: PlanRun, by: str) -> PlanRun:
    """A stalled run goes on without what failed."""
    steps = tuple(replace(step, waived=True, by=by) if step.hurts else step for step in run.way)
    if run.back:
        return replace(run, state=PlanState.CLEANING, back=steps, failure="", wish=Wish.NONE)
    return replace(run, state=PlanState.RUNNING, steps=steps, failure="", wish=Wish.NONE)


def begin_abort(run: PlanRun, at: float) -> PlanRun:
    """Nothing further is begun; what is under way is taken back where that is possible, first groups first: they come
    up again at home in the plan's order. Steps without a VM end here."""
    steps = tuple(_dropped(step, at) if step.state is StepState.RUNNING else step for step in run.steps)
    back = numbered([each(Act.TAKE_BACK, number, group) for number, group in enumerate(run.plan.groups)])
    return replace(run, state=PlanState.ABORTING, steps=steps, back=back, wish=Wish.NONE, failure="")


def _dropped(step: PlanStep, at: float) -> PlanStep:
    return replace(step, state=StepState.SKIPPED, ended=at, detail="the run was aborted meanwhile")


def gave_way(run: PlanRun, to: PlanRun) -> PlanRun:
    """Another run of the plan has taken over all that this one had under way."""
    steps = tuple(
        replace(step, state=StepState.SKIPPED, ended=to.created, detail="another run took over")
        if step.state is StepState.RUNNING
        else step
        for step in run.steps
    )
    failure = f"gave way to run {to.id}"
    return replace(
        run, state=PlanState.ABORTED, steps=steps, back=(), ended=to.created, failure=failure, wish=Wish.NONE
    )


def let_go(run: PlanRun, at: float) -> PlanRun:
    """End an abort that takes too long: VMs that are still being taken back go on by themselves."""
    back = tuple(replace(step, state=StepState.SKIPPED, ended=at) if not step.over else step for step in run.back)
    return replace(
        run, state=PlanState.ABORTED, back=back, ended=at, failure="not everything had been taken back yet"
    )


def begin_cleanup(run: PlanRun, at: float) -> PlanRun:
    """Of a test: all its copies are removed."""
    steps = tuple(_dropped(step, at) if step.state is StepState.RUNNING else step for step in run.steps)
    groups = [each(Act.CLEAN, number, group) for number, group in enumerate(run.plan.groups)]
    back = numbered([[step for group in groups for step in group]])
    return replace(
        run, state=PlanState.CLEANING, steps=steps, back=back, cleanups={}, failure="", ended=None, wish=Wish.NONE
    )


def pause(run: PlanRun) -> PlanRun:
    return replace(run, state=PlanState.PAUSED, wish=Wish.NONE)


def resume(run: PlanRun) -> PlanRun:
    return replace(run, state=PlanState.RUNNING, wish=Wish.NONE)
