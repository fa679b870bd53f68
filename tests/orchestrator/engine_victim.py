"""A console's engine and conductor in a process of its own, to be killed.

`main(FOLDER, EXECUTOR, WHAT, [URL])`. WHAT: run, die:STEP:WHEN, freeze:STEP:WHEN, takeover,
takeover-freeze:STEP:WHEN, stop-after:STEP. Runs are in FOLDER/leeward.db, the engine's state in FOLDER/engine.db, or
both in the database of the URL; jobs are done by a stand-in for agents that writes one line
an effect into FOLDER/effects and keeps outcomes in FOLDER/jobs, as agents do. Prints "ready", then "over" at the end.
"""

import json
import os
import signal
import threading
import time
from pathlib import Path

from leeward.domain.runs import RunState, StepState
from leeward.logs import log
from leeward.orchestrator.conductor import Conductor
from leeward.orchestrator.desk import Done
from leeward.orchestrator.engine import Engine
from leeward.state.database import Database
from leeward.wire.jobs import JobReport, JobState

RUN = "run1"


class Agents:
    """Outlives the console: every job is a file, its outcome another."""

    present = True

    def __init__(self, folder):
        self.folder = folder / "jobs"
        self.folder.mkdir(exist_ok=True)
        self.effects = folder / "effects"

    def _path(self, job_id):
        return self.folder / job_id.replace("/", "_")

    def submit(self, job):
        path = self._path(job.id)
        if path.exists():
            return
        self._log(job.id)
        result = {"claim": 1, "epoch": 2, "point": "1", "time": "", "definition": ""}
        report = JobReport(id=job.id, state=JobState.DONE, result=result, started=time.time())
        path.with_suffix(".new").write_text(report.model_dump_json())
        path.with_suffix(".new").replace(path)

    def _log(self, line):
        with self.effects.open("a") as file:
            file.write(line + "\n")

    def job(self, job_id):
        path = self._path(job_id)
        return JobReport.model_validate_json(path.read_text()) if path.exists() else None

    def release(self, job_id):
        self._path(job_id).unlink(missing_ok=True)


class Desk:
    def __init__(self, agents):
        self.agents = agents

    def link(self, host):
        return self.agents

    def act(self, run, name):
        self.agents._log(f"{run.id}/{run.attempt}/do/{name}")
        time.sleep(0.01)
        return Done("", {"claim": 1, "definition": ""})

    def take_in(self, run, name, done):
        return done

    def follow(self, run):
        pass


class DyingBook:
    """Kills the process at a named step: before it is begun, begun, done but not written down, written down."""

    def __init__(self, book, step, when, deed):
        self.book, self.step, self.when, self.deed = book, step, when, deed

    def run(self, run_id):
        return self.book.run(run_id)

    def record(self, run_id, name, *, undo, **changes):
        return self.book.record(run_id, name, undo=undo, **changes)

    def replace(self, run_id, change):
        states = {}

        def watched(now):
            after = change(now)
            for key, run in (("was", now), ("is", after)):
                states[key] = next((r.state for r in run.steps if r.name == self.step), None)
            self._at("before", StepState.RUNNING, states)
            self._at("done", StepState.DONE, states)
            return after

        found = self.book.replace(run_id, watched)
        self._at("begun", StepState.RUNNING, states)
        self._at("recorded", StepState.DONE, states)
        return found

    def _at(self, when, state, states):
        if when == self.when and states["is"] is state and states["was"] is not state:
            self.deed()


def main(folder, executor, what, url=""):
    log.quiet()
    folder = Path(folder)
    database = Database(url or f"sqlite:///{folder / 'leeward.db'}")
    stopping = threading.Event()
    book = database.runs
    kind, *rest = what.split(":")
    if "die" in kind:
        book = DyingBook(book, *rest, lambda: os.kill(os.getpid(), signal.SIGKILL))
    if "freeze" in kind:
        book = DyingBook(book, *rest, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    if kind == "stop-after":
        book = DyingBook(book, rest[0], "recorded", stopping.set)
    conductor = Conductor(book, Desk(Agents(folder)), stopping.is_set)
    engine = Engine(url or f"sqlite:///{folder / 'engine.db'}", executor, conductor.advance)
    engine.launch()
    if kind.startswith("takeover"):
        engine.take_over()
    # As the console does on starting: what runs and is carried on by nobody is carried on by us.
    elif database.runs.run(RUN).state in (RunState.RUNNING, RunState.UNDOING) and RUN not in engine.walking():
        engine.walk(RUN)
    print(json.dumps({"walking": sorted(engine.walking())}), flush=True)
    ends = time.monotonic() + 60
    while not (run := database.runs.run(RUN)).over and not stopping.is_set() and time.monotonic() < ends:
        time.sleep(0.01)
    engine.shutdown()
    print("stopped" if stopping.is_set() and not run.over else run.state.value, flush=True)
