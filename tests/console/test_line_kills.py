"""Console and agent are killed at random instants while jobs go through: none is lost, none done as two."""

import itertools
import json
import os
import random
import time
from contextlib import suppress

import pytest
from tests.console.line_process import live
from tests.console.stand import until
from tests.forks import FORKS
from tests.loopback import free_port

from leeward.agent.enrolment import enrol
from leeward.wire.tokens import read_token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

JOBS = 24


class Process:
    """One of the two, started anew after each kill."""

    def __init__(self, folder, port=None):
        self.words = folder, port
        self.process = None
        self.kills = 0

    def start(self):
        given, giving = FORKS.Pipe(duplex=False)
        reading, told = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=live, args=(given, told, *self.words), daemon=True)
        self.process.start()
        self.stdin, self.stdout = (
            os.fdopen(os.dup(end.fileno()), mode) for end, mode in ((giving, "w"), (reading, "r"))
        )
        for end in (given, giving, reading, told):
            end.close()

    def kill(self):
        self.kills += 1
        self.end()

    def end(self):
        self.process.kill()
        self.process.join()
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()


class Console(Process):
    def ask(self, **command):
        """The console's answer; None when it died over it."""
        try:
            self.stdin.write(json.dumps(command) + "\n")
            self.stdin.flush()
            for line in self.stdout:
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
    console = Console(console_folder, free_port())
    agent = Process(agent_folder)
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
            if not console.process.is_alive():
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
