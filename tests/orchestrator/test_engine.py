"""The real workflow engine on SQLite, killed with SIGKILL: every run is carried to its end, no step's effect is
lost."""

import inspect
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from dbos import DBOS
from tests.orchestrator.victims import Victim
from tests.state.postgres import Postgres, find_programs, short_folder

from leeward.domain.procedures import Kind, steps
from leeward.domain.runs import Run, RunState, StepState, new_run
from leeward.state.database import Database

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow

RUN = "run1"
NAMES = [step.name for step in steps(Kind.PLANNED)]


class Office:
    def __init__(self, folder, url=""):
        self.folder, self.url = folder, url
        database = self.database()
        database.runs.add(
            new_run(Run(RUN, "vm", "web", Kind.PLANNED, "office", "recovery", "latest", "me", time.time()))
        )
        database.close()

    def database(self):
        return Database(self.url or f"sqlite:///{self.folder / 'leeward.db'}")

    def start(self, what="run", executor="console"):
        return Victim(str(self.folder / "log"), str(self.folder), executor, what, self.url)

    def finish(self, process):
        """→ what it printed: the runs it found being carried on, and how it ended."""
        lines = process.out.read().split("\n")
        assert process.wait(90) == 0, (self.folder / "log").read_text()[-3000:]
        return json.loads(lines[0])["walking"], lines[1]

    def run(self):
        database = self.database()
        found = database.runs.run(RUN)
        database.close()
        return found

    def effects(self):
        return (self.folder / "effects").read_text().split() if (self.folder / "effects").exists() else []

    def must_be_whole(self):
        run = self.run()
        assert run.state is RunState.DONE
        assert all(record.state is StepState.DONE for record in run.steps)
        # Each step's effect is there, none came before an earlier one's, and nothing is left at the agents.
        firsts = list(dict.fromkeys(line.rsplit("/", 1)[1] for line in self.effects()))
        assert firsts == NAMES
        assert list((self.folder / "jobs").iterdir()) == []


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path)


def test_killed_at_a_step_and_started_again_it_goes_on_by_itself(office):
    victim = office.start("die:epoch:done")
    assert victim.wait(60) == -signal.SIGKILL
    assert office.run().steps[NAMES.index("epoch")].state is StepState.RUNNING
    walking, outcome = office.finish(office.start())
    assert outcome == "done"
    assert walking == [RUN]  # the engine itself knew of it
    office.must_be_whole()
    assert office.effects().count(f"{RUN}/1/do/epoch") == 1  # its outcome was kept, and not done twice


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "begun", "done", "recorded"])
def test_killed_at_every_step(office, when):
    for name in NAMES:
        victim = office.start(f"die:{name}:{when}")
        assert victim.wait(60) == -signal.SIGKILL
    office.finish(office.start())
    office.must_be_whole()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(1))
def test_killed_at_random_instants(office, seed):
    dice, kills = random.Random(seed), 0
    while not office.run().over:
        victim = office.start()
        victim.out.readline()  # launched
        time.sleep(dice.random() * 0.05 * (2 + kills))  # longer each time: a slow machine gets on, too
        if victim.alive():
            os.kill(victim.pid, signal.SIGKILL)
            kills += 1
        victim.wait()
        assert kills < 100
    assert kills > 0
    office.finish(office.start())
    office.must_be_whole()


def test_a_clean_shutdown_in_mid_run_and_a_start_after_it(office):
    """The engine believes its workflow to be done then; the console finds the run and has it carried on."""
    _, outcome = office.finish(office.start("stop-after:last-cycle"))
    assert outcome == "stopped"
    assert not office.run().over
    _, outcome = office.finish(office.start())
    assert outcome == "done"
    office.must_be_whole()


def test_another_console_takes_over(office):
    victim = office.start("die:build:begun", executor="dead")
    assert victim.wait(60) == -signal.SIGKILL
    _, outcome = office.finish(office.start("takeover", executor="alive"))
    assert outcome == "done"
    office.must_be_whole()


def frozen(process):
    """Waits until it is."""
    ends = time.monotonic() + 60
    while "State:\tT" not in Path(f"/proc/{process.pid}/status").read_text():
        assert time.monotonic() < ends
        time.sleep(0.02)
    return process


def test_one_that_wakes_in_the_middle_of_another_ones_walk_does_not_stop_it(tmp_path):
    """On PostgreSQL. The engine's database keeps who owns a walk: what the former owner notes of it is not taken."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    postgres = Postgres(programs, short_folder())
    try:
        postgres.start()
        office = Office(tmp_path, postgres.fresh())
        old = frozen(office.start("freeze:build:done", executor="old"))
        new = frozen(office.start("takeover-freeze:start:begun", executor="new"))
        os.kill(old.pid, signal.SIGCONT)
        time.sleep(1.0)  # in which it goes on with what it was about to note
        os.kill(new.pid, signal.SIGCONT)
        assert office.finish(new)[1] == "done"
        assert office.finish(old)[1] == "done"
        office.must_be_whole()
        assert len(office.effects()) == len(set(office.effects()))
    finally:
        postgres.remove()


def test_what_is_used_of_the_engine_that_is_not_public():
    """`take_over` rests on it: a list of executors in, their unfinished workflows begun again here."""
    parameters = inspect.signature(DBOS._recover_pending_workflows).parameters
    assert list(parameters)[:1] == ["executor_ids"]
