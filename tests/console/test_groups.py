"""Consistency groups from the policy to the recovered VMs: those of a group come back to one instant."""

import threading
import time

import pytest
from tests.console.plan_world import APP, DB, FRONT, NAMES, PlanWorld

from leeward.agent.status import Facts
from leeward.console.plan_views import PlanRunRequest
from leeward.console.views import FailoverRequest, ProtectRequest
from leeward.domain import consistency
from leeward.domain.errors import BadInput, Refused
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.vm import Power
from leeward.orchestrator import assignments
from leeward.wire.translate import utc

# Real time: a group meets every five seconds.
pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path, monkeypatch):
    # Nobody lives here whom a dead home would have to be given time to stand down.
    monkeypatch.setattr(assignments, "GRACE_S", 0.5)
    made = PlanWorld(tmp_path)
    made.protect_all()
    yield made
    made.close()


def policies(world):
    return {wish.vm_name: wish.policy for wish in world.database.desired().protections}


def join(world, names=("db", "app", "front")):
    for name in names:
        world.service.protect(name, ProtectRequest(group="shop", group_s=5))


def marks(world, vm_id):
    return {point.mark.id: point for point in world.vault.log(vm_id).points() if point.mark}


def common(world, names=NAMES):
    return set.intersection(*(set(marks(world, vm_id)) for vm_id in names))


class Orders:
    """db writes n, then app, then front, then db n + 1; whose VM does not run at the office waits."""

    def __init__(self, world):
        self.world = world
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        number = 0
        while not self.over.is_set():
            number += 1
            for vm_id in (DB, APP, FRONT):
                vm = self.world.office.hypervisor._vms[vm_id]
                while not self.over.is_set():
                    with vm.lock:
                        if vm.facts.power is Power.RUNNING:
                            vm.write("vda", 0, number.to_bytes(8))
                            break
                    time.sleep(0.001)
            time.sleep(0.002)

    def stop(self):
        self.over.set()
        self.thread.join()


def burn_down(world):
    """The office is gone in mid-writing: neither console nor vault hear of it again."""
    world.links[0].cut = True
    world.office.line.cut = True
    for vm_id in NAMES:
        world.office.hypervisor._vms[vm_id].set_power(Power.OFF)


def recovered(world, names=(DB, APP, FRONT)):
    return [int.from_bytes(world.recovery.hypervisor.disks(vm_id)["vda"][:8]) for vm_id in names]


def untorn(numbers):
    """Nobody knows of what who told him does not know."""
    return numbers == sorted(numbers, reverse=True) and numbers[-1] >= numbers[0] - 1


def test_a_group_is_part_of_the_policy_and_on_one_host(world):
    world.service.protect("db", ProtectRequest(group="shop", group_s=30))
    world.service.protect("app", ProtectRequest(group="shop"))
    assert policies(world)["app"].group_s == 30
    world.service.protect("app", ProtectRequest(group_s=20))
    assert {policies(world)[name].group_s for name in ("db", "app")} == {20}
    assert policies(world)["front"].group == ""
    for request in ({"group_s": 20}, {"group": "a b"}, {"group": "shop", "group_s": 1}):
        with pytest.raises(BadInput):
            world.service.protect("front", ProtectRequest(**request))
    world.service.protect("app", ProtectRequest(group="other"))
    assert policies(world)["app"].group_s == 60  # a group of its own, which nobody has said anything of
    world.service.protect("app", ProtectRequest(group=""))
    assert policies(world)["app"].group == ""
    world.office.hypervisor.remove(APP)
    world.service.unprotect("app")
    world.recovery.hypervisor.add(APP, "app", {"vda": bytes(65536)})
    world.wait(lambda: [vm.host for vm in world.fleet.view().vms if vm.id == APP] == ["recovery"])
    with pytest.raises(Refused, match=r"the group is on host office \(db\), and app is not") as told:
        world.service.protect("app", ProtectRequest(group="shop"))
    assert told.value.subject == "shop"
    # What is no joining is not refused, wherever a fellow has gone to.
    world.database.move(DB, "recovery", 9)
    world.service.protect("db", ProtectRequest(rpo_s=2))


def test_an_unplanned_run_brings_all_to_one_instant(world, monkeypatch):
    world.create()
    join(world)
    orders = Orders(world)
    world.wait(lambda: len(common(world)) >= 2)
    world.wait(lambda: all(view.policy is None or view.reason == "" for view in world.service.status()))
    time.sleep(1.5)  # some points for themselves, which a mark must be preferred to
    burn_down(world)
    orders.stop()
    newest = max(common(world), key=lambda name: marks(world, DB)[name].time_ns)

    with monkeypatch.context() as patch:
        patch.setattr(consistency, "LATE_S", 0.0)
        patch.setattr(consistency, "LATE_INTERVALS", 0.0)
        with pytest.raises(Refused, match=r"last agree .* before their newest points.*--newest"):
            world.begin("unplanned")
    world.begin("unplanned")
    done = world.until_state("done", "stalled")
    assert (done.complete, done.failure) == (True, "")
    for vm_id in NAMES:
        run = next(run for run in world.failovers.runs(vm_id) if run.kind == "unplanned")
        assert run.point == marks(world, vm_id)[newest].id
        assert "one instant of group shop" in run.steps[0].detail
    assert untorn(recovered(world)), recovered(world)


def test_an_instant_counts_as_common_once_it_is_in_the_vault(world, monkeypatch):
    made, record = [], Facts.record

    def noted(facts, result):
        record(facts, result)
        if result.point and result.point.mark:
            made.append(result.point)

    monkeypatch.setattr(Facts, "record", noted)
    join(world)
    orders = Orders(world)

    def told():
        return world.service.status("db")[0].marked_at

    def in_vault():
        return utc(max(point.mark.time_ns for point in marks(world, DB).values()))

    world.wait(told)
    world.office.line.cut = True
    before = in_vault()
    world.wait(lambda: len({point.mark.id for point in made if utc(point.mark.time_ns) > before}) >= 1)
    world.wait(lambda: world.service.status("db")[0].spool_bytes)
    time.sleep(0.5)  # the next reports
    assert told() <= before == in_vault()
    world.office.line.cut = False
    world.wait(lambda: told() > before)
    orders.stop()
    assert told() <= in_vault()


def test_who_follows_alone_goes_to_the_instant_of_the_first(world):
    """The console is gone too: all that a portal knows is in the vault."""
    join(world)
    orders = Orders(world)
    world.wait(lambda: common(world))
    time.sleep(1.2)
    burn_down(world)
    orders.stop()
    world.start_portal()
    for name, vm_id in (("db", DB), ("front", FRONT), ("app", APP)):
        world.service.failover(name, Event.UNPLANNED, FailoverRequest())
        world.wait(lambda name=name, vm_id=vm_id: world.failovers.life(vm_id, name).phase is Phase.AWAY)
        world.wait(lambda vm_id=vm_id: wish_host(world, vm_id) == "recovery")
    assert untorn(recovered(world)), recovered(world)
    points = {vm_id: world.failovers.runs(vm_id)[0].point for vm_id in NAMES}
    assert len({world.vault.log(vm_id).point(point).mark for vm_id, point in points.items()}) == 1


def wish_host(world, vm_id):
    return next(wish.host for wish in world.database.desired().protections if wish.vm_id == vm_id)


def test_newest_points_are_taken_where_that_is_wished(world):
    join(world, ("db", "app"))
    world.wait(lambda: common(world, (DB, APP)))
    world.office.hypervisor._vms[DB].write("vda", 0, b"later")
    world.wait(lambda: world.vault.log(DB).points()[-1].mark is None)
    burn_down(world)
    world.create(groups=[{"name": "all", "vms": ["db", "app"]}])
    world.plans.runs.begin("shop", PlanRunRequest(kind="test", newest=True), "anna")
    done = world.until_state("done", "stalled")
    assert done.complete
    copy = world.fleet.view().copy(DB, "test")
    assert copy.point == world.vault.log(DB).points()[-1].id
    world.ask("cleanup")
    world.until_state("cleaned")
    world.plans.runs.begin("shop", PlanRunRequest(kind="test"), "anna")
    assert world.until_state("done", "stalled").complete
    assert world.vault.log(DB).point(world.fleet.view().copy(DB, "test").point).mark is not None
