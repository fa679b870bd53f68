"""Faults of the crash matrix: what breaks, at which step of a run, and how it is mended again."""

import threading
import time
from dataclasses import dataclass

from tests.console.chaos import VM, Died

from leeward.console.views import RetryRequest
from leeward.domain.errors import Refused
from leeward.domain.lifecycle import under_way
from leeward.domain.runs import RunState, StepState

OUTAGE_S = 0.1
CONSOLE = ("before", "begun", "done", "recorded")
FAULTS = (
    *(f"console {when}" for when in CONSOLE),
    *(f"{site} {when}" for site in ("office", "recovery") for when in ("before", "after")),
    "cut console-office",
    "cut console-recovery",
    "cut office-vault",
    "cut recovery-vault",
    "vault away",
)


@dataclass
class Fault:
    """Armed for one step of the next run. struck: it has happened."""

    world: object
    what: str
    step: str
    undo: bool = False

    def __post_init__(self):
        self.struck = threading.Event()
        self.world.hook = self.on_run
        self.world.tasks_hook = self.on_task

    def on_run(self, before, after, written):
        """In the console's thread, around every change of a run."""
        if self.struck.is_set():
            return
        was, now = self._state(before), self._state(after)
        begins = now is StepState.RUNNING and was is not StepState.RUNNING
        ends = now is StepState.DONE and was is not StepState.DONE
        site, _, when = self.what.partition(" ")
        if site == "console":
            if (begins, ends, written) == {
                "before": (True, False, False),
                "begun": (True, False, True),
                "done": (False, True, False),
                "recorded": (False, True, True),
            }[when]:
                self.struck.set()
                raise Died
        elif begins and written:
            self._cut_or_kill(after, site, when)

    def _cut_or_kill(self, run, site, when):
        world = self.world
        if site in ("office", "recovery"):
            place = getattr(world, site)
            job_here = self._job_here(run, place)
            if not job_here:  # no task of it to die in: it dies while others work
                self.struck.set()
                place.local = None
            return
        self.struck.set()
        if when.startswith("console-"):
            world.cuts[when.removeprefix("console-")] = True
        else:
            sites = {"office-vault": [world.office.line], "recovery-vault": [world.recovery.line]}
            for line in sites.get(when, [world.office.line, world.recovery.line, world.console_line]):
                line.cut = True

    def _job_here(self, run, place):
        from leeward.orchestrator.assignments import job_of

        job = job_of(run, self.step, undo=self.undo)
        return job is not None and job.host == place.name

    def on_task(self, place, job, when):
        """In the agent's thread, before its task and after its effect."""
        way = "undo" if self.undo else "do"
        here = self.what == f"{place.name} {when}" and job.id.endswith(f"/{way}/{self.step}")
        if here and not self.struck.is_set():
            self.struck.set()
            place.die()
        if place.dead.is_set():
            raise Died

    def _state(self, run):
        records = run.undo if self.undo else run.steps
        return next((record.state for record in records if record.name == self.step), None)

    def strike_and_mend(self, carry_on=True):
        """Wait for it, leave things broken for a while, mend them; then retry what stalled until the run is over."""
        world = self.world
        world.wait(self.struck.is_set)
        time.sleep(OUTAGE_S)
        world.mend()
        if carry_on:
            bring_to_end(world)


def bring_to_end(world, seconds=20.0):
    """What an operator does once everything is back: retry whatever has stalled."""
    ends = time.monotonic() + seconds
    while True:
        run = world.failovers.last(VM, "web")
        if run.over and not world.unfinished() and not under_way(world.phase()):
            return run
        if run.state is RunState.STALLED:
            try:
                if run.kind in ("commit", "finish"):
                    world.service.commit("web")
                else:
                    world.service.retry("web", RetryRequest())
            except Refused:
                pass  # it goes on already
        assert time.monotonic() < ends, (run, world.service.status())
        time.sleep(0.03)  # three questions to the database each: often enough
