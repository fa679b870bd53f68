"""What jobs do at a source, where only their own checks stand between a late order and a second primary."""

from dataclasses import replace

import pytest
from tests.console.chaos import VM
from tests.console.test_crash_matrix import a_world, ask

from leeward.agent.copy_tasks import CopyTasks
from leeward.agent.jobs import Context
from leeward.agent.ledger import Ledger, Owed
from leeward.agent.tasks import SourceTasks
from leeward.domain.errors import Fenced, Refused
from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind
from leeward.domain.vm import Power
from leeward.wire.jobs import Job, JobKind

pytestmark = pytest.mark.usefixtures("quick")


def test_a_start_at_a_host_that_knows_of_nothing_asks_the_vault_where_the_vm_runs(tmp_path):
    with a_world() as world:
        tasks = SourceTasks(world.office.agent, Ledger(tmp_path / "other.json"), world.office.open_vault, None)
        order = Context(Job(id="late", kind=JobKind.START, vm_id=VM, host="office"), lambda text: None)
        tasks.start(order)  # at home it may
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        with pytest.raises(Fenced, match="it runs at recovery"):
            tasks.start(order)
        assert world.running() == ["recovery"]


def test_a_log_is_given_back_whether_it_was_taken_or_not_and_never_taken_from_another_run(tmp_path):
    with a_world() as world:
        tasks = SourceTasks(world.office.agent, world.office.agent._ledger, world.office.open_vault, None)

        def give_back(claim, *runs):
            arguments = {"claim": claim, "reason": "undo", "run": runs[0], "back": list(runs)}
            job = Job(id="undo", kind=JobKind.TAKE_EPOCH, vm_id=VM, host="office", arguments=arguments)
            return tasks.take_epoch(Context(job, lambda text: None))["epoch"]

        def take(claim, run):
            info = {"writer": "agent-recovery", "host": "recovery", "reason": "failover", "run": run}
            return world.vault.log(VM).take_epoch(claim, info).state.epoch

        assert give_back(1, "r1") == 2
        assert give_back(1, "r1") == 2  # done again
        with pytest.raises(Fenced):
            take(1, "r1")  # the order that was still on its way
        assert take(2, "r2") == 3
        assert give_back(2, "r2") == 4
        assert take(4, "r3") == 5
        assert give_back(4, "r4", "r3") == 6  # of the run that it took over from
        assert take(6, "another console's") == 7
        with pytest.raises(Fenced):
            give_back(6, "r5")


def test_an_order_to_clear_away_that_comes_late_does_not_touch_the_vm_that_is_there_again():
    with a_world() as world:
        ask(world, Kind.PLANNED)
        world.until(Phase.AWAY)
        place = world.recovery
        tasks = CopyTasks(place.agent, place.agent._ledger, {"recovery": place.copies}, {}, place.open_vault)
        arguments = {"purpose": "failover", "idle": True}
        late = Job(id="late", kind=JobKind.COPY_DISCARD, vm_id=VM, host="recovery", arguments=arguments)
        tasks.discard(Context(late, lambda text: None))
        assert world.running() == ["recovery"]
        epoch = {"writer": "x", "host": "office", "reason": "failback", "run": "r"}
        world.vault.log(VM).take_epoch(2, epoch)
        # Started here while the vault was away, it may get the log yet.
        owing = Ledger(world.folder / "owing.json")
        owing.owe(Owed(VM, "web", "recovery", 3, {}, []))
        replace(tasks, ledger=owing).discard(Context(late, lambda text: None))
        assert [copy.vm_id for copy in place.copies.reports()] == [VM]
        tasks.discard(Context(late, lambda text: None))
        assert place.copies.reports() == []


@pytest.mark.parametrize("kind", [JobKind.HOME_REVERT, JobKind.COPY_DISCARD])
def test_an_order_to_clear_away_leaves_a_vm_alone_that_was_never_moved_or_of_which_the_vault_knows_nothing(kind):
    with a_world() as world:
        place = world.office
        copies, homes = {"office": place.copies}, {"office": place.homes}
        tasks = CopyTasks(place.agent, place.agent._ledger, copies, homes, place.open_vault)
        arguments = {"purpose": "failover", "name": "web", "reason": "it runs at annex", "idle": True}
        late = Job(id="late", kind=kind, vm_id=VM, host="office", arguments=arguments)
        said = []
        assert world.vault.log(VM).last_move() is None
        tasks.tasks()[kind](Context(late, said.append))
        assert said == ["its rightful place is here again: nothing is removed"]
        unknown = "11111111-5d0f-4a53-9d0e-5a1f6f2f3b11"
        place.hypervisor.add(unknown, "old", {"vda": bytes(65536)})
        with pytest.raises(Refused, match="does not tell where this VM has its place"):
            tasks.tasks()[kind](Context(late.model_copy(update={"vm_id": unknown}), said.append))
        assert [vm.power for vm in place.hypervisor.vms()] == [Power.RUNNING, Power.RUNNING]
        assert place.agent._ledger.standdowns() == []
