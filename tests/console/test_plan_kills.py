"""The console is killed in the middle of a plan's run, at any of its writes, again and again: nothing is done out of
order, nothing twice to a VM, and the run comes to its end."""

import random
import time

import pytest
from tests.console.plan_world import NAMES, Killed, PlanWorld

from leeward.console.plan_views import PlanApproveRequest
from leeward.domain.errors import Refused
from leeward.wire.jobs import JobKind

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.timeout(300)]
SLOW = pytest.mark.slow
DELAY_S = 0.4
PLAN = {
    "groups": [
        {"name": "database", "vms": ["db"], "after": [{"run": "note.sh", "kinds": ["test", "planned", "unplanned"]}]},
        {
            "name": "application",
            "vms": ["app", "front"],
            "delay": DELAY_S,
            "approval": True,
            "checks": [{"vm": "app", "kind": "agent"}, {"vm": "front", "kind": "agent"}],
        },
    ]
}
# Which deeds of agents must be seen exactly once a VM.
ONCE = {
    "planned": (JobKind.STOP, JobKind.LAST_CYCLE, JobKind.TAKE_EPOCH, JobKind.COPY_BUILD, JobKind.COPY_START),
    "unplanned": (JobKind.TAKE_EPOCH, JobKind.COPY_BUILD, JobKind.COPY_START),
    "test": (JobKind.COPY_BUILD, JobKind.COPY_START),
}


class Operator:
    """Asks for a run, gives its approval and, of a test, cleans up; starts the console again whenever it has died."""

    def __init__(self, world, lives):
        """lives: how many writes each console lives through; the last one lives for ever."""
        self.world, self.lives, self.deaths = world, list(lives), 0
        self.arm()

    def arm(self):
        fate = self.world.fate
        if self.lives:
            writes, fate.after = self.lives.pop(0)
            fate.at = fate.writes + writes

    def ask(self, deed):
        """Something of the console; None when it died of it."""
        try:
            return deed()
        except Killed:
            return None

    def look(self):
        """The run as it is; a console that has died is started again first."""
        if self.world.fate.dead.is_set():
            self.deaths += 1
            self.world.revive()
            self.arm()
        found = self.world.plans.runs.all("shop")
        return found[0] if found else None

    def carry(self, kind):
        world, ends = self.world, time.monotonic() + 120
        wanted = "cleaned" if kind == "test" else "done"
        while True:
            run = self.look()
            assert time.monotonic() < ends, (run, world.trace)
            if run is None:
                self.ask(lambda: world.begin(kind))
            elif run.state == "waiting":
                self.ask(lambda: world.plans.runs.approve("shop", PlanApproveRequest(), "bert"))
            elif run.state == "done" and kind == "test":
                assert run.complete
                self.ask(lambda: world.ask("cleanup"))
            elif run.state == wanted:
                return run
            else:
                assert run.state in ("running", "cleaning", "done"), run
            time.sleep(0.02)


def check(world, run, kind):
    assert run.complete, run
    for what in ONCE[kind]:
        assert sorted(world.did(what)) == sorted(NAMES.values()), what
    assert world.did(JobKind.COPY_START)[0] == "db"
    if kind == "planned":
        assert world.did(JobKind.STOP)[2] == "db"
    ended = 0.0
    for number in sorted({int(step.key.split("/")[0]) for step in run.steps}):
        starts = [step for step in run.steps if step.act == "start" and step.group == PLAN["groups"][number]["name"]]
        assert min(step.started for step in starts) >= ended
        ended = max(step.started + step.seconds for step in starts)
    delay = next(step for step in run.steps if step.act == "delay")
    assert delay.seconds >= DELAY_S
    assert next(step for step in run.steps if step.act == "approve").by == "bert"
    for vm_id, name in NAMES.items():
        runs = [run for run in world.failovers.runs(vm_id) if run.kind == kind and run.state != "undone"]
        assert len(runs) == 1, name
    if kind == "test":
        assert world.recovery.hypervisor.vms() == []
        assert world.where() == dict.fromkeys(NAMES.values(), "office")
    else:
        assert world.where() == dict.fromkeys(NAMES.values(), "recovery")
    lines = (world.folder / "out").read_text().split()
    assert lines  # at least once


def prepared(folder):
    world = PlanWorld(folder)
    world.protect_all()
    world.script("note.sh", f"echo database >>{folder}/out")
    world.create(**PLAN)
    return world


def survive(folder, kind, lives):
    world = prepared(folder)
    try:
        operator = Operator(world, lives)
        check(world, operator.carry(kind), kind)
        return operator.deaths
    finally:
        world.close()


@pytest.mark.parametrize(
    "kind", ["planned", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ONCE if kind != "planned")]
)
def test_a_run_survives_many_deaths(tmp_path, kind):
    dice = random.Random(kind)
    lives = [(dice.randint(2, 25), dice.random() < 0.5) for _ in range(8)]
    assert survive(tmp_path, kind, lives) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["planned", "unplanned", "test"])
def test_a_run_survives_deaths_at_random(tmp_path, kind, seed):
    dice = random.Random(f"{kind} {seed}")
    lives = [(dice.randint(1, 12), dice.random() < 0.5) for _ in range(25)]
    assert survive(tmp_path, kind, lives) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", range(1, 40))
def test_a_planned_run_survives_a_death_at_each_of_its_first_writes(tmp_path, write, after):
    """Those in which the VMs' own runs are begun and given their VMs."""
    survive(tmp_path, "planned", [(write, after)])


@pytest.mark.slow
def test_asking_twice_for_a_run_that_was_begun_as_the_console_died(tmp_path):
    """Dead after the run was written down: the operator, who saw an error, asks again."""
    world = prepared(tmp_path)
    try:
        operator = Operator(world, [(1, True)])
        assert operator.ask(lambda: world.begin("unplanned")) is None
        operator.look()
        with pytest.raises(Refused, match=r"under way|waits"):
            world.begin("unplanned")
        operator.carry("unplanned")
    finally:
        world.close()
