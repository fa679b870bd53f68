"""Giving a job to an agent and waiting for what comes of it, for as long as it takes: agents come back."""

from __future__ import annotations

import time
from collections.abc import Callable

from leeward.domain.errors import LeewardError, NotFound, Refused
from leeward.domain.runs import Move, Run, its_turn
from leeward.orchestrator.desk import Desk, Done, Link, RunBook
from leeward.wire.jobs import Job, JobKind, JobReport, JobState

_POLL_S = 0.05
# Progress is written down, and a wish to cancel looked for, this often.
_LOOK_S = 0.5
# How long an unplanned failover waits for a home site that does not answer, and for one that does to stop the VM.
FENCE_ABSENT_S = 2.0
FENCE_S = 20.0
# A console that has just started has not heard of all agents yet.
UNHEARD_S = 30.0


class Stopping(Exception):
    """This console shuts down; the run goes on with its next start, or at another console."""


class Overtaken(Exception):
    """The run has gone another way meanwhile: cancelled, abandoned, or another console was quicker. Look again."""


class JobFailed(LeewardError):
    """An agent could not do a job."""

    code = "job-failed"


class Waiter:
    """See `Conductor` for the arguments."""

    def __init__(self, book: RunBook, desk: Desk, stopping: Callable[[], bool]) -> None:
        self._book = book
        self._desk = desk
        self._stopping = stopping

    def outcome(self, run: Run, move: Move, job: Job) -> Done:
        """Raises JobFailed, Refused, NotFound (no agent has the host), Stopping, Overtaken."""
        fence = move.name in ("fence", "fence-away")
        brief = fence or move.name in ("unowe", "discard-away")
        began = time.monotonic()
        link = self._link(job, FENCE_ABSENT_S if brief else UNHEARD_S)
        if link is None or (brief and not self._appears(link)):
            return _left(link, job) if move.name == "discard-away" else _unreachable(job)
        link.submit(job)
        told, looked = "", began
        while True:
            report = link.job(job.id)
            if report is not None and report.state is not JobState.RUNNING:
                return self._done(run, link, report, fence)
            if brief and time.monotonic() - began > FENCE_S:
                if move.name == "discard-away":
                    return _left(link, job)
                return self._late(run, link, job) if fence else _let_be(link, job)
            self._pause()
            if time.monotonic() - looked < _LOOK_S:
                continue
            looked = time.monotonic()
            self._still_wanted(run, move, link, job)
            if report is None and link.present:
                link.submit(job)  # its agent may have lost it with its disk; given twice it is done once
            detail = _waiting(link, job, report)
            if detail != told:
                self._book.record(run.id, move.name, undo=move.undo, detail=detail)
                told = detail

    def _link(self, job: Job, patience_s: float) -> Link | None:
        """None after a short patience, for what a run does without at a site that is gone (stopping the VM, clearing
        away). Raises NotFound after a long one."""
        ends = time.monotonic() + patience_s
        while True:
            try:
                return self._desk.link(job.host)
            except NotFound:
                if time.monotonic() > ends:
                    if patience_s == FENCE_ABSENT_S:
                        return None
                    raise
            self._pause()

    def _appears(self, link: Link) -> bool:
        ends = time.monotonic() + FENCE_ABSENT_S
        while not link.present and time.monotonic() < ends:
            self._pause()
        return link.present

    def _pause(self) -> None:
        time.sleep(_POLL_S)
        if self._stopping():
            raise Stopping

    def _done(self, run: Run, link: Link, report: JobReport, fence: bool) -> Done:
        failure = report.failure
        if failure is None:
            return Done(report.progress, report.result)
        link.release(report.id)
        if fence and run.options.get("force"):
            return Done(f"not stopped, as you wished: {failure.message}", {"reached": False})
        hint = failure.hint
        if fence:
            hint = f"Make sure that it is off, then `leeward failover retry {run.vm_name} --force`"
        raise JobFailed(failure.message, subject=failure.subject, hint=hint)

    def _late(self, run: Run, link: Link, job: Job) -> Done:
        """A home site that went away in the middle is closed off by its epoch. One that answers and cannot stop its
        VM is another matter: starting a second one is the operator's decision."""
        present = link.present
        link.release(job.id)
        if not present:
            return _unreachable(job)
        if run.options.get("force"):
            return Done(f"{job.host} did not stop it in time; its log is closed instead", {"reached": False})
        raise Refused(
            f"{job.host} answers, but has not stopped it within {FENCE_S:.0f} s",
            hint=f"Make sure that it is off, then `leeward failover retry {run.vm_name} --force`",
        )

    def _still_wanted(self, run: Run, move: Move, link: Link, job: Job) -> None:
        """Leave a job that is not wanted any more. The agent ends it where nothing is half done; jobs of a VM are
        done one after the other, so what takes this step back comes after it."""
        now = self._book.run(run.id)
        if its_turn(now, run, move):
            return
        if now.cancel or now.state is not run.state:
            link.release(job.id)
        raise Overtaken


def _left(link: Link | None, job: Job) -> Done:
    """What is to be cleared away at a site that is gone keeps nothing from ending: it is done when it comes back."""
    if link is None:
        return Done(f"no agent has {job.host} any more: what was left there is not removed")
    # By then the VM may be there by another failover: that one is not touched.
    link.submit(job.model_copy(update={"arguments": {**job.arguments, "idle": True}}))
    return Done(f"{job.host} cannot be reached: it removes what is left there when it is back", {"left": True})


def _let_be(link: Link, job: Job) -> Done:
    link.release(job.id)
    return _unreachable(job)


def _unreachable(job: Job) -> Done:
    if job.kind is JobKind.UNOWE:
        return Done(f"{job.host} cannot be reached", {"reached": False})
    return Done(f"{job.host} cannot be reached; its log is closed instead", {"reached": False})


def _waiting(link: Link, job: Job, report: JobReport | None) -> str:
    if not link.present:
        return f"waiting for the agent of {job.host}"
    return report.progress if report else ""
