"""A failback home is given up with its disks given to the VM already, and another one takes over: the VM boots the
point that this one was asked for, and what the guest has written at home is never lost unasked."""

import pytest
from tests.console.chaos import VM
from tests.console.faults import bring_to_end
from tests.console.test_crash_matrix import a_world
from tests.console.test_taking_back import CancelAt
from tests.console.test_unplanned_failback import away, detail, die, go_home, slow

from leeward.domain.errors import HypervisorError, Refused
from leeward.domain.lifecycle import Phase
from leeward.domain.runs import RunState, StepState

pytestmark = pytest.mark.usefixtures("quick")


def newer(world):
    """The guest goes on at the recovery site. → the point that the vault had, the newest contents."""
    old = world.vault.log(VM).point("latest").id
    world.write(world.recovery)
    world.remember(world.recovery)
    return old, world.newest()


def given_up_after(world, step, **how):
    """A failback is cancelled in this step, and waits for the dead recovery site, or stalls."""
    cancel = CancelAt(world, step, StepState.RUNNING)
    go_home(world, **how)
    world.wait(cancel.asked.is_set)
    world.wait(lambda: world.phase() in (Phase.FAILBACK_UNDOING, Phase.FAILBACK_STALLED))
    world.hook = lambda *_: None


def steps_of(world):
    return {record.name: record.state for record in world.failovers.last(VM, "web").steps}


@pytest.mark.parametrize("point", ["older", pytest.param("same", marks=slow)])
def test_another_failback_boots_the_point_that_it_was_asked_for(point):
    with a_world() as world:
        saved = away(world)
        old, newest = newer(world)
        assert newest != saved
        die(world)
        given_up_after(world, "switch")
        assert steps_of(world)["switch"] is StepState.DONE  # the VM has been given the newest point
        go_home(world, point=old if point == "older" else "latest")
        world.until(Phase.BACK)
        assert world.watch.on["office"] == (saved if point == "older" else newest)
        assert "of its own" not in detail(world, "check-home")
        world.mend()
        world.must_be_sound(twice=world.watch.twice())


@slow
def test_one_after_the_vm_has_run_on_over_there_boots_what_it_wrote_there():
    """Taken back but for the clearing away at home, which hung; then the recovery site dies for good."""
    with a_world() as world:
        away(world)

        def hang(place, job, when):
            if when == "before" and job.id.endswith("/undo/revert"):
                raise HypervisorError("the host hangs", subject=VM)

        world.tasks_hook = hang
        given_up_after(world, "switch")
        world.until(Phase.FAILBACK_STALLED)
        assert world.running() == ["recovery"]
        _, newest = newer(world)
        die(world)
        world.tasks_hook = lambda *_: None
        go_home(world)
        world.until(Phase.BACK)
        assert world.watch.on["office"] == newest
        world.mend()
        world.must_be_sound(twice=world.watch.twice())


@pytest.mark.parametrize("point", ["older", pytest.param("latest", marks=slow)])
def test_a_home_that_cannot_start_the_vm_gives_it_back(point):
    """Also where changes since the point cannot be told, so that the VM is let go of before its host is asked."""
    with a_world() as world:
        away(world)
        old, newest = newer(world)
        world.office.hypervisor.broken = True
        go_home(world, point=old if point == "older" else "latest")
        world.until(Phase.FAILBACK_STALLED)
        assert world.running() == []
        world.service.cancel("web")
        run = bring_to_end(world)
        assert (run.state, world.phase(), world.running()) == (RunState.UNDONE, Phase.SETTLED, ["recovery"])
        assert world.disks(world.recovery) == newest
        world.office.hypervisor.broken = False
        world.must_be_sound()


def started_and_failed(world, **how):
    """The VM comes up at home and writes; the job fails all the same. Taken back, that is refused."""
    start = world.office.homes.start

    def fail(vm_id, point=""):
        start(vm_id, point)
        world.write(world.office)
        world.office.hypervisor.force_off(VM)
        raise HypervisorError("the host's daemon has gone", subject=VM)

    world.office.homes.start = fail
    go_home(world, **how)
    world.until(Phase.FAILBACK_STALLED)
    world.office.homes.start = start
    world.service.cancel("web")
    world.wait(lambda: "has been started from its new disks" in world.failovers.last(VM, "web").failure)
    world.until(Phase.FAILBACK_STALLED)


def went_home(world):
    """Begun, unless the run that is being taken back changes the phase at this very moment."""
    try:
        go_home(world)
    except Refused as refused:
        assert "at this moment" in str(refused)
        return False
    return True


@slow
def test_what_the_guest_has_written_at_home_is_kept_and_only_gone_on_with():
    with a_world() as world:
        away(world)
        old, _ = newer(world)
        die(world)
        started_and_failed(world)
        written = world.disks(world.office)
        go_home(world, point=old)
        world.until(Phase.FAILBACK_STALLED)
        assert "has run at home already" in world.failovers.last(VM, "web").failure
        assert world.disks(world.office) == written
        world.service.cancel("web")
        world.wait(lambda: went_home(world))
        world.until(Phase.BACK)
        assert world.watch.on["office"] == written
        world.mend()
        world.must_be_sound(twice=world.watch.twice())


@slow
def test_what_a_failed_start_has_left_running_at_home_is_stopped_before_the_vm_goes_on_over_there():
    """Also where another failback took over from the one that was being taken back, and is taken back itself."""
    with a_world() as world:
        away(world)
        start = world.office.homes.start

        def fail(vm_id, point=""):
            start(vm_id, point)
            raise HypervisorError("the host's daemon has gone", subject=VM)

        def hang(place, job, when):
            if when == "before" and job.id.endswith("/undo/revert"):
                raise HypervisorError("the host hangs", subject=VM)

        world.office.homes.start, world.tasks_hook = fail, hang
        go_home(world)
        world.until(Phase.FAILBACK_STALLED)
        world.service.cancel("web")
        world.wait(lambda: "hangs" in world.failovers.last(VM, "web").failure)
        world.until(Phase.FAILBACK_STALLED)
        assert world.running() == ["office"]
        world.office.homes.start, world.tasks_hook = start, lambda *_: None
        world.office.line.cut = True  # nor does its host find out by itself
        cancel = CancelAt(world, "check-home", StepState.RUNNING)
        go_home(world)
        world.wait(cancel.asked.is_set)
        world.until(Phase.SETTLED)
        assert world.running() == ["recovery"]
        world.mend()
        world.must_be_sound()
