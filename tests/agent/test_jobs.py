"""Jobs are kept durably, done one at a time for a VM, and survive a kill at any instant."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from leeward.agent.jobs import JobRunner
from leeward.domain.errors import Refused
from leeward.wire.jobs import Job, JobKind, JobState

VICTIM = Path(__file__).with_name("jobs_victim.py")


def a_job(name, vm="vm", **how):
    return Job(id=name, kind=how.pop("kind", JobKind.STOP), vm_id=vm, host="office", arguments=how)


def wait(condition, seconds=10):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


class Bench:
    """Jobs that go on until they are let."""

    def __init__(self, folder):
        self.folder = folder
        self.begun, self.ended, self.gates = [], [], {}
        self.fails = set()
        self.runner = None
        self.restart()

    def restart(self):
        if self.runner:
            for gate in self.gates.values():
                gate.set()
            self.runner.stop(5)
        self.gates = {}
        self.runner = JobRunner(self.folder, dict.fromkeys(JobKind, self.work))
        self.runner.start()

    def work(self, context):
        self.begun.append(context.job.id)
        gate = self.gates.get(context.job.id)
        while gate is not None and not gate.wait(0.005):
            context.check()
        if context.job.id in self.fails:
            raise Refused("no", subject="web", hint="try")
        self.ended.append(context.job.id)
        context.tell("half way")
        return {"by": context.job.id}

    def hold(self, name):
        self.gates[name] = threading.Event()

    def files(self):
        return sorted(self.folder.glob("*.json"))

    def state(self, name):
        report = self.runner.job(name)
        return report and report.state


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "jobs")
    yield made
    for gate in made.gates.values():
        gate.set()
    made.runner.stop(5)


def test_a_job_given_twice_is_done_once_and_its_outcome_is_kept_until_it_is_let_go(bench):
    bench.runner.submit(a_job("a"))
    bench.runner.submit(a_job("a"))
    wait(lambda: bench.state("a") is JobState.DONE)
    assert bench.runner.job("a").result == {"by": "a"}
    assert bench.runner.job("a").progress == "half way"
    bench.restart()
    bench.runner.submit(a_job("a"))
    assert bench.runner.job("a").result == {"by": "a"}
    assert bench.ended == ["a"]
    bench.runner.release("a")
    assert bench.runner.job("a") is None
    assert bench.files() == []
    bench.runner.release("a")  # again: nothing


def test_jobs_of_one_vm_wait_for_each_other_and_those_of_others_do_not(bench):
    bench.hold("a1")
    for job in (a_job("a1", "a"), a_job("a2", "a"), a_job("b1", "b"), a_job("a-test", "a", purpose="test")):
        bench.runner.submit(job)
    wait(lambda: {"b1", "a-test"} <= set(bench.ended))
    assert bench.begun.count("a2") == 0
    bench.gates["a1"].set()
    wait(lambda: bench.ended[-1] == "a2")


def test_a_failure_is_an_outcome_with_its_reason(bench):
    bench.fails.add("a")
    bench.runner.submit(a_job("a"))
    wait(lambda: bench.state("a") is JobState.FAILED)
    failure = bench.runner.job("a").failure
    assert (failure.message, failure.subject, failure.hint, failure.code) == ("no", "web", "try", "refused")
    bench.runner.submit(a_job("b"))
    wait(lambda: bench.state("b") is JobState.DONE)


def test_a_bug_in_a_task_ends_the_job_and_nothing_else(bench):
    bench.runner._tasks = {**bench.runner._tasks, JobKind.START: lambda context: 1 / 0}
    bench.runner.submit(a_job("a", kind=JobKind.START))
    wait(lambda: bench.state("a") is JobState.FAILED)
    assert "ZeroDivisionError" in bench.runner.job("a").failure.message
    bench.runner.submit(a_job("b"))
    wait(lambda: bench.state("b") is JobState.DONE)


def test_letting_go_of_a_job_that_waits_one_that_runs_and_one_that_is_done(bench):
    bench.hold("runs")
    for name in ("runs", "waits", "after"):
        bench.runner.submit(a_job(name))
    wait(lambda: bench.begun == ["runs"])
    bench.runner.release("waits")
    assert bench.runner.job("waits") is None
    bench.runner.release("runs")
    assert len(bench.files()) == 1  # a crash now brings neither of them back
    wait(lambda: bench.state("after") is JobState.DONE)
    assert bench.begun == ["runs", "after"]
    assert bench.ended == ["after"]
    assert bench.runner.job("runs") is None
    bench.runner.release("after")
    assert bench.files() == []


def test_a_job_that_was_let_go_just_while_it_ended_leaves_nothing(bench):
    for number in range(50):
        name = f"j{number}"
        bench.hold(name)
        bench.runner.submit(a_job(name))
        wait(lambda name=name: name in bench.begun)
        racing = threading.Thread(target=bench.gates[name].set)
        racing.start()
        bench.runner.release(name)
        racing.join()
    wait(lambda: not bench.runner.jobs())
    assert bench.files() == []


def test_what_was_under_way_and_what_waited_are_done_after_a_restart_in_the_order_given(bench):
    bench.hold("a")
    for name in ("a", "b", "c"):
        bench.runner.submit(a_job(name))
    wait(lambda: bench.begun == ["a"])
    bench.runner.stop(0.2)  # "a" is asked to end, and does, undone
    assert bench.ended == []
    bench.runner = None
    bench.begun.clear()
    bench.restart()
    wait(lambda: bench.ended == ["a", "b", "c"])


def test_a_damaged_file_is_passed_over_and_the_job_is_given_again(bench, tmp_path):
    bench.runner.submit(a_job("a"))
    wait(lambda: bench.state("a") is JobState.DONE)
    for text in ("", "{", "[]", '{"job": 1}'):
        bench.files()[0].write_text(text)
        bench.runner.stop(1)
        bench.runner = JobRunner(bench.folder, dict.fromkeys(JobKind, bench.work))
        bench.runner.start()
        assert bench.runner.job("a") is None
        bench.runner.submit(a_job("a"))
        wait(lambda: bench.state("a") is JobState.DONE)


def test_outcomes_that_nobody_asks_for_are_forgotten_in_the_end(bench, monkeypatch):
    bench.runner.submit(a_job("a"))
    wait(lambda: bench.state("a") is JobState.DONE)
    monkeypatch.setattr("leeward.agent.jobs._KEEP_S", -1.0)
    bench.restart()
    assert bench.runner.job("a") is None
    assert bench.files() == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_killed_again_and_again_every_job_is_done(tmp_path, seed):
    """SIGKILL at random instants; no job is lost, and none is told as done whose effect is not there."""
    dice, count, told, kills = random.Random(seed), 30, set(), 0
    while len(told) < count:
        victim = subprocess.Popen(
            [sys.executable, str(VICTIM), str(tmp_path), str(count)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        lines, patience = [], dice.choice([1, 3, 8, 8, 40])
        for line in victim.stdout:
            lines.append(line.strip())
            if len(lines) > patience:
                time.sleep(dice.random() * 0.004)
                os.kill(victim.pid, signal.SIGKILL)
                kills += 1
                break
        victim.wait()
        effects = (tmp_path / "effects").read_text().split()
        new = set(lines) - {"given"}
        assert new <= set(effects)
        told |= new
        assert kills < 200
    assert set(effects) == told
    assert kills > 0
    # In the order given, for each VM; what was done again comes again.
    for vm in (0, 1):
        firsts = list(dict.fromkeys(name for name in effects if int(name.split("/")[1]) % 2 == vm))
        assert firsts == sorted(firsts, key=lambda name: int(name.split("/")[1]))
