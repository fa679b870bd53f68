"""The recovery site dies under a VM that runs there: it comes up at home with what the vault has, and when that site
comes back it is kept off there."""

import pytest
from tests.console.chaos import VM, while_running
from tests.console.faults import FAULTS, Fault, bring_to_end
from tests.console.test_crash_matrix import WINDOW_S, a_world, ask, in_threads, settle
from tests.console.test_taking_back import UNDO_FAULTS, CancelAt
from tests.console.test_warm import lose_vault, unplanned, warm

from leeward.console.views import FailbackRequest
from leeward.domain.errors import BadInput, Refused
from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind, steps
from leeward.domain.runs import RunState, StepState

pytestmark = pytest.mark.usefixtures("quick")

STEPS = [step.name for step in steps(Kind.UNPLANNED_FAILBACK)]


def away(world, *, committed=True, kind=Kind.PLANNED):
    """→ what the vault has of the VM, which runs at the recovery site."""
    ask(world, kind)
    world.until(Phase.AWAY)
    if committed:
        settle(world)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")
    world.write(world.recovery)
    world.remember(world.recovery)
    return world.newest()


def die(world):
    world.recovery.stop_agent()
    world.recovery.hypervisor.force_off(VM)


def go_home(world, **how):
    world.service.failback("web", FailbackRequest(unplanned=True, **how))


def detail(world, name):
    return next(record.detail for record in world.failovers.last(VM, "web").steps if record.name == name)


def kept_off(world):
    """The recovery site's VM is started by somebody, and does not stay on."""
    world.recovery.hypervisor.start(VM)
    world.wait(lambda: world.running() == ["office"])


# Real time, real processes: not for the fast suite, but for the two that fail first.
slow = pytest.mark.slow


@pytest.mark.parametrize("committed", [True, pytest.param(False, marks=slow)])
def test_it_comes_home_with_the_newest_point_and_stays_off_over_there(committed):
    with a_world() as world:
        saved = away(world, committed=committed)
        die(world)
        world.vm(world.recovery).write("vda", 0, b"in no vault")
        go_home(world)
        world.until(Phase.BACK)
        assert world.watch.on["office"] == saved
        point = world.failovers.last(VM, "web").result("epoch-home")["point"]
        assert f"what is newer than point {point} of" in detail(world, "check-home")
        assert "of its own" not in detail(world, "check-home")
        assert "recovery cannot be reached" in detail(world, "fence-away")
        world.recovery.start_agent()
        kept_off(world)
        world.must_be_sound(twice=world.watch.twice())
        world.service.commit("web")
        world.until(Phase.HOME)
        world.must_be_sound(twice=world.watch.twice())
        assert world.recovery.copies.reports() == []


@slow
def test_a_site_that_is_gone_for_good_keeps_nothing_from_ending():
    with a_world() as world:
        away(world)
        die(world)
        go_home(world)
        world.until(Phase.BACK)
        world.service.commit("web")
        world.until(Phase.HOME)
        assert "it removes what is left there when it is back" in detail(world, "discard-away")
        world.write(world.office)
        world.until_current(world.office)
        world.recovery.start_agent()
        world.wait(lambda: world.recovery.copies.reports() == [])
        assert [vm.id for vm in world.recovery.hypervisor.vms()] == []
        world.must_be_sound()
        # And it can be gone to again.
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        assert world.running() == ["recovery"]


def test_a_site_that_was_cut_off_through_the_commit_stops_its_vm_although_it_does_not_reach_the_vault_yet():
    with a_world() as world:
        away(world)
        world.cuts["recovery"] = world.recovery.line.cut = True  # it lives, and hears of nobody
        go_home(world)
        world.until(Phase.BACK)
        world.service.commit("web")
        world.until(Phase.HOME)
        assert sorted(world.running()) == ["office", "recovery"]  # nobody can help that
        world.restart_console()
        world.cuts.clear()
        world.wait(lambda: world.running() == ["office"])
        world.wait(lambda: any("waiting for the vault" in job.progress for job in world.recovery.jobs.jobs()))
        kept_off(world)
        windows = world.watch.twice()
        world.mend()
        world.wait(lambda: world.recovery.copies.reports() == [])
        # Told once more when the copy is gone: there is nothing left to keep off.
        world.database.count()
        world.desk.spread()
        world.must_be_sound(twice=windows)
        assert world.desk.desired().standdowns == ()


@slow
def test_while_its_removal_waits_for_home_a_site_that_is_heard_of_again_stops_its_vm():
    with a_world() as world:
        away(world)
        world.cuts["recovery"] = world.recovery.line.cut = True
        go_home(world)
        world.until(Phase.BACK)
        world.cuts["office"] = True
        world.service.commit("web")
        world.until(Phase.FINISHING)
        world.cuts["recovery"] = False
        world.wait(lambda: world.running() == ["office"])
        windows = world.watch.twice()
        world.mend()
        bring_to_end(world)
        world.must_be_sound(twice=windows)


@slow
def test_what_the_recovery_site_never_brought_into_the_vault_is_told_as_lost():
    with a_world() as world:
        saved = world.newest()
        world.hook = lambda b, a, w: (
            setattr(world.recovery.line, "cut", True)
            if a.result("start") == {} and any(r.name == "start" and r.state is StepState.DONE for r in a.steps)
            else None
        )
        ask(world, Kind.UNPLANNED)
        world.until(Phase.AWAY)
        world.hook = lambda *_: None
        die(world)
        world.recovery.line.cut = False
        go_home(world)
        world.until(Phase.BACK)
        assert "recovery has brought no recovery point of its own into the vault" in detail(world, "check-home")
        assert world.watch.on["office"] == saved
        world.mend()
        world.must_be_sound()


@slow
def test_a_site_that_lives_is_stopped_first_and_one_that_is_cut_off_finds_out():
    with a_world() as world:
        away(world)
        go_home(world)
        world.until(Phase.BACK)
        assert "was running and has been stopped" in detail(world, "fence-away")
        world.must_be_sound()
    with a_world() as world:
        away(world)
        world.cuts["recovery"] = True  # it lives, and reaches the vault
        go_home(world)
        world.until(Phase.BACK)
        windows = world.watch.twice()
        assert all(window < WINDOW_S for window in windows), windows
        world.wait(lambda: world.running() == ["office"])
        world.mend()
        world.must_be_sound(twice=windows)


def test_what_makes_no_sense_is_refused():
    with a_world() as world:
        with pytest.raises(Refused):
            go_home(world)
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        with pytest.raises(Refused) as refused:  # asked for twice
            ask(world, Kind.UNPLANNED)
        assert "--unplanned" in refused.value.hint
        with pytest.raises(BadInput):
            go_home(world, to="recovery")
        settle(world)
        with pytest.raises(BadInput, match="newest data"):
            world.service.failback("web", FailbackRequest(point="1"))


@slow
@pytest.mark.parametrize("when", ["coming up", "committing", "failing back", "taken back"])
def test_it_takes_over_from_what_waits_for_the_dead_site(when):
    with a_world() as world:
        if when == "coming up":
            world.hook = while_running("boot", lambda: die_soon(world))
            ask(world, Kind.PLANNED)
            world.wait(lambda: world.recovery.local is None)
        else:
            away(world, committed=when != "committing")
            die(world)
            if when == "committing":
                world.service.commit("web")
                world.until(Phase.COMMITTING)
            else:
                # It answered a moment ago, or the run would not have come as far as that.
                world.recovery.start_agent()
                world.recovery.hypervisor.start(VM)
                world.recovery.copies.plug(VM, "failover")
                world.wait(lambda: world.service.status("web")[0].state == "enabled")
                world.hook = while_running("stop-away", lambda: die_soon(world))
                ask(world, Kind.FAILBACK)
                world.wait(lambda: world.recovery.local is None)
                if when == "taken back":
                    world.service.cancel("web")
                    world.until(Phase.FAILBACK_UNDOING)
        world.hook = lambda *_: None
        go_home(world)
        world.until(Phase.BACK)
        assert world.running() == ["office"]
        world.mend()
        world.must_be_sound()


@slow
def test_taken_back_at_once_the_vm_is_protected_where_it_runs_also_if_the_failover_had_not_come_to_that():
    with a_world() as world:
        world.hook = while_running("boot", lambda: setattr(world.recovery, "local", None))
        ask(world, Kind.PLANNED)
        world.wait(lambda: world.recovery.local is None)
        world.hook = lambda *_: None
        cancel = CancelAt(world, "check-home", StepState.RUNNING)
        go_home(world)
        world.wait(cancel.asked.is_set)
        world.mend()
        bring_to_end(world)
        assert (world.phase(), world.running()) == (Phase.SETTLED, ["recovery"])
        world.wait(lambda: world.service.status("web")[0].state == "enabled")
        world.must_be_sound()


def plugged_in_after_all(step, fault=None):
    """An unplanned failback that took over from a failover which was about to plug the VM in is cancelled."""
    with a_world() as world:
        world.hook = while_running("plug", lambda: setattr(world.recovery, "local", None))
        ask(world, Kind.UNPLANNED)
        world.wait(lambda: world.recovery.local is None)
        world.hook = lambda *_: None
        assert world.running() == []
        armed = Fault(world, *fault, undo=True) if fault else None
        cancel = CancelAt(world, step, StepState.RUNNING, armed)
        go_home(world)
        world.wait(cancel.asked.is_set)
        world.mend()
        if armed:
            armed.strike_and_mend()
        bring_to_end(world)
        assert (world.phase(), world.running()) == (Phase.SETTLED, ["recovery"])
        assert "boot" in world.recovery.copies._copies[VM, "failover"].done  # from then on it is hydrated
        world.wait(lambda: world.service.status("web")[0].state == "enabled")
        world.must_be_sound()


@pytest.mark.parametrize("step", ["check-home", "prepare"])
def test_taken_back_the_vm_is_plugged_in_where_it_runs_also_if_the_failover_had_not_come_to_that(step):
    plugged_in_after_all(step)


@slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "fault", [fault for fault in UNDO_FAULTS if fault != "office after"]
)  # home has no task in it
def test_the_same_with_faults_while_it_is_taken_back(fault):
    cases = [("check-home", (fault, name)) for name in ("plug-away", "protect-away", "boot-away")]
    # A console's own step is no task of an agent's.
    in_threads(plugged_in_after_all, [case for case in cases if "after" not in fault or case[1][1] != "protect-away"])


def die_soon(world):
    """In the console's thread: nothing is waited for."""
    if world.recovery.local is not None:
        world.recovery.local = None
        world.recovery.hypervisor.force_off(VM)


@slow
def test_before_the_vm_is_plugged_in_over_there_a_cancel_is_the_way():
    with a_world() as world:
        world.hook = while_running("build", lambda: setattr(world.recovery, "local", None))
        ask(world, Kind.PLANNED)
        world.wait(lambda: world.recovery.local is None)
        with pytest.raises(Refused) as refused:
            go_home(world)
        assert "leeward failover cancel web" in refused.value.hint
        world.hook = lambda *_: None
        world.service.cancel("web")
        world.wait(lambda: world.running() == ["office"])
        world.mend()
        bring_to_end(world)


@slow
def test_after_a_failover_without_the_vault_what_was_owed_is_void():
    with a_world() as world:
        warm(world)
        lose_vault(world)
        unplanned(world)
        world.until(Phase.AWAY)
        die(world)
        world.mend_lines()
        go_home(world)
        world.until(Phase.BACK)
        assert "of its own" in detail(world, "check-home")
        world.mend()
        kept_off(world)
        assert world.vault.log(VM).reign().info["host"] == "office"
        world.must_be_sound(twice=world.watch.twice())


def while_coming_up(kind, step, when):
    """The console loses recovery while the VM comes up there, where nobody wishes it to be replicated yet. when:
    before or after the agent's task; in the latter case it is live there, or has just become so."""
    with a_world() as world:
        if when == "before":
            world.hook = while_running(step, lambda: world.cuts.update(recovery=True))
        world.tasks_hook = lambda place, job, then: (
            world.cuts.update(recovery=True) if (then, job.id.split("/")[-1]) == (when, step) else None
        )
        ask(world, kind)
        world.wait(lambda: world.cuts.get("recovery"))
        live = ["recovery"] if (step, when) != ("plug", "before") else []
        world.wait(lambda: world.running() == live)
        assert world.recovery.agent.report().protections == ()
        world.hook = world.tasks_hook = lambda *_: None
        go_home(world)
        world.until(Phase.BACK)
        windows = world.watch.twice()
        assert all(window < WINDOW_S for window in windows), windows
        assert world.running() == ["office"]
        kept_off(world)
        world.mend()
        world.service.commit("web")
        bring_to_end(world)
        world.must_be_sound(twice=world.watch.twice())
        # And what has been removed is not looked after for ever.
        world.wait(lambda: world.recovery.agent._ledger.reigns() == {})


COMING_UP = [(step, when) for step in ("plug", "boot") for when in ("before", "after")]


def test_a_site_that_is_lost_while_the_vm_comes_up_there_finds_out_although_nothing_is_replicated_from_it():
    while_coming_up(Kind.UNPLANNED, "boot", "before")


@slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.UNPLANNED])
def test_a_site_that_is_lost_at_every_instant_in_which_the_vm_comes_up_there(kind):
    in_threads(while_coming_up, [(kind, *cell) for cell in COMING_UP])


@slow
def test_home_that_is_lost_while_the_vm_comes_up_there_finds_out_as_well():
    with a_world() as world:
        away(world)
        world.tasks_hook = lambda place, job, then: (
            world.cuts.update(office=True) if (then, job.id.split("/")[-1]) == ("after", "start-home") else None
        )
        ask(world, Kind.FAILBACK)
        world.wait(lambda: world.cuts.get("office") and world.running() == ["office"])
        assert [wish.host for wish in world.office.agent._ledger.desired.protections] == []
        # Somebody who can reach the vault and not home, as a portal.
        log = world.vault.log(VM)
        log.take_epoch(log.epoch(), {"writer": "x", "host": "recovery", "reason": "failover", "run": "another"})
        world.wait(lambda: world.running() == [])


def returned(source, fault):
    """source: dead; cut (it lives and reaches the vault); near (it lives and answers)."""
    with a_world() as world:
        saved = away(world)
        if source == "dead":
            die(world)
        elif source == "cut":
            world.cuts["recovery"] = True
        armed = Fault(world, *fault)
        go_home(world)
        armed.strike_and_mend()
        assert world.phase() is Phase.BACK
        assert world.watch.on["office"] == saved
        world.wait(lambda: world.running() == ["office"])
        excused = source == "cut" or "console-recovery" in fault[0] or fault[0].startswith("recovery")
        windows = world.watch.twice()
        assert all(window < WINDOW_S for window in windows), windows
        world.must_be_sound(twice=windows if excused else ())
        world.service.commit("web")
        bring_to_end(world)
        world.must_be_sound(twice=windows if excused else ())


def taken_back(step, state):
    with a_world() as world:
        saved = away(world)
        cancel = CancelAt(world, step, state)
        go_home(world)
        world.wait(cancel.asked.is_set)
        run = bring_to_end(world)
        if isinstance(cancel.outcome, Refused):
            assert run.state is RunState.DONE
        else:
            assert run.state is RunState.UNDONE, world.told()
            assert (world.phase(), world.running()) == (Phase.SETTLED, ["recovery"])
            assert world.disks(world.recovery) == saved
        world.must_be_sound()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", ["dead", "cut", "near"])
@pytest.mark.parametrize("fault", FAULTS)
def test_with_a_fault_at_every_step(source, fault):
    # A recovery site that cannot be reached is given no task in which it could die.
    unreached = source != "near" and fault.startswith("recovery")
    in_threads(returned, [(source, (fault, name)) for name in STEPS if not (unreached and name == "fence-away")])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("state", [StepState.RUNNING, StepState.DONE])
def test_cancel_at_every_step(state):
    in_threads(taken_back, [(name, state) for name in STEPS])


@slow
def test_a_part_of_the_matrix():
    in_threads(
        returned,
        [
            ("dead", ("console recorded", "epoch-home")),
            ("dead", ("office after", "switch")),
            ("cut", ("console begun", "start-home")),
            ("near", ("recovery before", "fence-away")),
        ],
    )
    in_threads(taken_back, [("switch", StepState.DONE), ("epoch-home", StepState.RUNNING)])
