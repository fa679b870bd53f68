"""Cancelling after every step, also while parts die: the VM runs again where it ran, and nothing is left behind."""

import threading
import time

import pytest
from tests.console.chaos import VM, Died
from tests.console.faults import Fault, bring_to_end
from tests.console.test_crash_matrix import a_world, ask, in_threads, settle

from leeward.domain.errors import Refused
from leeward.domain.lifecycle import Phase, under_way
from leeward.domain.procedures import Kind, steps, undo_order
from leeward.domain.runs import RunState, StepState
from leeward.domain.vm import Power

# Real time, real processes: not for the fast suite.
pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

FINAL = {kind: next(i for i, step in enumerate(steps(kind)) if step.final) for kind in (Kind.PLANNED, Kind.FAILBACK)}
FINAL[Kind.UNPLANNED] = next(i for i, step in enumerate(steps(Kind.UNPLANNED)) if step.final)
UNDO_FAULTS = ("console before", "console done", "office after", "recovery after", "vault away", "cut console-office")


class CancelAt:
    """Cancels the run at the instant at which a step's record gets a state."""

    def __init__(self, world, step, state, then=None):
        self.world, self.step, self.state, self.then = world, step, state, then
        self.outcome = None
        self.asked = threading.Event()
        world.hook = self.on_run

    def on_run(self, before, after, written):
        if self.asked.is_set():
            if self.then:
                self.then.on_run(before, after, written)
            return
        record = next((record for record in after.steps if record.name == self.step), None)
        going_on = after.state is RunState.RUNNING
        if written and going_on and record is not None and record.state is self.state:
            self.asked.set()
            try:
                self.outcome = self.world.service.cancel("web")
            except Refused as refused:
                self.outcome = refused


def at_start(world, kind):
    """→ where the VM runs, and its disks."""
    if kind is Kind.FAILBACK:
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        settle(world)
        world.write(world.recovery)
        world.remember(world.recovery)
    place = world.rightful()
    return place, world.disks(place)


def cancelled(kind, step, state, fault=None):
    with a_world() as world:
        place, disks = at_start(world, kind)
        armed = None
        if fault is not None:
            armed = Fault(world, *fault, undo=True)
        cancel = CancelAt(world, step, state, armed)
        ask(world, kind)
        world.wait(cancel.asked.is_set)
        if armed is not None:
            armed.strike_and_mend()
        run = bring_to_end(world)
        if isinstance(cancel.outcome, Refused):
            assert run.state is RunState.DONE
            assert "only forward" in cancel.outcome.message
        else:
            assert run.state is RunState.UNDONE, world.told()
            assert world.rightful() is place
            assert world.disks(place) == disks
        world.must_be_sound()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.UNPLANNED, Kind.FAILBACK])
@pytest.mark.parametrize("state", [StepState.RUNNING, StepState.DONE])
def test_cancel_at_every_step(kind, state):
    in_threads(cancelled, [(kind, step.name, state) for step in steps(kind)])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.UNPLANNED, Kind.FAILBACK])
@pytest.mark.parametrize("fault", UNDO_FAULTS)
def test_faults_while_a_run_is_taken_back(kind, fault):
    last = steps(kind)[FINAL[kind] - 1].name
    undo = [name for name in undo_order(kind, FINAL[kind]) if name != "unowe"]  # nothing is, while the vault is there
    in_threads(cancelled, [(kind, last, StepState.DONE, (fault, name)) for name in undo])


def test_a_cancel_before_the_vm_is_started_and_one_after_it():
    in_threads(
        cancelled,
        [
            (Kind.PLANNED, "build", StepState.DONE),
            (Kind.PLANNED, "plug", StepState.RUNNING),
            (Kind.PLANNED, "start", StepState.DONE),
            (Kind.FAILBACK, "switch", StepState.DONE),
            (Kind.UNPLANNED, "epoch", StepState.RUNNING),
        ],
    )


@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.FAILBACK])
def test_a_dead_target_keeps_no_vm_off(kind):
    """The site where the VM was to go dies for good: taken back, the VM runs where it ran, without waiting for it."""
    with a_world() as world:
        place, disks = at_start(world, kind)
        target = world.office if place is world.recovery else world.recovery
        world.hook = lambda b, a, w: (
            setattr(target, "local", None)
            if any(r.name in ("build", "catch-up") and r.state is StepState.RUNNING for r in a.steps)
            else None
        )
        ask(world, kind)
        world.wait(lambda: target.local is None)
        world.wait(lambda: world.running() == [])
        world.service.cancel("web")
        world.wait(lambda: world.running() == [place.name])
        assert world.disks(place) == disks
        world.write(place)
        world.until_current(place)
        assert under_way(world.phase())  # only the clearing away waits
        assert "waiting for the agent" in world.wait(lambda: world.failovers.last(VM, "web").undo[-1].detail)
        world.hook = lambda *_: None
        world.mend()
        bring_to_end(world)
        world.must_be_sound()


@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.FAILBACK])
def test_a_host_that_cannot_start_the_vm_gives_it_back(kind):
    with a_world() as world:
        place, disks = at_start(world, kind)
        target = world.office if place is world.recovery else world.recovery
        target.hypervisor.broken = True
        ask(world, kind)
        world.wait(lambda: world.failovers.last(VM, "web").state is RunState.STALLED)
        assert world.running() == []
        world.service.cancel("web")
        run = bring_to_end(world)
        target.hypervisor.broken = False
        assert run.state is RunState.UNDONE
        assert world.disks(place) == disks
        world.must_be_sound()
        # And the next one goes through.
        ask(world, kind)
        bring_to_end(world)
        assert world.running() == [target.name]
        assert world.disks(target) == world.watch.off[place.name]
        world.must_be_sound()


@pytest.mark.parametrize("when", ["under way", "stalled", "undoing"])
def test_a_planned_failover_whose_source_dies_becomes_an_unplanned_one(when):
    with a_world() as world:
        saved = world.disks(world.office)

        def office_dies():
            world.office.local = None
            world.office.hypervisor.force_off(VM)

        if when == "under way":
            world.hook = lambda b, a, w: office_dies() if w and a.begun == 2 and world.office.local else None
            ask(world, Kind.PLANNED)
            world.wait(lambda: "waiting for the agent" in world.failovers.last(VM, "web").steps[1].detail)
        else:
            world.recovery.hypervisor.add(VM, "somebody else's", {"vda": b"x"}, Power.OFF)
            ask(world, Kind.PLANNED)
            world.until(Phase.FAILOVER_STALLED)
            world.recovery.hypervisor.remove(VM)
            if when == "stalled":
                # It has got as far as it needs its home: going on is all that makes sense.
                with pytest.raises(Refused) as refused:
                    ask(world, Kind.UNPLANNED)
                assert "leeward failover retry web" in refused.value.hint
                office_dies()
                bring_to_end(world)
            else:
                office_dies()
                world.service.cancel("web")
                world.until(Phase.FAILOVER_UNDOING)
        if when != "stalled":
            world.hook = lambda *_: None
            ask(world, Kind.UNPLANNED)
        world.until(Phase.AWAY)
        assert world.running() == ["recovery"]
        assert world.watch.on["recovery"] == saved
        world.mend()
        time.sleep(0.1)
        world.must_be_sound()
        with pytest.raises(Refused):
            ask(world, Kind.UNPLANNED)


def test_a_taking_that_comes_late_finds_the_log_closed():
    """The order to take the log over is on its way when the run is taken back; then it arrives."""
    with a_world() as world:
        gate, begun = threading.Event(), threading.Event()

        def hold(place, job, when):
            if when == "before" and job.id.endswith("/do/epoch"):
                begun.set()
                gate.wait(10)

        world.tasks_hook = hold
        ask(world, Kind.PLANNED)
        world.wait(begun.is_set)
        world.service.cancel("web")
        world.until(Phase.HOME)
        assert world.running() == ["office"]
        gate.set()
        time.sleep(0.2)
        world.must_be_sound()
        assert world.vault.log(VM).reign().info["host"] == "office"
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        world.must_be_sound()


def test_a_start_at_home_that_comes_late_is_refused():
    """A failover is taken back, the order to start at home hangs, and an unplanned failover takes over from there."""
    with a_world() as world:
        gate, begun = threading.Event(), threading.Event()

        def hold(place, job, when):
            if when == "before" and job.id.endswith("/undo/restart"):
                begun.set()
                gate.wait(10)

        world.tasks_hook = hold
        cancel = CancelAt(world, "build", StepState.DONE)
        ask(world, Kind.PLANNED)
        world.wait(begun.is_set)
        assert cancel.asked.is_set()
        world.cuts["office"] = True
        ask(world, Kind.UNPLANNED)
        world.until(Phase.AWAY)
        gate.set()
        time.sleep(0.2)
        assert world.running() == ["recovery"]
        world.mend()
        world.must_be_sound()


def test_points_in_the_spool_of_a_source_that_was_taken_over_do_not_hinder_its_return():
    with a_world() as world:
        saved = world.disks(world.office)
        world.office.line.cut = True
        world.write(world.office)
        world.wait(lambda: world.service.status("web")[0].spool_bytes > 0)
        ask(world, Kind.UNPLANNED)
        world.until(Phase.AWAY)
        assert world.disks(world.recovery) == saved  # what was spooled had not been promised to anybody
        world.mend()
        world.must_be_sound()
        settle(world)
        ask(world, Kind.FAILBACK)
        world.until(Phase.BACK)
        world.must_be_sound()
        world.wait(lambda: world.service.status("web")[0].state == "enabled")
        assert [key for key, _ in world.office.aside if "/log/" in key]  # kept, for whoever wants to look


@pytest.mark.parametrize("dies", ["", "before the phase moves", "after it"])
def test_a_takeover_that_is_cancelled_takes_back_what_it_inherited(dies):
    """And a console that dies in the middle of handing over leaves one of the two runs in charge."""
    with a_world() as world:
        disks = world.disks(world.office)
        world.recovery.hypervisor.add(VM, "somebody else's", {"vda": b"x"}, Power.OFF)
        ask(world, Kind.PLANNED)
        world.until(Phase.FAILOVER_STALLED)
        world.recovery.hypervisor.remove(VM)
        planned = world.failovers.last(VM, "web").id
        world.cuts["office"] = True
        world.service.cancel("web")
        world.until(Phase.FAILOVER_UNDOING)
        if dies:
            moved = dies == "after it"

            def hook(before, after, written):
                handing_over = after.id == planned and after.state is RunState.UNDONE
                if handing_over and written and (after.ended is not None) == moved:
                    raise Died

            world.hook = hook
            with pytest.raises(Died):
                ask(world, Kind.UNPLANNED)
            world.hook = lambda *_: None
            world.restart_console()
        else:
            CancelAt(world, "check", StepState.DONE)
            ask(world, Kind.UNPLANNED)
        if not (dies and not moved):
            world.wait(lambda: world.failovers.last(VM, "web").id != planned)
            if dies:
                world.service.cancel("web")
        world.mend()
        run = bring_to_end(world)
        assert run.state is RunState.UNDONE
        assert world.running() == ["office"]
        assert world.disks(world.office) == disks
        world.must_be_sound()
