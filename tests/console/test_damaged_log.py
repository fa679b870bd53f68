"""The newest object of a VM's log is damaged when its site is lost: the VM comes up from an older point."""

import itertools
from dataclasses import replace

import pytest
from tests.console.chaos import VM
from tests.console.faults import Fault, bring_to_end
from tests.console.test_crash_matrix import WINDOW_S, a_world

from leeward.agent import status
from leeward.console.past_damage import go_on
from leeward.console.views import FailbackRequest, FailoverRequest, ProtectRequest
from leeward.domain.errors import Damaged, NotFound, Refused, Unavailable
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.runs import RunState, StepState
from leeward.vault import keyspace
from leeward.vault.check import check
from leeward.vault.format import parse_header

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(autouse=True)
def soon_late(monkeypatch):
    """A VM whose log cannot be written is in error as soon as one of its targets is missed, not after ten seconds."""
    monkeypatch.setattr(status, "LATE_FACTOR", 1.0)
    monkeypatch.setattr(status, "LATE_AT_LEAST_S", 0.5)


def filled(world, count=4):
    """→ points and what each of them is, oldest first."""
    found = {}
    for _ in range(count):
        world.write(world.office)
        world.until_current(world.office)
        found[world.vault.log(VM).point("latest").id] = world.disks(world.office)
    return found


def lose_home(world):
    world.office.stop_agent()
    world.office.hypervisor.force_off(VM)


def damage(world, seq, where="header"):
    """→ a deed that puts it back."""
    store, key = world.vault.store, keyspace.log(VM, int(seq))
    sound = store.get(key)
    hurt = bytearray(sound)
    hurt[60 if where == "header" else parse_header(sound, key).meta_start + 1] ^= 1
    store.delete(key)
    if where != "missing":
        store.put(key, [bytes(hurt[:100] if where == "short" else hurt)])

    def put_back():
        if where != "missing":
            store.delete(key)
        store.put(key, [sound])

    return put_back


def unplanned(world, point):
    return world.service.failover("web", Event.UNPLANNED, FailoverRequest(point=point))


def stalled(world):
    world.wait(lambda: world.failovers.last(VM, "web").state is RunState.STALLED)
    return world.failovers.last(VM, "web")


def comes_up(world, disks):
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]
    assert world.disks(world.recovery) == disks


def lives_on(world):
    """It is replicated from where it runs, and what it writes is there."""
    for _ in range(2):
        world.write(world.recovery)
        world.until_current(world.recovery)


def test_the_vm_comes_up_from_an_older_point_and_goes_home_again(world):
    points = filled(world)
    *_, older, newest = points
    lose_home(world)
    put_back = damage(world, newest)
    with pytest.raises(Damaged) as refused:
        unplanned(world, "latest")
    assert keyspace.log(VM, int(newest)) in str(refused.value)
    assert f"newest one that can be read is {older}" in str(refused.value)

    unplanned(world, older)
    comes_up(world, points[older])
    told = world.failovers.last(VM, "web").step("check").detail
    assert f"behind entry {older} the log cannot be read" in told
    assert "whether another site had taken the VM over there is not known" in told
    lives_on(world)
    assert world.vault.log(VM).reign().info["host"] == "recovery"
    listed = [point.id for point in world.vault.log(VM).points()]
    assert newest not in listed
    assert {trouble.key for trouble in check(world.store, keys=world.keys).troubles} == {
        keyspace.log(VM, int(newest))
    }

    # Home comes back: it finds its log closed and keeps its VM off.
    world.office.hypervisor.start(VM)
    world.office.start_agent()
    world.wait(lambda: world.running() == ["recovery"])
    put_back()
    with world.vault.log(VM).open_point(newest) as image:
        assert {n: image.disks[n].read(0, d.size) for n, d in image.disks.items()} == points[newest]
    lives_on(world)
    world.service.commit("web")
    world.until(Phase.SETTLED)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")
    world.comes_home()
    world.write(world.office)
    world.until_current(world.office)
    world.service.commit("web")
    world.until(Phase.HOME)
    assert check(world.store, keys=world.keys, deep=True).sound


@pytest.mark.parametrize("where", ["meta", "short", "missing"])
def test_what_cannot_be_read_may_lie_further_back(world, where):
    points = filled(world, 5)
    lose_home(world)
    names = list(points)
    damage(world, names[2], where)
    unplanned(world, "latest")
    run = stalled(world)
    assert run.step("check").state is StepState.FAILED
    assert keyspace.log(VM, int(names[2])) in run.failure
    assert f"begin anew with `--point {names[1]}`" in run.failure
    world.service.cancel("web")
    world.until(Phase.HOME)
    with pytest.raises(NotFound if where == "missing" else Damaged):
        unplanned(world, names[2])
    unplanned(world, names[3])  # it is there, and what it rests on is not
    assert f"`--point {names[1]}`" in stalled(world).failure
    world.service.cancel("web")
    world.until(Phase.HOME)
    unplanned(world, names[0])
    comes_up(world, points[names[0]])
    lives_on(world)


def test_a_portal_knows_the_vm_and_brings_it_up(world):
    points = filled(world)
    lose_home(world)
    *_, older, newest = points
    damage(world, newest)
    world.stop_console()
    assert world.start_portal() == ["web"]
    with pytest.raises(Damaged) as refused:
        unplanned(world, "latest")
    assert f"newest one that can be read is {older}" in str(refused.value)
    unplanned(world, older)
    comes_up(world, points[older])
    lives_on(world)


@pytest.mark.slow
def test_a_site_that_cannot_read_its_own_log_says_what_is_wrong_and_goes_on_when_that_is_put_back(world):
    points = filled(world)
    world.office.stop_agent()
    put_back = damage(world, list(points)[-1])
    world.write(world.office)
    world.office.start_agent()
    status = world.wait(lambda: next((one for one in world.service.status("web") if one.state == "error"), None))
    assert keyspace.log(VM, int(list(points)[-1])) in status.reason
    assert "leeward failover unplanned web --point" in status.reason
    assert "leeward protect web --past-damage" in status.reason
    put_back()
    world.until_current(world.office)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")


def test_a_planned_failover_does_not_speak_of_older_points(world):
    points = filled(world)
    damage(world, list(points)[1], "meta")
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    run = stalled(world)
    assert "Put that object back from a copy of the vault" in run.failure
    assert "--point" not in run.failure


def test_a_point_that_nobody_has_named_is_no_consent(world):
    points = filled(world)
    lose_home(world)
    *_, older, newest = points
    damage(world, newest)
    world.failovers.failover(VM, "web", Event.UNPLANNED, older, "anna", {})
    assert f"begin anew with `--point {older}`" in stalled(world).failure
    assert world.vault.log(VM).breach().tail == int(newest)


def test_a_vm_that_another_console_has_moved_is_not_taken_from_there(world):
    points = filled(world)
    lose_home(world)
    log = world.vault.log(VM)
    info = {"writer": "agent-third", "host": "third", "reason": "failover", "run": "another"}
    writer = log.take_epoch(log.epoch(), info)
    writer.begin_move().commit(keep_empty=True)
    damage(world, writer.state.seq)
    unplanned(world, list(points)[-1])
    assert "it runs at third: another console has moved it there" in stalled(world).failure


def test_who_had_the_log_may_be_all_that_cannot_be_read(world):
    points = filled(world)
    lose_home(world)
    log = world.vault.log(VM)
    log.open_writer(writer="agent-office", expect_epoch=log.epoch()).write_map()
    damage(world, 1)
    newest = list(points)[-1]
    unplanned(world, "latest")
    assert "who writes this log is not known" in stalled(world).failure
    assert f"begin anew with `--point {newest}`" in world.failovers.last(VM, "web").failure
    world.service.cancel("web")
    world.until(Phase.HOME)
    unplanned(world, newest)
    comes_up(world, points[newest])
    assert "who had the VM is not known" in world.failovers.last(VM, "web").step("check").detail
    lives_on(world)


def test_it_is_taken_back_before_the_log_was_and_after(world):
    points = filled(world)
    lose_home(world)
    *_, older, newest = points
    damage(world, newest)
    world.recovery.line.cut = True
    unplanned(world, older)
    assert stalled(world).failed_step == "epoch"
    world.office.start_agent()
    world.service.cancel("web")
    world.until(Phase.HOME)
    assert world.vault.log(VM).reign().info["reason"] == "undo"
    world.wait(lambda: world.running() == ["office"])
    world.write(world.office)
    world.until_current(world.office)  # by comparing every block

    world.recovery.line.cut = False
    lose_home(world)
    again = world.vault.log(VM).point("latest").id
    before = world.newest()
    damage(world, again)
    older = world.vault.log(VM).points()[-1].id
    world.recovery.hypervisor.start = lambda vm_id: (_ for _ in ()).throw(Refused("no memory is left"))
    unplanned(world, older)
    assert stalled(world).failed_step in ("start", "build")
    world.office.start_agent()
    world.service.cancel("web")
    world.until(Phase.HOME)
    world.wait(lambda: world.running() == ["office"])
    assert world.disks(world.office) == before
    world.write(world.office)
    world.until_current(world.office)


def test_what_is_damaged_after_the_check_keeps_nobody_from_taking_it_back(world):
    """Home has its disks whole: it needs no point, only somebody's word that no other site has the VM."""
    *_, wanted, newest = filled(world)
    disks = world.disks(world.office)
    lose_home(world)
    damage(world, newest)
    world.failovers.failover(VM, "web", Event.UNPLANNED, wanted, "anna", {"explicit": True, "hold": "epoch"})
    world.wait(lambda: world.failovers.last(VM, "web").step("check").state is StepState.DONE)
    damage(world, wanted)
    world.failovers.hold(world.failovers.last(VM, "web"), "")
    assert stalled(world).failed_step == "epoch"
    world.office.start_agent()
    world.service.cancel("web")
    world.wait(lambda: stalled(world).failed_step == "epoch-back")
    assert "when you are sure that no other site runs the VM, retry" in stalled(world).failure
    assert world.running() == []
    world.failovers.retry(VM, "web", {})
    world.until(Phase.HOME)
    assert world.running() == ["office"]
    assert world.disks(world.office) == disks
    world.write(world.office)
    world.until_current(world.office)


def test_a_vm_comes_home_from_a_dead_site_to_an_older_point(world):
    filled(world)
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    world.write(world.recovery)
    world.until_current(world.recovery)
    older, disks = world.vault.log(VM).point("latest").id, world.disks(world.recovery)
    world.write(world.recovery)
    world.until_current(world.recovery)
    newest = world.vault.log(VM).point("latest").id
    world.recovery.stop_agent()
    world.recovery.hypervisor.force_off(VM)
    damage(world, newest)
    world.service.failback("web", FailbackRequest(unplanned=True, point=older))
    world.until(Phase.BACK)
    assert world.running() == ["office"]
    assert world.disks(world.office) == disks
    world.write(world.office)
    world.until_current(world.office)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["near", "cut"])
def test_a_home_that_lives_is_stopped_and_adds_nothing_more(source):
    with a_world() as world:
        world.write(world.office)
        world.remember(world.office)
        *_, older, newest = [point.id for point in world.vault.log(VM).points()]
        damage(world, newest)
        del world.known_points[newest]
        if source == "cut":
            world.cuts["office"] = True
        world.write(world.office)  # its worker knows the log still, and goes on
        world.wait(lambda: world.vault.log(VM).breach().tail > int(newest))
        unplanned(world, older)
        world.until(Phase.AWAY)
        assert world.watch.on["recovery"] == world.known_points[older]
        world.mend_lines()
        world.wait(lambda: world.running() == ["recovery"])
        world.must_be_sound(twice=world.watch.twice() if source == "cut" else ())
        assert sum(world.watch.twice()) < WINDOW_S
        assert {one.key for one in check(world.store, keys=world.keys).troubles} == {keyspace.log(VM, int(newest))}


FAULTS = [
    ("console done", "check"),
    ("console begun", "epoch"),
    ("console done", "epoch"),
    ("recovery before", "epoch"),
    ("recovery after", "epoch"),
    ("cut recovery-vault", "epoch"),
    ("vault away", "epoch"),
    ("recovery after", "build"),
    ("vault away", "start"),
    ("recovery after", "plug"),
]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=" ".join)
def test_whatever_dies_meanwhile_it_comes_up(fault):
    with a_world() as world:
        world.write(world.office)
        world.remember(world.office)
        *_, older, newest = [point.id for point in world.vault.log(VM).points()]
        disks = world.known_points[older]
        lose_home(world)
        del world.known_points[newest]
        damage(world, newest)
        armed = Fault(world, *fault)
        unplanned(world, older)
        armed.struck.wait(10)
        world.mend_lines()
        if world.recovery.local is None:
            world.recovery.stop_agent()
            world.recovery.start_agent()
        if world.parts.dead:
            world.restart_console()
        bring_to_end(world)
        assert world.phase() is Phase.AWAY
        assert world.watch.on["recovery"] == disks
        world.office.start_agent()
        world.must_be_sound()


# --- going on at home, on somebody's word ------------------------------------------------------------------


def past_damage(world):
    return world.service.protect("web", ProtectRequest(past_damage=True))


def in_error(world):
    return world.wait(lambda: next((one for one in world.service.status("web") if one.state == "error"), None))


def goes_on(world, *damaged):
    """It is replicated from home, and nothing but what was damaged is wrong."""
    for _ in range(2):
        world.write(world.office)
        world.until_current(world.office)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")
    assert world.running() == ["office"]
    found = {trouble.key for trouble in check(world.store, keys=world.keys, deep=True).troubles}
    assert found == {keyspace.log(VM, int(seq)) for seq in damaged}


@pytest.mark.parametrize("where", ["header", "meta", "short"])
def test_a_restarted_agent_goes_on_behind_damage_when_somebody_says_so(world, where):
    points = filled(world)
    *_, older, newest = points
    world.office.stop_agent()
    put_back = damage(world, newest, where)
    world.write(world.office)
    world.office.start_agent()
    in_error(world)
    past_damage(world)
    goes_on(world, newest)
    reign = world.vault.log(VM).reign()
    assert (reign.info["host"], reign.info["reason"], reign.passes) == ("office", "past-damage", 1)
    assert any(event["what"] == "goes on past damage" for event in world.service.events(10))
    put_back()
    goes_on(world)
    for point in (older, newest):
        with world.vault.log(VM).open_point(point) as image:
            assert {n: image.disks[n].read(0, d.size) for n, d in image.disks.items()} == points[point]
    # And it moves as ever.
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]


def test_an_agent_that_never_stopped_goes_on_behind_damage_in_the_middle(world):
    points = filled(world)
    *readable, newest = points
    damage(world, newest)
    world.write(world.office)
    world.wait(lambda: world.vault.log(VM).breach().tail > int(newest))
    past_damage(world)
    goes_on(world, newest)
    listed = {point.id for point in world.vault.log(VM).points()}
    assert set(readable) <= listed
    assert newest not in listed


def test_a_vm_that_has_settled_away_goes_on_there(world):
    filled(world)
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    world.service.commit("web")
    world.until(Phase.SETTLED)
    lives_on(world)
    newest = world.vault.log(VM).point("latest").id
    world.recovery.stop_agent()
    damage(world, newest)
    world.recovery.start_agent()
    in_error(world)
    past_damage(world)
    lives_on(world)
    assert world.running() == ["recovery"]
    assert world.vault.log(VM).reign().info["host"] == "recovery"
    assert world.desk.checks.moved_by_another(VM) == ""
    world.comes_home()
    world.service.commit("web")
    world.until(Phase.HOME)


def test_an_answer_that_was_lost_is_found_again(world):
    *_, newest = filled(world)
    world.office.stop_agent()
    damage(world, newest)
    world.office.start_agent()
    in_error(world)
    epoch, _ = go_on(world.vault.log(VM), world.fleet, world.failovers.life(VM, "web"), "office")
    past_damage(world)
    assert world.vault.log(VM).epoch() == world.database.wish(VM).claim == epoch
    goes_on(world, newest)
    with pytest.raises(Refused, match="can be read to its end"):
        past_damage(world)


def test_it_turns_no_failover_back_that_came_meanwhile(world):
    filled(world)
    claim = world.database.wish(VM).claim
    assert not world.database.follow(VM, "recovery", claim + 5)
    assert world.database.follow(VM, "office", claim + 5)
    assert not world.database.follow(VM, "office", claim + 4)
    assert (world.database.wish(VM).host, world.database.wish(VM).claim) == ("office", claim + 5)


def test_nothing_that_can_be_read_is_passed_over(world):
    filled(world)
    epoch = world.vault.log(VM).epoch()
    with pytest.raises(Refused, match="can be read to its end"):
        past_damage(world)
    assert world.vault.log(VM).epoch() == epoch


def test_of_a_vm_that_was_not_protected_any_more(world):
    *_, newest = filled(world)
    world.service.unprotect("web")
    damage(world, newest)
    with pytest.raises(Damaged):
        world.service.protect("web", ProtectRequest(rpo_s=1))
    world.service.protect("web", ProtectRequest(rpo_s=1, past_damage=True))
    goes_on(world, newest)


def test_the_only_point_is_damaged(world):
    world.until_current(world.office)
    world.office.stop_agent()
    damaged = [info.key for info in world.store.scan(f"vm/{VM}/log/")][1:]
    for key in damaged:
        damage(world, keyspace.number_of(key))
    world.office.start_agent()
    in_error(world)
    past_damage(world)
    goes_on(world, *map(keyspace.number_of, damaged))


def test_not_while_it_is_on_its_way_nor_where_its_agent_is_silent(world):
    *_, older, newest = filled(world)
    world.office.stop_agent()
    damage(world, newest)
    with pytest.raises(Unavailable, match="agent of office does not answer"):
        past_damage(world)
    lose_home(world)
    unplanned(world, older)
    world.until(Phase.AWAY)
    with pytest.raises(Refused, match="recovery"):
        past_damage(world)
    assert world.running() == ["recovery"]
    # Nor does a console that takes it to be at home overlook what its own agents tell it.
    life = world.database.lives.get(VM)
    world.database.lives.put(replace(life, phase=Phase.HOME))
    world.database.move(VM, "office", 0)
    world.office.start_agent()
    world.wait(lambda: any(vm.host == "office" for vm in world.fleet.view().vms))
    with pytest.raises(Refused, match=r"it stays off here|has a copy of it from a failover"):
        past_damage(world)
    assert world.running() == ["recovery"]


def test_not_of_a_vm_that_is_known_to_be_elsewhere(world):
    filled(world)
    log = world.vault.log(VM)
    world.office.stop_agent()
    info = {"writer": "agent-third", "host": "third", "reason": "failover", "run": "another"}
    writer = log.take_epoch(log.epoch(), info)
    writer.begin_move().commit(keep_empty=True)
    damage(world, writer.state.seq)
    with pytest.raises(Refused, match="it runs at third"):
        past_damage(world)


def test_who_has_it_against_that_word_is_stopped(world):
    """The recovery site took it over in the very entry that cannot be read, and another console thinks it at home."""
    filled(world)
    lose_home(world)
    before = world.vault.log(VM).epoch()
    unplanned(world, "latest")
    world.until(Phase.AWAY)
    world.office.start_agent()
    log = world.vault.log(VM)
    taken = log.epoch()
    assert taken == before + 1
    damage(world, next(seq for seq in itertools.count(1) if header_of(world, seq).identity.epoch == taken))
    life = replace(world.failovers.life(VM, "web"), phase=Phase.HOME)
    epoch, _ = go_on(world.vault.log(VM), world.fleet, life, "office")
    assert epoch > taken
    world.wait(lambda: world.running() == [])
    assert log.last_move().info["host"] == "office"


def header_of(world, seq):
    key = keyspace.log(VM, seq)
    return parse_header(world.store.get(key), key)
