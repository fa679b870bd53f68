"""Console and agent are killed at random instants while jobs go through: none is lost, none done as two."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.console.stand import free_port, until

from leeward.agent.enrolment import enrol
from leeward.wire.tokens import read_token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PROGRAM = Path(__file__).with_name("line_process.py")
JOBS = 24


class Process:
    """One of the two, started anew after each kill."""

    def __init__(self, *words):
        self.words = [sys.executable, str(PROGRAM), *map(str, words)]
        self.process = None
        self.kills = 0

    def start(self):
        self.process = subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def kill(self):
        self.kills += 1
        self.end()

    def end(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Console(Process):
    def ask(self, **command):
        """The console's answer; None when it died over it."""
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                word, _, rest = line.partition(" ")
                if word == "answer":
                    return json.loads(rest)
        except (BrokenPipeError, ValueError):
            pass
        return None


@pytest.fixture
def parts(tmp_path):
    console_folder, agent_folder = tmp_path / "console", tmp_path / "agent"
    console_folder.mkdir()
    agent_folder.mkdir()
    console = Console("console", console_folder, free_port())
    agent = Process("agent", agent_folder)
    console.start()
    enrol(agent_folder, read_token(console.ask(token=1)), "office")
    agent.start()
    yield console, agent, agent_folder / "log"
    agent.end()
    console.end()


@pytest.mark.parametrize("victims", ["console", "agent", "both"])
def test_jobs_through_kills(parts, victims):
    console, agent, log = parts
    rng = random.Random(victims)
    submitted, done = 0, {}
    open_jobs = []
    occasions = itertools.count(1)

    def perhaps_kill():
        """Just after something was said, while it is on its way."""
        if next(occasions) % 5 == 0:
            victim = {"console": console, "agent": agent}.get(victims) or rng.choice((console, agent))
            time.sleep(rng.uniform(0, 0.15))
            victim.kill()
            time.sleep(rng.choice((0, 0, 0.5)))
            victim.start()

    ends = time.monotonic() + 120
    while submitted < JOBS and time.monotonic() < ends:
        if len(open_jobs) < 4:
            job_id = f"job-{submitted}"
            if console.ask(submit=job_id, vm=f"vm-{submitted % 3}", generation=submitted + 1) is not None:
                open_jobs.append(job_id)
                submitted += 1
                perhaps_kill()
        before = len(done)
        look_after(console, log, open_jobs, done)
        if len(done) > before:
            perhaps_kill()
        time.sleep(0.02)
    until(lambda: look_after(console, log, open_jobs, done) or not open_jobs, 60, every_s=0.05)
    until(lambda: (console.ask() or {}).get("generation") == submitted, 60, every_s=0.05)

    assert console.kills + agent.kills >= 5
    assert len(done) == submitted == JOBS
    begun = lines(log, "begin")
    for job_id, begun_when_done in done.items():
        assert begun.count(job_id) == begun_when_done, f"{job_id} was begun again after it was done"
    assert sorted(set(lines(log, "end"))) == sorted(done)
    if victims == "console":
        assert len(begun) == submitted, "nothing but the agent's own death has a job begun again"
    else:
        # At most three VMs' jobs are under way at a time.
        assert len(begun) <= submitted + 3 * agent.kills


def look_after(console, log, open_jobs, done):
    """Note outcomes and let go of them, as an orchestrator does: the release may be repeated, or the console die."""
    for job_id in list(open_jobs):
        answer = console.ask(job=job_id)
        if answer is None:
            if console.process.poll() is not None:
                console.start()
            return
        if answer["job"] == "done":
            done.setdefault(job_id, lines(log, "begin").count(job_id))
            if console.ask(release=job_id) is not None:
                open_jobs.remove(job_id)


def lines(log, word):
    if not os.path.exists(log):
        return []
    return [line.split()[1] for line in log.read_text().splitlines() if line.startswith(f"{word} ")]
