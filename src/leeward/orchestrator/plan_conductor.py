"""The conductor of recovery plans: takes a plan's run one bundle of steps further.

As with single VMs it keeps nothing of its own: dead in the middle of a bundle, the next `advance` goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import reduce

from leeward.domain.plan_asks import begin_abort, pause
from leeward.domain.plan_runs import (
    WALKING,
    Act,
    PlanRun,
    PlanState,
    PlanStep,
    StepState,
    Wish,
    finish,
    next_bundle,
    settle,
)
from leeward.logs import log
from leeward.orchestrator.plan_ground import Ground, PlanBook
from leeward.orchestrator.plan_steps import Change, Steps
from leeward.orchestrator.turns import Turns

# Of VMs there may be hundreds, each of which is looked up.
_POLL_S, _POLL_EACH_S = 0.1, 0.004
_WRITE_S = 1.0


class PlanConductor:
    """stopping: true once this console shuts down; waiting ends then, nothing is recorded."""

    def __init__(
        self,
        book: PlanBook,
        ground: Ground,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._book = book
        self._ground = ground
        self._stopping = stopping
        self._clock = clock
        self._sleep = sleep
        self._steps = Steps(book, ground, clock)
        self._turns = Turns(stopping)

    def advance(self, run_id: str) -> bool:
        """One bundle. True while there is more to do; False when the run is over, waits for somebody, or we are
        stopping."""
        return self._turns.take(run_id, self._advance)

    def _advance(self, run_id: str) -> bool:
        run = self._heed(self._book.plan_run(run_id))
        if run.state not in WALKING:
            return False
        bundle = next_bundle(run)
        if not bundle:
            self._finish(run)
            return False
        return self._perform(run, bundle[0].bundle)

    def _heed(self, run: PlanRun) -> PlanRun:
        """What the operator wished meanwhile, now that nothing of ours is half done."""
        if run.state is not PlanState.RUNNING or run.wish is Wish.NONE:
            return run
        if run.wish is Wish.PAUSE:
            run = self._book.replace(run.id, lambda now: pause(now) if now.wish is Wish.PAUSE else now)
            self._ground.tell(run, "paused")
            return run
        for step in run.steps:
            if step.act is Act.CHECK and step.state is StepState.RUNNING:
                self._steps.drop_check(run, step)
        return self._book.replace(run.id, lambda now: begin_abort(now, self._clock()))

    def _finish(self, run: PlanRun) -> None:
        if run.state is not PlanState.CLEANING:
            for vm_id in run.rides:
                self._steps.let_go(run, vm_id)
        ended = self._book.replace(run.id, lambda now: finish(now, self._clock()))
        log.info("plan run ended", run=run.id, plan=run.plan.name, kind=run.kind, state=ended.state)
        self._ground.tell(ended, ended.state.value, ended.failure)

    def _perform(self, begun: PlanRun, number: int) -> bool:
        """All steps of a bundle, side by side, until each is over."""
        self._steps.reserve(begun, [step for step in begun.way if step.bundle == number])
        while True:
            run = self._book.plan_run(begun.id)
            if run.state is not begun.state:
                return run.state in WALKING  # it waits for an approval, or was let go of
            bundle = [step for step in run.way if step.bundle == number]
            if all(step.over for step in bundle):
                return self._settle(run, number)
            wait = bundle[0].act in (Act.DELAY, Act.APPROVE)
            if run.state is PlanState.RUNNING and (run.wish is Wish.ABORT or (run.wish is Wish.PAUSE and wait)):
                return True
            open_steps = [step for step in bundle if not step.over]
            if not self._poke(run, open_steps):
                self._sleep(max(_POLL_S, len(open_steps) * _POLL_EACH_S))
            if self._stopping():
                return False

    def _poke(self, run: PlanRun, steps: Sequence[PlanStep]) -> bool:
        """Whether there was anything new. It is written down together, but where it takes long not only at the end:
        a row of many steps is large, and people watch it."""
        changes: list[Change] = []
        written, news = time.monotonic(), False
        for step in steps:
            change = self._steps.poke(run, step)
            if change is not None:
                changes.append(change)
                news = True
            if self._stopping():
                break
            if time.monotonic() - written > _WRITE_S:
                self._write(run, changes)
                changes, written = [], time.monotonic()
        self._write(run, changes)
        return news

    def _write(self, run: PlanRun, changes: Sequence[Change]) -> None:
        if changes:
            self._book.replace(run.id, lambda now: reduce(lambda made, change: change(made), changes, now))

    def _settle(self, run: PlanRun, number: int) -> bool:
        run = self._book.replace(run.id, lambda now: settle(now, number))
        if run.state is PlanState.STALLED:
            log.warning("plan run stalled", run=run.id, plan=run.plan.name, error=run.failure)
            self._ground.tell(run, "stalled", run.failure)
        return run.state in WALKING
