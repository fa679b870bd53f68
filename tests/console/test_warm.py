"""Warm replicas from the policy to the failover: they follow, are lent and given back, and need no vault; never two
primaries, whoever is away."""

import pytest
from tests.console.chaos import VM, while_running
from tests.console.faults import bring_to_end
from tests.console.test_crash_matrix import a_world, ask, settle
from tests.console.test_taking_back import CancelAt

from leeward.console.views import FailoverRequest, LossRequest, ProtectRequest, RetryRequest
from leeward.domain.errors import BadInput, NotFound, Unavailable
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.procedures import Kind
from leeward.domain.runs import RunState, StepState
from leeward.domain.vm import Power

pytestmark = pytest.mark.usefixtures("quick")

# Real time, real processes: not for the fast suite, but for a few that fail first.
slow = pytest.mark.slow


@pytest.fixture
def world():
    with a_world() as made:
        warm(made)
        yield made


def warm(world):
    """Protected with a replica that holds the newest point."""
    world.service.protect("web", ProtectRequest(warm=True))
    until_warm(world)


def until_warm(world):
    def at_newest():
        replica = world.service.status("web")[0].replica
        return replica and replica.state == "warm" and replica.point == world.vault.log(VM).point("latest").id

    world.wait(at_newest)
    assert {n: bytes(d) for n, d in world.recovery.replicas.record(VM).disks.items()} == world.newest()


def lose_vault(world):
    for line in (world.office.line, world.recovery.line, world.console_line):
        line.cut = True


def find_vault(world):
    for line in (world.office.line, world.recovery.line, world.console_line):
        line.cut = False


def unplanned(world, **options):
    world.service.failover("web", Event.UNPLANNED, FailoverRequest(**options))


def last(world):
    return world.failovers.last(VM, "web")


def step(world, name):
    return next(record for record in last(world).steps if record.name == name)


def until_stalled(world):
    world.wait(lambda: last(world).state is RunState.STALLED)
    return last(world).failure


# --- the policy ---------------------------------------------------------------------------------------


def test_it_is_wished_told_and_removed_with_the_policy(world):
    shown = world.service.status("web")[0].replica
    assert (shown.host, shown.state, shown.lag_s) == ("recovery", "warm", 0.0)
    assert shown.bytes > 0
    world.write(world.office)
    world.until_current(world.office)
    until_warm(world)
    world.service.protect("web", ProtectRequest(rpo_s=2))
    assert world.service.status("web")[0].policy.warm == "recovery"  # only what is given changes
    with pytest.raises(BadInput, match="another host"):
        world.service.protect("web", ProtectRequest(warm="office"))
    with pytest.raises(NotFound):
        world.service.protect("web", ProtectRequest(warm="moon"))
    world.service.protect("web", ProtectRequest(warm=False))
    assert world.service.status("web")[0].replica is None
    world.wait(lambda: not world.recovery.replicas.records())
    warm(world)
    world.service.unprotect("web")
    world.wait(lambda: not world.recovery.replicas.records())


@slow
def test_a_vault_that_is_away_is_told_with_it_and_a_host_that_cannot_keep_one(world):
    lose_vault(world)
    replica = world.wait(lambda: (r := world.service.status("web")[0].replica).state == "behind" and r)
    assert "cut" in replica.reason
    find_vault(world)
    until_warm(world)
    world.recovery.follower._replicas.clear()
    world.wait(lambda: "storage folder" in world.service.status("web")[0].replica.reason)


@slow
def test_a_test_failover_leaves_it_alone(world):
    world.service.start_test("web", "latest")
    world.wait(lambda: world.service.test("web").done)
    assert world.recovery.replicas.whole(VM) is not None
    world.service.cleanup_test("web")


# --- with the vault -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.PLANNED, pytest.param(Kind.UNPLANNED, marks=slow)])
def test_a_failover_uses_it_and_it_comes_back_with_the_vm(world, kind):
    ask(world, kind)
    world.until(Phase.AWAY)
    assert step(world, "build").result["replica"] is True
    assert "disks of the warm replica" in step(world, "build").detail
    assert world.running() == ["recovery"]
    assert world.service.status("web")[0].replica is None  # there it runs
    settle(world)
    assert world.recovery.replicas.record(VM).taken
    ask(world, Kind.FAILBACK)
    world.until(Phase.BACK)
    ask(world, Kind.COMMIT)
    world.until(Phase.HOME)
    until_warm(world)
    world.must_be_sound()


@slow
def test_it_can_be_declined(world):
    unplanned(world, from_vault=True)
    world.until(Phase.AWAY)
    assert step(world, "build").result["replica"] is False
    world.wait(lambda: not world.recovery.replicas.records())  # the VM's own disks are there now
    world.must_be_sound()


@slow
@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.UNPLANNED])
def test_a_failover_that_is_taken_back_gives_it_back(world, kind):
    disks = world.disks(world.office)
    cancel = CancelAt(world, "start", StepState.DONE)
    ask(world, kind)
    world.wait(cancel.asked.is_set)
    assert bring_to_end(world).state is RunState.UNDONE
    assert world.disks(world.office) == disks
    world.hook = lambda *_: None
    until_warm(world)
    world.must_be_sound()


# --- without the vault ----------------------------------------------------------------------------------


def after_the_vault_is_back(world):
    find_vault(world)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")
    assert world.vault.log(VM).reign().info["host"] == "recovery"
    assert not world.recovery.agent._ledger.all_owed()


def test_a_source_that_was_stopped_needs_no_vault(world):
    until_warm(world)
    saved = world.newest()
    lose_vault(world)
    world.write(world.office)  # lost with the source, as what is in no vault is
    unplanned(world)
    world.until(Phase.AWAY)
    assert "the vault is away: the warm replica at recovery holds point" in step(world, "check").detail
    assert "the log is taken over as soon as it can be reached" in step(world, "epoch").detail
    assert (world.running(), world.watch.on["recovery"]) == (["recovery"], saved)
    world.write(world.recovery)
    state = world.service.status("web")[0]
    assert state.state == "error"
    assert "taken over first" in state.reason
    assert world.vault.log(VM).epoch() == 1
    after_the_vault_is_back(world)
    assert world.vault.log(VM).epoch() == 2
    world.must_be_sound()
    settle(world)
    ask(world, Kind.FAILBACK)
    world.until(Phase.BACK)
    world.must_be_sound()


def test_what_would_be_lost_is_told_by_the_replica_while_the_vault_is_away(world):
    until_warm(world)
    newest = world.vault.log(VM).point("latest").id
    told = world.service.loss("web", LossRequest())
    assert (told.point, told.lossless, told.note) == (newest, True, "")
    lose_vault(world)
    told = world.service.loss("web", LossRequest())
    # A planned failover needs the vault.
    assert (told.point, told.consistency, told.lossless) == (newest, None, False)
    assert "the warm replica at recovery" in told.note
    for wanted in (LossRequest(point="1"), LossRequest(from_vault=True)):
        with pytest.raises(Unavailable):  # as the failover would
            world.service.loss("web", wanted)


@slow
def test_a_source_that_cannot_be_reached_needs_the_operators_word(world):
    world.cuts["office"] = True
    lose_vault(world)
    unplanned(world)
    failure = until_stalled(world)
    assert "leeward failover retry web --without-vault" in failure
    assert world.running() == ["office"]
    world.office.hypervisor.force_off(VM)
    world.service.retry("web", RetryRequest(without_vault=True))
    world.until(Phase.AWAY)
    assert world.running() == ["recovery"]
    world.cuts.clear()  # the office comes back before the vault does
    world.wait(lambda: world.office.agent._ledger.standdown(VM, "office"))
    world.office.hypervisor.start(VM)
    world.wait(lambda: world.running() == ["recovery"])
    after_the_vault_is_back(world)
    world.must_be_sound(twice=world.watch.twice())


@slow
def test_the_word_can_be_given_at_once(world):
    world.office.stop_agent()
    world.office.hypervisor.force_off(VM)
    lose_vault(world)
    unplanned(world, without_vault=True)
    world.until(Phase.AWAY)
    world.recovery.stop_agent()  # what is owed outlives the agent
    world.recovery.start_agent()
    find_vault(world)
    world.office.start_agent()
    after_the_vault_is_back(world)
    world.must_be_sound()


@slow
def test_what_cannot_be_without_the_vault_is_refused(world):
    lose_vault(world)
    with pytest.raises(Unavailable):
        ask(world, Kind.PLANNED)
    with pytest.raises(Unavailable):
        unplanned(world, from_vault=True)
    with pytest.raises(BadInput, match="needs the vault"):
        world.service.failover("web", Event.PLANNED, FailoverRequest(without_vault=True))
    with pytest.raises(Unavailable):
        unplanned(world, point="app")
    assert (world.phase(), world.running()) == (Phase.HOME, ["office"])
    held = world.recovery.replicas.record(VM).point
    unplanned(world, point=held)
    world.until(Phase.AWAY)
    assert step(world, "build").result["point"] == held


def test_taken_back_while_the_vault_is_away_the_vm_runs_on_at_home(world):
    disks = world.disks(world.office)
    lose_vault(world)
    cancel = CancelAt(world, "start", StepState.DONE)
    unplanned(world)
    world.wait(cancel.asked.is_set)
    run = bring_to_end(world)
    assert run.state is RunState.UNDONE, world.told()
    assert (world.running(), world.disks(world.office)) == (["office"], disks)
    assert not world.recovery.agent._ledger.all_owed()
    assert world.office.agent._ledger.all_owed()  # whatever became of the taking, home closes it off
    world.hook = lambda *_: None
    find_vault(world)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")
    assert world.vault.log(VM).reign().info["host"] == "office"
    world.must_be_sound()


@slow
def test_it_is_not_taken_back_on_a_guess(world):
    """Neither the vault nor the recovery site can be reached: who has the log is not known, and the VM stays off."""
    lose_vault(world)
    world.hook = while_running("build", lambda: setattr(world.recovery, "local", None))
    unplanned(world)
    world.wait(lambda: world.recovery.local is None)
    world.hook = lambda *_: None
    world.service.cancel("web")
    failure = until_stalled(world)
    assert "once more" in failure
    assert world.running() == []
    world.recovery.stop_agent()
    world.recovery.start_agent()
    world.service.cancel("web")
    assert bring_to_end(world).state is RunState.UNDONE, world.told()
    assert world.running() == ["office"]
    find_vault(world)
    world.must_be_sound()


def test_whoever_was_quicker_in_the_vault_keeps_the_vm(world):
    """While our recovery site has no line to the vault another console moves the VM: ours gives way when it hears."""
    lose_vault(world)
    unplanned(world)
    world.until(Phase.AWAY)
    info = {"writer": "x", "host": "elsewhere", "reason": "failover", "run": "theirs"}
    world.vault.log(VM).take_epoch(1, info)
    find_vault(world)
    world.wait(lambda: world.running() == [])
    off = world.recovery.agent._ledger.standdown(VM, "recovery")
    assert "it runs at elsewhere" in off.reason
    assert world.recovery.hypervisor.vm(VM).power is Power.OFF
    assert world.learner.look() == ["web"]
    assert world.service.status("web")[0].host == "elsewhere"
