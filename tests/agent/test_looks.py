"""Jobs of an agent: one at a time for a VM, those that only look excepted."""

import threading
import time

import pytest

from leeward.agent.jobs import JobRunner
from leeward.wire.jobs import Job, JobKind, JobState


@pytest.fixture
def make(tmp_path):
    made = []

    def runner(tasks):
        made.append(JobRunner(tmp_path / "jobs", tasks))
        made[-1].start()
        return made[-1]

    yield runner
    for one in made:
        one.stop(2)


def job(name, kind=JobKind.STOP, vm_id="1"):
    return Job(id=name, kind=kind, vm_id=vm_id, host="h")


def wait(condition):
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_deeds_of_a_vm_come_one_after_the_other_and_looks_beside_them(make):
    go_on, under_way, most = threading.Event(), [], [0]

    def deed(context):
        under_way.append(context.job.id)
        most[0] = max(most[0], len(under_way))
        time.sleep(0.05)
        under_way.remove(context.job.id)
        return {}

    def look(context):
        while not go_on.wait(0.01):
            context.check()
        return {"seen": context.job.id}

    jobs = make({JobKind.STOP: deed, JobKind.PROBE: look})
    # More looks than there are threads for deeds: none of them may stand in a deed's way.
    for number in range(40):
        jobs.submit(job(f"look{number}", JobKind.PROBE))
    for number in range(3):
        jobs.submit(job(f"deed{number}"))
    wait(lambda: all(jobs.job(f"deed{n}").state is JobState.DONE for n in range(3)))
    assert most == [1]
    assert jobs.job("look0").state is JobState.RUNNING
    # One that is let go of ends at once, or as soon as it would begin.
    jobs.release("look0")
    jobs.release("look39")
    wait(lambda: jobs.job("look0") is None)
    go_on.set()
    wait(lambda: jobs.job("look39") is None)
    wait(lambda: all(jobs.job(f"look{n}").state is JobState.DONE for n in range(1, 39)))
    assert jobs.job("look7").result == {"seen": "look7"}
