"""What runs have left at hosts: removed there as soon as it can be, kept off until then, and told to people.

Two kinds. A commit of a failback leaves the copy at a recovery site that is away; its order lies with that agent's
link. And a run that another one to another host took over from leaves what it had made at its own: a copy, or new
disks for a way home. The order to remove that is given when the VM is at rest again, and does nothing where the log
says that the VM's place is there by now. What a guest has written is never removed: new disks that it was started
from at home stay, and their host says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from leeward.console.fleet import Fleet
from leeward.domain.errors import NotFound
from leeward.domain.lifecycle import Phase, runs_away, under_way
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepState, with_record
from leeward.orchestrator.assignments import job_of
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.wire.jobs import Job, JobReport, JobState
from leeward.wire.messages import StandDownMessage

# The step that may be left to an agent that is away.
LEFT = "discard-away"
# Option of a run that another one to another host took over from: the how many-th order removes what it has made.
LEAVES = "leaves"
# Option of such a run whose order is just being called off.
CALLS_OFF = "calls_off"
_FAILOVERS = (Kind.PLANNED, Kind.UNPLANNED)
_FAILBACKS = (Kind.FAILBACK, Kind.UNPLANNED_FAILBACK)
# What could not be removed is tried again after this.
_AGAIN_S = 600.0


class Leftovers:
    """spread: tells every agent what is wished now."""

    def __init__(self, database: Database, fleet: Fleet, spread: Callable[[], None]) -> None:
        self._database, self._fleet, self._spread = database, fleet, spread
        self._left: dict[str, Run] | None = None
        # Run id → when its order is given again; which run of its VM its order has been called off for.
        self._waits: dict[str, float] = {}
        self._called_off: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()

    def _all(self) -> dict[str, Run]:
        if self._left is None:
            # All of them: a site that burnt may have left thousands.
            ended = (RunState.DONE, RunState.UNDONE)
            over = self._database.runs.find(states=ended, naming=("left", LEAVES), limit=None)
            self._left = {run.id: run for run in over if run.result(LEFT).get("left") or run.options.get(LEAVES)}
        return self._left

    def standdowns(self, lives: Mapping[str, Life]) -> list[StandDownMessage]:
        return left_off(list(self._all().values()), lives)  # others come and go meanwhile

    def note(self, run: Run) -> None:
        """One that has ended, of which something may be left to an agent that is away."""
        if run.result(LEFT).get("left") or run.options.get(LEAVES):
            self._all()[run.id] = run

    def places(self, vm_id: str) -> set[str]:
        """Hosts at which a run of this VM that gave way has left something."""
        left = list(self._all().values())
        return {place_of(run) for run in left if run.vm_id == vm_id and run.options.get(LEAVES)}

    def tell_of(self, run: Run) -> None:
        """That something is left, where nobody can remove it now."""
        host = place_of(run)
        with suppress(NotFound):
            if self._fleet.link(host).present:
                return
        self._record(run, f"{host} cannot be reached: it removes what is left there when it is back")

    def let_go(self) -> None:
        """Of what has been removed by now; the rest is ordered to be."""
        for run in list(self._all().values()):
            host, gave_way = place_of(run), bool(run.options.get(LEAVES))
            life = self._database.lives.get(run.vm_id)
            if run.options.get(CALLS_OFF):
                if not self._called_off_at_last(run, life):
                    continue
                run = self._all()[run.id]
            if gave_way and life is not None and under_way(life.phase):
                # Until then the log may still say that its place is there; and what is asked of that host now must
                # not wait behind an order that waits for the vault.
                self._call_off(run, life)
                continue
            if time.monotonic() < self._waits.get(run.id, 0.0):
                continue
            job = left_job(run, life) if gave_way else job_of(run, LEFT, undo=False)
            with suppress(NotFound):  # no agent has the host now: an agent that comes back may
                if job is None or self._over(run, host, job):
                    self._end(run)

    def _over(self, run: Run, host: str, job: Job) -> bool:
        """Raises NotFound when no agent has the host."""
        link = self._fleet.link(host)
        if run.options.get(LEAVES):
            link.submit(job)  # again each time, which is as good as once
        report = link.job(job.id)
        if report is None or report.state is JobState.RUNNING:
            return False
        if report.state is JobState.FAILED:
            self._failed(run, host, report)
        link.release(job.id)
        return report.state is JobState.DONE

    def _failed(self, run: Run, host: str, report: JobReport) -> None:
        """It stays there, and its host is asked again after a while; an operator may have to see to it."""
        self._waits[run.id] = time.monotonic() + _AGAIN_S
        self._change(run, lambda now: another_order(with_record(now, LEFT, undo=False, result={})))
        why = report.failure.message if report.failure else ""
        self._record(run, f"what is left at {host} could not be removed: {why}")

    def _call_off(self, run: Run, life: Life) -> None:
        if self._called_off.get(run.id) == life.run_id:
            return
        self._called_off[run.id] = life.run_id
        # First of all it is written down: an agent that is far away takes nothing up under an id that was let go of,
        # and a console that died in between would wait for what comes of it for ever.
        self._change(run, calling_off)
        self._called_off_at_last(self._all()[run.id], life)

    def _called_off_at_last(self, run: Run, life: Life | None) -> bool:
        """Also where an earlier process began to. False: no agent has the host now, so that it is tried again."""
        job = left_job(run, life)
        try:
            if job is not None:
                self._fleet.link(place_of(run)).release(job.id)
        except NotFound:
            return False
        self._change(run, another_order)
        return True

    def _change(self, run: Run, change: Callable[[Run], Run]) -> None:
        self._all()[run.id] = self._database.runs.replace(run.id, change)

    def _end(self, run: Run) -> None:
        self._database.runs.replace(run.id, nothing_left)
        self._all().pop(run.id, None)
        self._waits.pop(run.id, None)
        self._called_off.pop(run.id, None)
        self._database.count()
        self._spread()

    def _record(self, run: Run, detail: str) -> None:
        """Once, while this console lives."""
        if (run.id, detail) not in self._told:
            self._told.add((run.id, detail))
            self._database.record("left behind", run.vm_name, detail, "leeward")


def place_of(run: Run) -> str:
    """The host at which a run makes what it may leave. Pure."""
    return run.home if run.kind in _FAILBACKS else run.away


def leaves(run: Run, life: Life | None) -> bool:
    """Whether a run that has ended as it stood leaves something at a host where nobody else makes it anew. life: the
    VM's by now. Pure."""
    if life is None or life.run_id == run.id:
        return False
    place = life.home if run.kind in _FAILBACKS else life.away
    return place != place_of(run) and may_have_made(run)


def may_have_made(run: Run) -> bool:
    """It has made a copy, or new disks at home; or it took over from one that may have. Pure."""
    first = "build" if run.kind in _FAILOVERS else "prepare" if run.kind in _FAILBACKS else ""
    made = any(record.name == first and record.state is not StepState.WAITING for record in run.steps)
    return made or (bool(first) and bool(run.options.get("after")))


def left_off(left: Iterable[Run], lives: Mapping[str, Life]) -> list[StandDownMessage]:
    """What is to be removed at hosts that were away then is kept off there until it is, lest a site that hears of us
    again, and not of the vault, let it run on. Not where the VM is going, or has come, again. left: runs. Pure."""
    found = []
    for run in left:
        life, host = lives.get(run.vm_id), place_of(run)
        if life is None or host == life.home or (host == life.away and life.phase is not Phase.HOME):
            continue
        # At a host to which it came for the first time nothing is left to keep off in the end.
        off = StandDownMessage(
            vm_id=life.vm_id, vm_name=life.vm_name, host=host, reason=f"it runs at {place_now(life)}", recovered=True
        )
        found.append(off)
    return found


def place_now(life: Life) -> str:
    """Where the VM has its place. Pure."""
    return life.away if runs_away(life.phase) else life.home


def left_job(run: Run, life: Life | None) -> Job | None:
    """Removes what a run that gave way has made, where the VM has its rightful place elsewhere. Pure."""
    job = job_of(run, "revert" if run.kind in _FAILBACKS else "discard", undo=True)
    if job is None:
        return None
    arguments = {**job.arguments, "idle": True}
    if run.kind in _FAILBACKS and life is not None:
        arguments["reason"] = f"it runs at {place_now(life)}"
    number = int(run.options.get(LEAVES, 1))
    job_id = f"{run.id}/left" if number == 1 else f"{run.id}/left/{number}"
    return job.model_copy(update={"id": job_id, "arguments": arguments})


def calling_off(run: Run) -> Run:
    return replace(run, options={**run.options, CALLS_OFF: True})


def another_order(run: Run) -> Run:
    """An order that was let go of is never taken up again under its id. Pure."""
    options = {name: value for name, value in run.options.items() if name != CALLS_OFF}
    return replace(run, options={**options, LEAVES: int(options.get(LEAVES, 1)) + 1})


def nothing_left(run: Run) -> Run:
    options = {name: value for name, value in run.options.items() if name not in (LEAVES, CALLS_OFF)}
    return replace(with_record(run, LEFT, undo=False, result={}), options=options)
