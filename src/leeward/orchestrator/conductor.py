"""The conductor: takes a run one step further, by a job for an agent or a deed of the console.

It keeps nothing of its own. `advance` reads the run, does the one thing that comes next, writes down what came of it;
dead in the middle of it, the next `advance` does the same thing again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from leeward.domain.errors import LeewardError, NotFound
from leeward.domain.runs import Move, Run, RunState, StepState, begin_undo, end, held, next_move, stall
from leeward.logs import log
from leeward.orchestrator.assignments import job_of
from leeward.orchestrator.turns import Turns
from leeward.wire.jobs import Job, JobReport, JobState

_POLL_S = 0.05
# Progress is written down, and a wish to cancel looked for, this often.
_LOOK_S = 0.5
# How long an unplanned failover waits for a home site that does not answer, and for one that does to stop the VM.
FENCE_ABSENT_S = 2.0
FENCE_S = 20.0


class Link(Protocol):
    """The part of an agent's link that a run needs; see `leeward.console.links.AgentLink`."""

    @property
    def present(self) -> bool: ...
    def submit(self, job: Job) -> None: ...
    def job(self, job_id: str) -> JobReport | None: ...
    def release(self, job_id: str) -> None: ...


class RunBook(Protocol):
    """Where runs are kept, durably. Every method is atomic; `changed` returns the run as it is from then on."""

    def run(self, run_id: str) -> Run: ...

    def record(self, run_id: str, name: str, *, undo: bool, **changes: Any) -> Run:
        """Change one step's record."""

    def replace(self, run_id: str, change: Callable[[Run], Run]) -> Run:
        """Read, change, write, as one."""


class Desk(Protocol):
    """What the console itself does in a run."""

    def link(self, host: str) -> Link:
        """The agent that has this host. Raises NotFound."""

    def act(self, run: Run, name: str) -> Done:
        """A step without a job. Raises LeewardError."""

    def follow(self, run: Run) -> None:
        """Bring the VM's phase to where the run is now. Harmless to repeat."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a step. detail: for people; result: for later steps."""

    detail: str = ""
    result: dict[str, Any] | None = None


class CancelWanted(Exception):
    """The operator wants the run to be taken back; the step under way was left."""


class Conductor:
    """book, desk: see there. stopping: true once this console shuts down; waiting ends then, nothing is recorded."""

    def __init__(self, book: RunBook, desk: Desk, stopping: Callable[[], bool] = lambda: False) -> None:
        self._book = book
        self._desk = desk
        self._stopping = stopping
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
            run = self._turn_round(run)
            self._desk.follow(run)
        move = next_move(run)
        if move.outcome is not None:
            self._finish(run, move.outcome)
            return False
        if held(run, move):
            self._book.record(run.id, move.name, undo=False, detail="waits for its turn in the plan")
            return False
        return self._perform(run, move)

    def _turn_round(self, run: Run) -> Run:
        """Heed a wish to cancel, unless the run has become final meanwhile."""
        if run.reversible:
            return self._book.replace(run.id, begin_undo)
        return self._book.replace(run.id, lambda now: replace(now, cancel=False))

    def _finish(self, run: Run, outcome: RunState) -> None:
        ended = self._book.replace(run.id, lambda now: end(now, outcome, time.time()))
        log.info("run ended", run=run.id, vm=run.vm_name, kind=run.kind, outcome=outcome)
        self._desk.follow(ended)

    def _perform(self, run: Run, move: Move) -> bool:
        record = next(r for r in (run.undo if move.undo else run.steps) if r.name == move.name)
        started = record.started if record.state is StepState.RUNNING else time.time()
        run = self._book.record(
            run.id, move.name, undo=move.undo, state=StepState.RUNNING, started=started, ended=None, detail=""
        )
        try:
            job = job_of(run, move.name, undo=move.undo)
            done = self._await(run, move, job) if job else self._desk.act(run, move.name)
        except CancelWanted:
            return True
        except _Stopping:
            return False
        except LeewardError as error:
            return self._stall(run, move, str(error))
        except Exception as error:  # a bug of ours must leave a state that an operator can see and act on
            log.exception("a step failed unexpectedly", run=run.id, step=move.name)
            return self._stall(run, move, f"internal error: {error!r}")
        self._book.record(
            run.id,
            move.name,
            undo=move.undo,
            state=StepState.DONE,
            ended=time.time(),
            detail=done.detail,
            result=done.result or {},
        )
        if job:
            with suppress(NotFound):  # an agent that was never reached has nothing to let go of
                self._desk.link(job.host).release(job.id)
        return True

    def _stall(self, run: Run, move: Move, why: str) -> bool:
        log.warning("run stalled", run=run.id, vm=run.vm_name, step=move.name, error=why)
        self._book.record(run.id, move.name, undo=move.undo, state=StepState.FAILED, ended=time.time(), detail=why)
        stalled = self._book.replace(run.id, lambda now: stall(now, f"{move.name}: {why}"))
        self._desk.follow(stalled)
        return False

    # --- jobs -------------------------------------------------------------------------------------------

    def _await(self, run: Run, move: Move, job: Job) -> Done:
        """Give the job and wait for its outcome, for as long as it takes: agents come back."""
        fence = move.name == "fence"
        began = time.monotonic()
        try:
            link = self._desk.link(job.host)
        except NotFound:
            if not fence:
                raise
            return _unreachable(job)
        if fence and not self._appears(link):
            return _unreachable(job)
        link.submit(job)
        told, looked = "", began
        while True:
            report = link.job(job.id)
            if report is not None and report.state is not JobState.RUNNING:
                break
            if fence and time.monotonic() - began > FENCE_S:
                link.release(job.id)
                return _unreachable(job)
            time.sleep(_POLL_S)
            if self._stopping():
                raise _Stopping
            if time.monotonic() - looked < _LOOK_S:
                continue
            looked = time.monotonic()
            self._heed_cancel(run, move, link, job)
            detail = _waiting(link, job, report)
            if detail != told:
                self._book.record(run.id, move.name, undo=move.undo, detail=detail)
                told = detail
        if report.failure is not None:
            link.release(job.id)
            raise _JobFailed(report.failure.message, subject=report.failure.subject, hint=report.failure.hint)
        return Done(report.progress, report.result)

    def _appears(self, link: Link) -> bool:
        ends = time.monotonic() + FENCE_ABSENT_S
        while not link.present and time.monotonic() < ends and not self._stopping():
            time.sleep(_POLL_S)
        return link.present

    def _heed_cancel(self, run: Run, move: Move, link: Link, job: Job) -> None:
        """Leave the job when the run is to be taken back. The agent ends it where nothing is half done; jobs of a VM
        are done one after the other, so what takes this step back comes after it."""
        if not move.undo and run.reversible and self._book.run(run.id).cancel:
            link.release(job.id)
            raise CancelWanted


class _Stopping(Exception):
    """This console shuts down; the run goes on with its next start, or at another console."""


def _unreachable(job: Job) -> Done:
    return Done(f"{job.host} cannot be reached; its log is closed instead", {"reached": False})


def _waiting(link: Link, job: Job, report: JobReport | None) -> str:
    if not link.present:
        return f"waiting for the agent of {job.host}"
    return report.progress if report else ""


class _JobFailed(LeewardError):
    """An agent could not do a job."""

    code = "job-failed"
