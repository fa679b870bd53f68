"""The life of a VM between its sites, on hypervisors in memory: real agents, vault, console and database."""

import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest
from tests.console.world import VM

from leeward.agent import room
from leeward.agent.agent import Source
from leeward.agent.config import HostConfig
from leeward.console.views import FailbackRequest, FailoverRequest, LossRequest, ProtectRequest, RetryRequest
from leeward.domain.errors import BadInput, Damaged, Fenced, NotFound, Refused
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.vm import Power
from leeward.vault import keyspace

pytestmark = pytest.mark.usefixtures("quick")


def planned(world):
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.AWAY)


def test_a_planned_failover_loses_nothing_and_comes_home(world):
    for _ in range(5):
        world.write(world.office)
    before = world.disks(world.office)
    planned(world)
    assert world.running() == ["recovery"]
    assert world.disks(world.recovery) == before
    status = world.service.status("web")[0]
    assert (status.phase, status.host) == ("away", "recovery")

    # The other direction is protected from the first write on, without a resynchronization.
    world.write(world.recovery)
    world.until_current(world.recovery)
    assert world.vault.log(VM).reign().info["host"] == "recovery"

    world.service.commit("web")
    world.until(Phase.SETTLED)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")
    world.write(world.recovery)
    world.comes_home()
    world.write(world.office)
    world.until_current(world.office)
    world.service.commit("web")
    world.until(Phase.HOME)
    assert VM not in world.recovery.hypervisor._vms
    assert world.running() == ["office"]
    # And all of it once more.
    world.write(world.office)
    planned(world)
    assert world.running() == ["recovery"]


def test_a_vm_is_not_shut_down_for_a_recovery_site_that_has_no_room(world, tmp_path, monkeypatch):
    free = [200 << 20]
    monkeypatch.setattr(room, "shutil", SimpleNamespace(disk_usage=lambda folder: SimpleNamespace(free=free[0])))
    world.recovery.agent._hosts["recovery"] = Source(
        HostConfig("recovery", "recovery", "memory", tmp_path / "images"), world.recovery.hypervisor
    )
    world.wait(lambda: world.service._fleet.view().hosts["recovery"].free == 192 << 20)
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.FAILOVER_STALLED)
    assert "are free" in world.service.last_run("web").failure
    assert world.running() == ["office"]
    free[0] = 1 << 30
    world.wait(lambda: world.service._fleet.view().hosts["recovery"].free == 1 << 30)
    world.service.retry("web", RetryRequest())
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]


def test_an_unplanned_failover_closes_the_log_to_a_source_that_cannot_be_reached(world):
    world.write(world.office)
    world.until_current(world.office)
    saved = world.disks(world.office)
    world.office.stop_agent()
    world.vm(world.office).facts = world.vm(world.office).facts.__class__(
        **{
            **{
                f: getattr(world.vm(world.office).facts, f) for f in world.vm(world.office).facts.__dataclass_fields__
            },
            "power": Power.OFF,
        }
    )
    world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]
    assert world.disks(world.recovery) == saved
    run = world.service.last_run("web")
    assert "cannot be reached" in next(step.detail for step in run.steps if step.name == "fence")


def test_a_source_that_returns_finds_that_its_time_is_over(world):
    world.write(world.office)
    world.until_current(world.office)
    office = world.links[0]
    office.cut = True  # the console cannot reach it; its VM and its line to the vault go on
    world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    # Its next commit meets the new epoch: it stands down by itself, without any console.
    world.write(world.office)
    world.wait(lambda: world.running() == ["recovery"])
    assert world.office.agent.report().standdowns[0].reason.startswith("it runs at recovery")
    # Started by hand it is stopped again, and it cannot write into the log.
    world.office.hypervisor.start(VM)
    world.wait(lambda: world.running() == ["recovery"])
    with pytest.raises(Fenced):
        world.vault.log(VM).take_epoch(1, {"writer": "agent-office"})
    office.cut = False
    with pytest.raises(Refused):
        world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.wait(lambda: "office: it was started here and has been stopped" in world.service.status("web")[0].reason)


def test_a_source_that_was_dead_all_the_time_stays_off_when_it_returns(world):
    world.until_current(world.office)
    world.office.stop_agent()
    world.office.hypervisor.force_off(VM)
    world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    world.office.hypervisor.start(VM)  # its host started it while booting
    world.office.start_agent()
    world.wait(lambda: world.running() == ["recovery"])


def test_a_failover_is_taken_back_before_the_vm_is_started(world):
    world.recovery.hypervisor.add(VM, "somebody else's", {"vda": b"x"}, Power.OFF)  # build will fail
    before = world.disks(world.office)
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.FAILOVER_STALLED)
    assert world.running() == []
    assert "exists on the recovery host" in world.service.last_run("web").failure
    world.service.cancel("web")
    world.until(Phase.HOME)
    world.recovery.hypervisor.remove(VM)
    assert world.running() == ["office"]
    assert world.disks(world.office) == before
    world.write(world.office)
    world.until_current(world.office)
    planned(world)


def test_a_stalled_failover_goes_on(world):
    world.recovery.hypervisor.add(VM, "somebody else's", {"vda": b"x"}, Power.OFF)
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.FAILOVER_STALLED)
    world.recovery.hypervisor.remove(VM)
    world.service.retry("web", RetryRequest())
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]


@pytest.mark.parametrize(
    ("event", "said", "way"),
    [("unplanned", "needs its home no more", "retry"), ("unplanned-failback", "the recovery site alone", "cancel")],
)
def test_what_is_under_way_and_does_not_give_way_is_told_before_anybody_agrees_to_a_loss(world, event, said, way):
    world.until_current(world.office)
    world.recovery.hypervisor.add(VM, "somebody else's", {"vda": b"x"}, Power.OFF)
    planned = world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.FAILOVER_STALLED)
    move = {
        "unplanned": lambda: world.service.failover("web", Event.UNPLANNED, FailoverRequest()),
        "unplanned-failback": lambda: world.service.failback("web", FailbackRequest(unplanned=True)),
    }
    for ask in (lambda: world.service.loss("web", LossRequest(event=event)), move[event]):
        with pytest.raises(Refused, match=said) as caught:
            ask()
        assert caught.value.hint == f"Go on with `leeward failover {way} web`"
    assert world.service.run(planned.id).state == "stalled"


def test_asking_what_would_be_lost_takes_nothing_over(world):
    world.until_current(world.office)
    world.vm(world.office).obeys_shutdown = False
    planned = world.service.failover("web", Event.PLANNED, FailoverRequest(timeout_s=0.1))
    world.until(Phase.FAILOVER_STALLED)
    assert world.service.loss("web", LossRequest()).point == world.vault.log(VM).point("latest").id
    assert world.service.run(planned.id).state == "stalled"
    world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    assert world.service.run(planned.id).state == "undone"


def test_a_loss_on_the_way_to_a_host_that_is_none_is_not_asked_about(world):
    planned(world)
    for host, error in (("moon", NotFound), ("recovery", BadInput)):
        with pytest.raises(error):
            world.service.loss("web", LossRequest(event="unplanned-failback", to=host))


def test_a_guest_that_does_not_shut_down_stalls_the_failover_until_force(world):
    world.vm(world.office).obeys_shutdown = False
    world.service.failover("web", Event.PLANNED, FailoverRequest(timeout_s=0.1))
    world.until(Phase.FAILOVER_STALLED)
    assert world.running() == ["office"]
    world.service.retry("web", RetryRequest(force=True))
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]


def test_a_vm_that_is_off_since_its_memory_was_saved_is_not_moved_without_that(world):
    """What the guest had not written is in that file alone."""
    world.vm(world.office).save()
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.FAILOVER_STALLED)
    assert "its memory was saved" in world.service.last_run("web").failure
    assert world.running() == []
    world.office.hypervisor.start(VM)
    world.service.retry("web", RetryRequest())
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]


def test_a_test_touches_nothing_and_is_removed(world):
    view = world.service.start_test("web", "latest")
    assert view.done is False
    done = world.wait(lambda: (found := world.service.test("web")).done and found)
    assert done.failed == ""
    assert world.running() == ["office"]
    assert world.phase() is Phase.HOME
    with pytest.raises(Refused):
        world.service.start_test("web", "latest")
    with pytest.raises(Refused):
        world.service.unprotect("web")
    world.service.cleanup_test("web")
    assert world.recovery.hypervisor.vms() == []
    with pytest.raises(Refused):
        world.service.cleanup_test("web")


@pytest.mark.parametrize("ask", ["commit", "failback", "retry", "cancel"])
def test_what_makes_no_sense_is_refused_with_the_next_sensible_action(world, ask):
    asks = {
        "commit": lambda: world.service.commit("web"),
        "failback": lambda: world.service.failback("web", FailbackRequest()),
        "retry": lambda: world.service.retry("web", RetryRequest()),
        "cancel": lambda: world.service.cancel("web"),
    }
    with pytest.raises(Refused) as caught:
        asks[ask]()
    assert "leeward failover planned web" in caught.value.hint


@pytest.mark.parametrize(
    ("ids", "begun"), [(("", ""), 1), (("one", "two"), 1), (("same", "same"), 2)], ids=["people", "plans", "one plan"]
)
def test_two_who_ask_for_a_test_at_once_get_one(world, ids, begun):
    """The same run, where it is the same one who asks."""
    looked, point_exists, got = threading.Barrier(2, timeout=10), world.failovers._point, []

    def both_have_looked(*asked):
        point_exists(*asked)
        looked.wait()

    def ask(run_id):
        with suppress(Refused):
            got.append(world.failovers.test(VM, "web", "latest", "anna", run_id=run_id).id)

    world.failovers._point = both_have_looked
    threads = [threading.Thread(target=ask, args=(run_id,)) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(got), len(set(got)), len(world.failovers.runs(VM))) == (begun, 1, 1)


def test_a_clean_up_leaves_another_test_than_the_one_meant_alone(world):
    test = world.failovers.test(VM, "web", "latest", "anna")
    with pytest.raises(Refused) as raised:
        world.failovers.cleanup(VM, "web", "drill", only="an-older-one")
    assert "another test failover" in str(raised.value)
    world.wait(lambda: world.failovers.run(test.id).state == "done")
    assert world.failovers.cleanup(VM, "web", "drill", only=test.id).kind == "cleanup"


def test_a_protection_is_changed_while_the_vm_is_away(world):
    planned(world)
    world.service.protect("web", ProtectRequest(rpo_s=2))
    status = world.service.status("web")[0]
    assert (status.host, status.rpo_target_s) == ("recovery", 2)
    with pytest.raises(Refused):
        world.service.unprotect("web")
    world.write(world.recovery)
    world.until_current(world.recovery)


def test_an_older_point_is_tested_while_the_newest_is_damaged(world):
    expected = []
    for _ in range(2):
        world.write(world.office)
        world.until_current(world.office)
        expected.append(world.disks(world.office))
    older, newest = world.vault.log(VM).points()[-2:]
    world.office.stop_agent()
    store, key = world.vault.store, keyspace.log(VM, newest.seq)
    data = bytearray(store.get(key))
    data[60] ^= 1
    store.delete(key)
    store.put(key, [bytes(data)])

    with pytest.raises(Damaged) as refused:
        world.service.start_test("web", "latest")
    assert key in str(refused.value)
    assert f"newest one that can be read is {older.id}" in str(refused.value)
    world.service.start_test("web", older.id)
    world.wait(lambda: world.service.test("web").done)
    assert not world.service.test("web").failed
    copy = next(vm_id for vm_id in world.recovery.hypervisor._vms if vm_id != VM)
    assert {name: bytes(data) for name, data in world.recovery.hypervisor.disks(copy).items()} == expected[0]
