"""A failover that gives way to one to another recovery host: what it has made at its own is kept off and removed."""

import pytest
from tests.console.chaos import VM, while_running
from tests.console.test_crash_matrix import ask, settle
from tests.console.test_taking_back import CancelAt
from tests.console.third_place import a_world_with, power

from leeward.console.views import FailbackRequest, FailoverRequest
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.procedures import Kind
from leeward.domain.runs import StepState
from leeward.domain.vm import Power

pytestmark = pytest.mark.usefixtures("quick")


# Real time: not for the fast suite.
slow = pytest.mark.slow


@pytest.fixture
def world():
    """With a second recovery host, attic."""
    with a_world_with("attic", "recovery") as world:
        yield world


def to_the_other(world):
    """The first one has started its copy when it is cut off; the VM runs at the attic then."""
    world.office.stop_agent()
    world.office.hypervisor.force_off(VM)
    cancel = CancelAt(world, "start", StepState.DONE)
    ask(world, Kind.UNPLANNED)
    world.wait(cancel.asked.is_set)
    world.until(Phase.FAILOVER_UNDOING)  # and waits for home, which is dead
    world.hook = lambda *_: None
    world.cuts["recovery"] = world.recovery.line.cut = True
    world.service.failover("web", Event.UNPLANNED, FailoverRequest(to="attic"))
    world.until(Phase.AWAY)


@pytest.mark.parametrize("vault", [True, False])
def test_the_first_one_is_stopped_and_removed_once_it_is_back(world, vault):
    to_the_other(world)
    assert (power(world.recovery), power(world.attic)) == (Power.RUNNING, Power.RUNNING)
    world.restart_console()
    world.cuts.clear()
    world.recovery.line.cut = not vault
    world.desk.let_go()
    world.wait(lambda: power(world.recovery) in (Power.OFF, None))
    world.recovery.line.cut = False
    world.wait(lambda: power(world.recovery) is None and world.recovery.copies.reports() == [])

    def over():
        world.desk.let_go()
        return world.recovery.jobs.jobs() == []

    world.wait(over)
    assert [off.host for off in world.desk.desired().standdowns] == ["office"]
    assert world.recovery.agent._ledger.standdowns() == []
    assert power(world.attic) is Power.RUNNING
    assert world.watch.twice() == []


@slow
@pytest.mark.parametrize("to", ["recovery", "attic"])
def test_what_could_not_be_removed_yet_is_not_in_the_way_of_the_next_failover(world, to):
    to_the_other(world)
    world.office.start_agent()
    settle(world)
    world.service.failback("web", FailbackRequest())
    world.until(Phase.BACK)
    world.service.commit("web")
    world.until(Phase.HOME)
    world.write(world.office)
    world.remember(world.office)
    world.cuts.clear()
    world.desk.let_go()
    world.wait(lambda: any("waiting for the vault" in job.progress for job in world.recovery.jobs.jobs()))

    def back():
        world.desk.let_go()  # calls the removal off
        world.recovery.line.cut = False

    world.hook = while_running("check", back)
    world.service.failover("web", Event.PLANNED, FailoverRequest(to=to))
    place = getattr(world, to)
    world.wait(lambda: world.phase() in (Phase.AWAY, Phase.FAILOVER_STALLED))
    assert (world.phase(), world.watch.on[to]) == (Phase.AWAY, world.watch.off["office"])
    others = {world.recovery, world.attic} - {place}
    world.wait(lambda: world.desk.let_go() or all(power(other) is None for other in others))
    world.wait(lambda: world.desk.let_go() or world.recovery.jobs.jobs() == [])
    assert power(place) is Power.RUNNING
    assert world.watch.twice() == []
