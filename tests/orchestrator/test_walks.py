"""Walks that begin other walks, on the real engine: what a plan's run does with the runs of its VMs."""

import time

import pytest

from leeward.orchestrator.dispatch import dispatch
from leeward.orchestrator.engine import Engine

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow


@pytest.fixture
def engine(tmp_path):
    made = []

    def make(advance):
        engine = Engine(f"sqlite:///{tmp_path}/engine.db", "console", advance)
        engine.launch()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.shutdown()


def wait(condition):
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_plans_run_begins_those_of_its_vms_and_waits_for_them(engine):
    ended, begun = [], []

    def vms(run_id):
        time.sleep(0.1)
        ended.append(run_id)
        return False

    def plans(run_id):
        wanted = ["1-1", "1-2", "1-3"]
        for name in wanted:
            if name not in begun:
                begun.append(name)
                made.walk(name)
        wait(lambda: set(wanted) <= set(ended))
        ended.append(run_id)
        return False

    made = engine(dispatch(vms, plans))
    made.walk("plan-1")
    wait(lambda: "plan-1" in ended)
    wait(lambda: not made.walking())
    assert sorted(ended) == ["1-1", "1-2", "1-3", "plan-1"]
    assert ended[-1] == "plan-1"
