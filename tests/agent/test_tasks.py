"""What jobs do at a source, where only their own checks stand between a late order and a second primary."""

from dataclasses import replace

import pytest
from tests.console.chaos import VM, hurry
from tests.console.test_crash_matrix import a_world, ask

from leeward.agent.copy_tasks import CopyTasks
from leeward.agent.jobs import Context
from leeward.agent.ledger import Ledger, Owed
from leeward.agent.tasks import SourceTasks
from leeward.domain.errors import Fenced
from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind
from leeward.wire.jobs import Job, JobKind


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    hurry(monkeypatch)


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
