"""The crash matrix of failovers out of a warm replica, with the vault and without: every part dies, and every line is
cut, at every step; then all comes back, the vault as well."""

import pytest
from tests.console.chaos import VM
from tests.console.faults import FAULTS, Fault, bring_to_end
from tests.console.test_crash_matrix import WINDOW_S, a_world, in_threads
from tests.console.test_taking_back import CancelAt
from tests.console.test_warm import lose_vault, unplanned, warm

from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind, steps, undo_order
from leeward.domain.runs import RunState, StepState

# Real time, real processes: not for the fast suite.
pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow, pytest.mark.timeout(600)]
FINAL = next(i for i, step in enumerate(steps(Kind.UNPLANNED)) if step.final)


def failed_over(vault, source, fault):
    """vault: here or away. source: dead, and the operator says so; near (it lives and answers)."""
    with a_world() as world:
        warm(world)
        saved = world.newest()
        if vault == "away":
            lose_vault(world)
            world.write(world.office)  # in no vault yet
        if source == "dead":
            world.office.stop_agent()
            world.office.hypervisor.force_off(VM)
        armed = Fault(world, *fault)
        unplanned(world, without_vault=True if source == "dead" else None)
        armed.strike_and_mend()
        assert world.phase() is Phase.AWAY
        run = world.failovers.last(VM, "web")
        if vault == "here" or run.result("epoch").get("owed"):
            assert world.watch.on["recovery"] == saved
        assert run.result("build")["replica"] or vault == "away"
        world.wait(lambda: not world.recovery.agent._ledger.all_owed())
        world.wait(lambda: world.running() == ["recovery"])
        excused = "console-office" in fault[0] or fault[0].startswith("office")
        windows = world.watch.twice()
        assert all(window < WINDOW_S for window in windows), windows
        world.must_be_sound(twice=windows if excused else ())
        world.wait(lambda: world.vault.log(VM).reign().info["host"] == "recovery")


def taken_back(step, state, fault=None):
    """Asked for and cancelled while the vault is away."""
    with a_world() as world:
        warm(world)
        disks = world.disks(world.office)
        lose_vault(world)
        armed = Fault(world, *fault, undo=True) if fault else None
        cancel = CancelAt(world, step, state, armed)
        unplanned(world)
        world.wait(cancel.asked.is_set)
        if armed is not None:
            armed.strike_and_mend()
        run = bring_to_end(world)
        assert run.state is RunState.UNDONE, world.told()
        assert world.running() == ["office"]
        assert world.disks(world.office) == disks
        world.mend()
        world.wait(lambda: not world.office.agent._ledger.all_owed())
        world.must_be_sound()
        assert world.vault.log(VM).reign().info["host"] == "office"


@pytest.mark.parametrize("vault", ["here", "away"])
@pytest.mark.parametrize("source", ["dead", "near"])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "vault away"])
def test_failover_with_a_fault_at_every_step(vault, source, fault):
    # An office that cannot be reached is given no task in which it could die.
    unreached = source == "dead" and fault.startswith("office")
    names = [step.name for step in steps(Kind.UNPLANNED) if not (unreached and step.name == "fence")]
    in_threads(failed_over, [(vault, source, (fault, name)) for name in names])


@pytest.mark.parametrize("state", [StepState.RUNNING, StepState.DONE])
def test_cancel_at_every_step_without_the_vault(state):
    in_threads(taken_back, [(step.name, state) for step in steps(Kind.UNPLANNED)[:FINAL]])


@pytest.mark.parametrize(
    "fault", ["console before", "console done", "office after", "recovery after", "recovery before"]
)
def test_faults_while_it_is_taken_back_without_the_vault(fault):
    last = steps(Kind.UNPLANNED)[FINAL - 1].name
    in_threads(taken_back, [(last, StepState.DONE, (fault, name)) for name in undo_order(Kind.UNPLANNED, FINAL)])
