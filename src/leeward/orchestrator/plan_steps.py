"""The steps of a plan's run, each brought a bit further at a time.

A VM is never moved here: its own run does that. That run is begun under an id which the plan's run has written down
before, so that a repetition finds it instead of beginning another one. What is done twice when we die at the wrong
moment are scripts (docs/plans.md tells their authors), and looking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

from leeward.domain.errors import LeewardError, NotFound
from leeward.domain.plan_rides import STAGES, Seen, cleaned, seen, taken_back, with_cleanup, with_ride
from leeward.domain.plan_runs import (
    WALKING,
    Act,
    PlanRun,
    PlanState,
    PlanStep,
    StepState,
    Wish,
    failed,
    spared,
    with_step,
)
from leeward.domain.plans import PlanKind
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, gives_way
from leeward.logs import log
from leeward.orchestrator.desk import Link
from leeward.orchestrator.plan_checks import check_job, verdict
from leeward.orchestrator.plan_ground import Ground, Interrupted, PlanBook

# What came of looking at a step: how the run's row is to be changed.
Change = Callable[[PlanRun], PlanRun]


class Steps:
    """clock: UTC seconds; delays are told by it, so that they outlive this process."""

    def __init__(self, book: PlanBook, ground: Ground, clock: Callable[[], float]) -> None:
        self._book = book
        self._ground = ground
        self._clock = clock
        self._submitted: set[str] = set()
        self._pokes: dict[Act, Callable[[PlanRun, PlanStep], Change | None]] = {
            Act.APPROVE: self._approve,
            Act.DELAY: self._delay,
            Act.SCRIPT: self._script,
            Act.CHECK: self._check,
            Act.TAKE_BACK: self._take_back,
            Act.CLEAN: self._clean,
            **dict.fromkeys(STAGES, self._move),
        }

    def reserve(self, run: PlanRun, bundle: Sequence[PlanStep]) -> PlanRun:
        """Write down, at once for all, the ids of the VMs' runs that this bundle will begin."""
        starting = [s for s in bundle if s.act in STAGES and s.state is StepState.WAITING and not spared(run, s)]
        new = [s.vm_id for s in starting if s.vm_id not in run.rides and not self._gone(run, s.vm_id)]
        return self._book.replace(run.id, lambda now: reduce(with_ride, new, now)) if new else run

    def poke(self, run: PlanRun, step: PlanStep) -> Change | None:
        """Begin a step, or look how it is getting on; what is to be written down of it. None: nothing new.

        What is done here is done again when it could not be written down.
        """
        try:
            why = spared(run, step) if step.state is StepState.WAITING else ""
            if not why:
                return self._pokes[step.act](run, step)
            if step.act in STAGES:
                self.let_go(run, step.vm_id)
            return self._end(step, StepState.SKIPPED, why)
        except Interrupted:
            return None
        except LeewardError as error:
            return self._fail(run, step, str(error))
        except Exception as error:  # a bug of ours must leave a state that an operator can see and act on
            log.exception("a step of a plan failed unexpectedly", run=run.id, step=step.key)
            return self._fail(run, step, f"internal error: {error!r}")

    def drop_check(self, run: PlanRun, step: PlanStep) -> None:
        """Nobody waits for this check any more."""
        try:
            job = check_job(run, step, self._ground.place(run, step.vm_id))
            self._ground.link(job.host).release(job.id)
        except LeewardError as error:
            log.info("a check could not be taken back", run=run.id, step=step.key, error=str(error))

    def let_go(self, run: PlanRun, vm_id: str) -> None:
        """The plan goes on, or ends, without this VM: its run must not wait for a turn that never comes."""
        ride = self._ride(run, vm_id)
        if ride is not None and not ride.over:
            self._ground.hold(ride, "")

    # --- records ----------------------------------------------------------------------------------------

    def _begun(self, step: PlanStep) -> Change:
        at = self._clock()
        return lambda now: with_step(now, step.key, state=StepState.RUNNING, started=at)

    def _end(self, step: PlanStep, state: StepState, detail: str = "") -> Change:
        at = self._clock()
        return lambda now: with_step(now, step.key, state=state, ended=at, detail=detail)

    def _fail(self, run: PlanRun, step: PlanStep, why: str, output: str = "") -> Change:
        log.warning("a step of a plan failed", run=run.id, step=step.key, error=why)
        at = self._clock()
        return lambda now: failed(with_step(now, step.key, output=output), step.key, why, at)

    def _note(self, run: PlanRun, step: PlanStep, found: Seen) -> Change | None:
        if found.state is StepState.FAILED:
            return self._fail(run, step, found.detail)
        if found.state is StepState.DONE:
            return self._end(step, StepState.DONE, found.detail)
        if found.detail == step.detail:
            return None
        return lambda now: with_step(now, step.key, detail=found.detail)

    # --- VMs --------------------------------------------------------------------------------------------

    def _ride(self, run: PlanRun, vm_id: str) -> Run | None:
        run_id = run.rides.get(vm_id)
        return self._ground.ride(run_id) if run_id else None

    def _move(self, run: PlanRun, step: PlanStep) -> Change | None:
        """LOOK, STOP, READY, START: the VM's own run goes on to where the stage ends."""
        stage = STAGES[step.act]
        ride = self._ride(run, step.vm_id)
        if step.state is StepState.RUNNING:
            if ride is not None:
                self._ground.hold(ride, stage.hold)  # of two walks the one that is behind may have held it again
            return self._note(run, step, seen(stage.until, ride))
        if not _carries(ride) and self._gone(run, step.vm_id):
            return self._end(step, StepState.DONE, "it runs at the recovery site already")
        return self._begun(step) if self._enter(run, step, ride, stage.hold) else None

    def _enter(self, run: PlanRun, step: PlanStep, ride: Run | None, hold: str) -> bool:
        """See to it that a run of the VM goes, as far as `hold`. False: another run of the plan has taken over."""
        again = step.attempt > 1
        if ride is not None and not (again and ride.state is RunState.UNDONE) and not _outdated(run, ride):
            self._ground.hold(ride, hold)
            if again:
                self._ground.again(run, ride)
            return True
        if ride is not None or step.vm_id not in run.rides:
            run = self._book.replace(run.id, lambda now: with_ride(now, step.vm_id))
        if run.state not in WALKING:
            return False
        self._ground.begin(run, run.plan.member(step.vm_id), run.rides[step.vm_id], hold)
        return True

    def _gone(self, run: PlanRun, vm_id: str) -> bool:
        """The VM needs not be moved any more."""
        return run.kind is not PlanKind.TEST and self._ground.is_away(vm_id)

    def _take_back(self, run: PlanRun, step: PlanStep) -> Change | None:
        ride = self._ride(run, step.vm_id)
        if step.state is StepState.RUNNING:
            return self._note(run, step, taken_back(ride))
        if ride is not None:
            self._ground.cancel(ride)
        return self._begun(step)

    def _clean(self, run: PlanRun, step: PlanStep) -> Change | None:
        vm_id = step.vm_id
        cleanup = self._ground.ride(run.cleanups[vm_id]) if vm_id in run.cleanups else None
        if step.state is StepState.RUNNING:
            return self._note(run, step, cleaned(cleanup))
        if cleanup is not None:
            self._ground.again(run, cleanup)
            return self._begun(step)
        if vm_id not in run.rides:
            return self._end(step, StepState.SKIPPED, "it was not tested")
        run = self._book.replace(run.id, lambda now: with_cleanup(now, vm_id))
        why = self._ground.begin_cleanup(run, run.plan.member(vm_id), run.cleanups[vm_id], run.rides[vm_id])
        return self._end(step, StepState.SKIPPED, why) if why else self._begun(step)

    # --- what stands between the VMs --------------------------------------------------------------------

    def _approve(self, run: PlanRun, step: PlanStep) -> Change | None:
        """The run waits, and its walk ends; the approval begins another walk."""

        def ask(now: PlanRun) -> PlanRun:
            if now.state is not PlanState.RUNNING or now.wish is not Wish.NONE:
                return now
            started = now.step(step.key).started or self._clock()
            asked = with_step(now, step.key, state=StepState.RUNNING, started=started)
            return replace(asked, state=PlanState.WAITING)

        if self._book.replace(run.id, ask).state is PlanState.WAITING:
            self._ground.tell(run, "waits for an approval", run.group(step).name)
        return None

    def _delay(self, run: PlanRun, step: PlanStep) -> Change | None:
        if step.state is StepState.WAITING or step.started is None:
            return self._begun(step)
        over = remaining(step.started, run.group(step).delay_s, self._clock()) <= 0
        return self._end(step, StepState.DONE) if over else None

    def _script(self, run: PlanRun, step: PlanStep) -> Change | None:
        """To its end. That it had begun already means that we died in it: it is run once more."""
        again = step.state is StepState.RUNNING
        if not again:
            self._book.replace(run.id, self._begun(step))
        ended = self._ground.script(run, step, again)
        if not ended.well:
            return self._fail(run, step, ended.detail, ended.output)
        at = self._clock()
        told = {"detail": ended.detail, "output": ended.output}
        return lambda now: with_step(now, step.key, state=StepState.DONE, ended=at, **told)

    def _check(self, run: PlanRun, step: PlanStep) -> Change | None:
        job = check_job(run, step, self._ground.place(run, step.vm_id))
        if step.state is StepState.WAITING or step.started is None:
            return self._begun(step)
        link = self._link(job.host)
        if link is not None and job.id not in self._submitted:
            link.submit(job)
            self._submitted.add(job.id)
        report = link.job(job.id) if link is not None else None
        found = verdict(run.check(step), report, step.started, self._clock(), job.host)
        if found.state is not StepState.RUNNING and link is not None:
            # A look whose outcome is lost, since we die before it is written down, is only made again.
            link.release(job.id)
            self._submitted.discard(job.id)
        return self._note(run, step, found)

    def _link(self, host: str) -> Link | None:
        """None: no agent has told of this host, at least not since this console was started."""
        try:
            return self._ground.link(host)
        except NotFound:
            return None


def _carries(ride: Run | None) -> bool:
    return ride is not None and ride.state is not RunState.UNDONE


def _outdated(run: PlanRun, ride: Run) -> bool:
    """A planned run of a VM that the plan's unplanned run has taken over, and that still needs the home which may be
    dead: an unplanned one takes its place. One that needs home no more simply goes on."""
    taken_over = run.kind is PlanKind.UNPLANNED and ride.kind is Kind.PLANNED
    return taken_over and (ride.state is RunState.UNDONE or gives_way(ride))


def remaining(started: float, delay_s: float, now: float) -> float:
    """Seconds until a delay is over. A clock that was set back does not make it longer than it is."""
    return min(started + delay_s - now, delay_s)
