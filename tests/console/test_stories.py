"""Consoles that race, are restored from a backup or lose their agents' memory; requests in the middle of a run."""

import json
import shutil
import time

import pytest
from tests.console.chaos import VM, ConsoleParts
from tests.console.faults import bring_to_end
from tests.console.test_crash_matrix import a_world, ask, settle

from leeward.console.views import FailbackRequest, FailoverRequest, ProtectRequest, RetryRequest
from leeward.domain.errors import Refused
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.procedures import Kind, steps
from leeward.domain.runs import RunState, StepState

# Real time, real processes: not for the fast suite.
pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]


def at_step(world, step, deed, state=StepState.RUNNING):
    """Do something, once, at the instant at which a step's record gets a state; in the console's own thread."""
    done = []

    def on_run(before, after, written):
        record = next((record for record in after.steps if record.name == step), None)
        if written and not done and record is not None and record.state is state:
            done.append(True)
            deed()

    world.hook = on_run
    return done


def reinstalled(place):
    """The agent's folder is gone, and with it all that it knew; its host is as it was."""
    place.stop_agent()
    shutil.rmtree(place.folder)
    place.folder.mkdir()
    place.start_agent()


def test_two_consoles_on_one_database_walk_the_same_runs():
    with a_world() as world:
        links = world.make_links([world.office, world.recovery], "leeward.db")
        others = []
        at_step(world, "check", lambda: others.append(ConsoleParts(world, links, "leeward.db")))
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        other = others[0]
        assert other.failovers.last(VM, "web").state is RunState.DONE
        world.wait(lambda: not other.engine.walking())
        world.must_be_sound()
        # Both are asked at once: one begins, the other refuses.
        settle(world)
        answers = []
        for console in (world.parts, other):
            try:
                answers.append(console.service.failback("web", FailbackRequest()))
            except Refused as refused:
                answers.append(refused)
        assert [isinstance(answer, Refused) for answer in answers] == [False, True]
        world.until(Phase.BACK)
        world.wait(lambda: not other.engine.walking())
        other.stop()
        world.must_be_sound()


def test_a_portal_and_the_office_console_fail_the_same_vm_over_at_once():
    with a_world() as world:
        office_console = world.parts
        world.start_portal()
        portal = world.parts
        world._use(office_console)
        # The portal sees no office: it would take the log over; the office console is just about to do the same.
        at_step(
            world,
            "last-cycle",
            lambda: portal.service.failover("web", Event.UNPLANNED, FailoverRequest()),
            StepState.DONE,
        )
        ask(world, Kind.PLANNED)
        world.wait(lambda: world.failovers.last(VM, "web").state in (RunState.DONE, RunState.STALLED), 30)
        run = world.failovers.last(VM, "web")
        portal_run = portal.failovers.last(VM, "web")
        world.wait(lambda: portal.failovers.last(VM, "web").state in (RunState.DONE, RunState.STALLED), 30)
        states = {world.failovers.last(VM, "web").state, portal.failovers.last(VM, "web").state}
        assert states == {RunState.DONE, RunState.STALLED}, (run, portal_run)
        # Whoever lost finds out that the other one has it, and its own run ends.
        for console in (world.parts, portal):
            console.learner.look()
        world.wait(lambda: world.running() == ["recovery"])
        assert world.watch.twice() == []
        assert {console.failovers.life(VM, "web").phase for console in (world.parts, portal)} == {Phase.AWAY}
        assert {console.failovers.last(VM, "web").over for console in (world.parts, portal)} == {True}
        portal.stop()


def test_a_console_restored_from_an_older_database_learns_before_it_is_heard():
    with a_world() as world:
        world.stop_console()
        backup = world.folder / "backup.db"
        shutil.copy(world.folder / "leeward.db", backup)
        world.start_console()
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        settle(world)
        world.write(world.recovery)
        world.remember(world.recovery)
        world.stop_console()
        for leftover in world.folder.glob("leeward.db*"):
            leftover.unlink()
        shutil.copy(backup, world.folder / "leeward.db")
        world.start_console()
        assert world.phase() is Phase.HOME  # as far as it knows
        time.sleep(0.1)
        assert world.running() == ["recovery"]
        ask(world, Kind.UNPLANNED)
        world.until(Phase.FAILOVER_STALLED)  # what it would overwrite is seen in time
        assert world.running() == ["recovery"]
        world.learner.look()
        world.wait(lambda: world.phase() in (Phase.AWAY, Phase.SETTLED))
        world.service.protect("web", ProtectRequest(rpo_s=3))
        world.wait(lambda: world.recovery.agent._ledger.desired.protections[0].policy.rpo_s == 3)
        world.write(world.recovery)
        world.remember(world.recovery)
        assert world.running() == ["recovery"]
        assert world.watch.twice() == []


@pytest.mark.parametrize("step", ["epoch", "build"])
def test_a_recovery_agent_that_lost_its_memory_goes_on(step):
    with a_world() as world:
        died = at_step(world, step, lambda: setattr(world.recovery, "local", None), StepState.DONE)
        ask(world, Kind.PLANNED)
        world.wait(lambda: died)
        reinstalled(world.recovery)
        bring_to_end(world)
        assert world.running() == ["recovery"]
        world.must_be_sound()


def test_an_office_agent_that_lost_its_memory_does_not_bring_its_vm_back():
    with a_world() as world:
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        reinstalled(world.office)
        world.wait(lambda: world.office.agent._ledger.standdown(VM, "office"))
        world.office.hypervisor.start(VM)  # by hand: as good as it gets is to stop it at once
        world.wait(lambda: world.running() == ["recovery"])
        assert all(window < 1 for window in world.watch.twice())
        world.watch.windows.clear()
        world.must_be_sound()


def test_a_recovery_agent_that_protects_anew_still_tells_the_office_that_its_time_is_over():
    """The newest epoch is then one that moves nothing; the one before it does."""
    with a_world() as world:
        world.cuts["office"] = True
        world.office.line.cut = True
        ask(world, Kind.UNPLANNED)
        world.until(Phase.AWAY)
        reinstalled(world.recovery)
        world.wait(lambda: world.vault.log(VM).reign().reason == "protect")
        assert sorted(world.running()) == ["office", "recovery"]  # neither console nor vault reach the office
        office_console = world.parts
        world.start_portal()  # a console that knows nothing but the vault is not fooled either
        assert (world.phase(), world.database.desired().protections[0].host) == (Phase.AWAY, "recovery")
        world.stop_console()
        world._use(office_console)
        world.office.line.cut = False
        world.wait(lambda: world.running() == ["recovery"])
        excused = world.watch.twice()
        world.mend()
        world.must_be_sound(twice=excused)


@pytest.mark.parametrize("paused", [False, True])
def test_a_cut_off_source_that_reaches_the_vault_stands_down_even_when_paused(paused):
    with a_world() as world:
        if paused:
            world.service.set_paused("web", True)
            world.wait(lambda: world.office.agent._ledger.desired.protections[0].paused)
        world.cuts["office"] = True
        ask(world, Kind.UNPLANNED)
        world.until(Phase.AWAY)
        world.wait(lambda: world.running() == ["recovery"])
        assert all(window < 1.5 for window in world.watch.twice())


def test_a_policy_changed_at_every_step_neither_moves_nor_loses_the_protection():
    with a_world() as world:
        for number, step in enumerate([*steps(Kind.PLANNED)]):
            at_step(
                world, step.name, lambda number=number: world.service.protect("web", ProtectRequest(rpo_s=2 + number))
            )
            ask(world, Kind.PLANNED)
            world.until(Phase.AWAY)
            world.must_be_sound()
            wish = world.database.desired().protections[0]
            assert (wish.host, wish.policy.rpo_s) == ("recovery", 2 + number)
            with pytest.raises(Refused):
                world.service.unprotect("web")
            settle(world)
            ask(world, Kind.FAILBACK)
            world.until(Phase.BACK)
            ask(world, Kind.FINISH)
            world.until(Phase.HOME)


def test_a_vm_is_protected_anew_where_it_runs():
    with a_world() as world:
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        settle(world)
        world.service.unprotect("web")
        with pytest.raises(Refused):
            ask(world, Kind.FAILBACK)
        world.wait(lambda: any((vm.id, vm.host) == (VM, "recovery") for vm in world.fleet.view().vms))
        world.service.protect("web", ProtectRequest(rpo_s=1, app_interval_s=0))
        assert world.database.desired().protections[0].host == "recovery"
        world.wait(lambda: world.service.status("web")[0].state == "enabled")
        ask(world, Kind.FAILBACK)
        world.until(Phase.BACK)
        world.must_be_sound()


def test_a_home_that_answers_and_cannot_stop_its_vm_is_the_operators_decision(monkeypatch):
    with a_world() as world:
        real = world.office.hypervisor.force_off
        monkeypatch.setattr(world.office.hypervisor, "force_off", lambda vm_id: None)
        monkeypatch.setattr("leeward.agent.tasks._OFF_TIMEOUT_S", 0.2)
        ask(world, Kind.UNPLANNED)
        world.until(Phase.FAILOVER_STALLED)
        assert world.running() == ["office"]
        assert "--force" in world.service.last_run("web").failure
        monkeypatch.setattr(world.office.hypervisor, "force_off", real)
        world.wait(lambda: world.running() == [])  # its guard went on trying
        world.service.retry("web", RetryRequest(force=True))
        world.until(Phase.AWAY)
        world.must_be_sound()


def test_a_test_copy_does_not_hold_up_a_failover_and_is_cleaned_up_afterwards():
    with a_world() as world:
        gate = []

        def hold(place, job, when):
            if when == "before" and job.arguments.get("purpose") == "test" and job.kind == "copy-watch":
                world.wait(lambda: gate)

        world.tasks_hook = hold
        world.service.start_test("web", "latest")
        world.wait(lambda: any(run.kind is Kind.TEST and run.begun == 3 for run in world.unfinished()))
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        assert world.running() == ["recovery"]
        gate.append(True)
        world.wait(lambda: world.service.test("web").done)
        world.service.cleanup_test("web")
        world.must_be_sound()
        assert [vm.id for vm in world.recovery.hypervisor.vms()] == [VM]


def test_a_test_that_waits_for_a_dead_host_is_taken_back():
    with a_world() as world:
        begun = at_step(world, "build", lambda: setattr(world.recovery, "local", None))
        world.service.start_test("web", "latest")
        world.wait(lambda: begun)
        with pytest.raises(Refused) as refused:
            world.service.start_test("web", "latest")
        assert "cleanup web" in refused.value.hint
        world.failovers.cleanup(VM, "web", "me")
        world.mend()
        world.wait(lambda: not world.unfinished())
        assert world.recovery.copies.reports() == []
        world.service.start_test("web", "latest")
        world.wait(lambda: world.service.test("web").done)
        world.service.cleanup_test("web")
        world.must_be_sound()


def test_autostart_comes_back_with_the_vm():
    with a_world() as world:
        world.office.hypervisor.set_autostart(VM, True)
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        assert world.office.hypervisor.autostart(VM) is False
        settle(world)
        ask(world, Kind.FAILBACK)
        world.until(Phase.BACK)
        assert world.office.hypervisor.autostart(VM) is True


def test_a_damaged_job_file_is_given_again():
    with a_world() as world:
        died = []

        def hook(place, job, when):
            if when == "before" and job.id.endswith("/do/build") and not died:
                died.append(True)
                place.die()

        world.tasks_hook = hook
        ask(world, Kind.PLANNED)
        world.wait(lambda: died)
        for path in (world.recovery.folder / "jobs").glob("*.json"):
            path.write_text(json.dumps({"half": "a file"}))
        world.mend()
        world.until(Phase.AWAY)
        world.must_be_sound()
