"""The conductor: takes a run one step further, by a job for an agent or a deed of the console.

It keeps nothing of its own. `advance` reads the run, does the one thing that comes next, writes down what came of it;
dead in the middle of it, the next `advance` does the same thing again. What it writes down it writes only while that
step is still the run's next one: several consoles may walk one run, and operators change its course.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from leeward.domain.errors import LeewardError, NotFound
from leeward.domain.runs import (
    Move,
    Run,
    RunState,
    StepState,
    begin_undo,
    end,
    held,
    its_turn,
    next_move,
    stall,
    with_record,
)
from leeward.logs import log
from leeward.orchestrator.assignments import job_of, jobs_of
from leeward.orchestrator.desk import Desk, RunBook
from leeward.orchestrator.turns import Turns
from leeward.orchestrator.waiting import Overtaken, Stopping, Waiter


class Conductor:
    """book, desk: see there. stopping: true once this console shuts down; waiting ends then, nothing is recorded."""

    def __init__(self, book: RunBook, desk: Desk, stopping: Callable[[], bool] = lambda: False) -> None:
        self._book = book
        self._desk = desk
        self._stopping = stopping
        self._waiter = Waiter(book, desk, stopping)
        self._turns = Turns(stopping)

    def advance(self, run_id: str) -> bool:
        """One step. True while there is more to do; False when the run is over, has stalled, is held, or we are
        stopping."""
        return self._turns.take(run_id, self._advance)

    def _advance(self, run_id: str) -> bool:
        run = self._book.run(run_id)
        self._desk.follow(run)
        if run.state not in (RunState.RUNNING, RunState.UNDOING):
            return False
        if run.cancel and run.state is RunState.RUNNING:
            run = self._book.replace(run.id, _turn_round)
            self._desk.follow(run)
        move = next_move(run)
        if held(run, move):
            self._book.record(run.id, move.name, undo=False, detail="waits for its turn in the plan")
            return False
        try:
            return self._perform(run, move) if move.outcome is None else self._finish(run, move)
        except Stopping:
            return False
        except Overtaken:
            return True

    def _finish(self, run: Run, move: Move) -> bool:
        assert move.outcome is not None
        outcome = move.outcome
        self._let_go(run)
        ended = self._change(run, move, lambda now: end(now, outcome, time.time()))
        log.info("run ended", run=run.id, vm=run.vm_name, kind=run.kind, outcome=outcome)
        self._desk.follow(ended)
        return False

    def _let_go(self, run: Run) -> None:
        """Of every job it ever had: we may have died between an outcome's record and its release."""
        for host, job_id in jobs_of(run):
            with suppress(NotFound):  # an agent that was never reached has nothing to let go of
                self._desk.link(host).release(job_id)

    def _perform(self, run: Run, move: Move) -> bool:
        record = next(r for r in (run.undo if move.undo else run.steps) if r.name == move.name)
        started = record.started if record.state is StepState.RUNNING else time.time()
        run = self._note(run, move, state=StepState.RUNNING, started=started, ended=None, detail="")
        try:
            job = job_of(run, move.name, undo=move.undo)
            done = self._waiter.outcome(run, move, job) if job else self._desk.act(run, move.name)
            done = self._desk.take_in(run, move.name, done)
        except LeewardError as error:
            return self._stall(run, move, str(error))
        except (Stopping, Overtaken):
            raise
        except Exception as error:  # a bug of ours must leave a state that an operator can see and act on
            log.exception("a step failed unexpectedly", run=run.id, step=move.name)
            return self._stall(run, move, f"internal error: {error!r}")
        self._note(run, move, state=StepState.DONE, ended=time.time(), detail=done.detail, result=done.result or {})
        if job and not (done.result or {}).get("left"):
            with suppress(NotFound):
                self._desk.link(job.host).release(job.id)
        return True

    def _stall(self, run: Run, move: Move, why: str) -> bool:
        log.warning("run stalled", run=run.id, vm=run.vm_name, step=move.name, error=why)

        def change(now: Run) -> Run:
            failed = with_record(
                now, move.name, undo=move.undo, state=StepState.FAILED, ended=time.time(), detail=why
            )
            return stall(failed, f"{move.name}: {why}")

        stalled = self._change(run, move, change, heedless=True)
        self._desk.follow(stalled)
        return stalled.state is not RunState.STALLED

    # --- writing down -----------------------------------------------------------------------------------

    def _note(self, run: Run, move: Move, **changes: Any) -> Run:
        """A step's record. That something was done is noted whatever the operator wishes by now; that it begins,
        not."""
        done = changes["state"] is StepState.DONE
        return self._change(
            run, move, lambda now: with_record(now, move.name, undo=move.undo, **changes), heedless=done
        )

    def _change(self, run: Run, move: Move, change: Callable[[Run], Run], heedless: bool = False) -> Run:
        """Raises Overtaken when it is not this step's turn any more. heedless: of a wish to cancel."""

        def checked(now: Run) -> Run:
            if not its_turn(replace(now, cancel=False) if heedless else now, run, move):
                raise Overtaken
            return change(now)

        return self._book.replace(run.id, checked)


def _turn_round(run: Run) -> Run:
    """Heed a wish to cancel, unless the run has become final meanwhile."""
    if not run.cancel or run.state is not RunState.RUNNING:
        return run
    return begin_undo(run) if run.reversible else replace(run, cancel=False)
