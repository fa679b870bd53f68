"""A failback that gives way to one to another home: its new disks go as soon as its host can be reached, the old ones
stay, and what a guest has written there is never removed."""

import pytest
from tests.console.chaos import VM, while_running
from tests.console.faults import bring_to_end
from tests.console.test_home_again import given_up_after, started_and_failed
from tests.console.test_unplanned_failback import away, die, go_home, slow
from tests.console.third_place import a_world_with, power

from leeward.console.leftovers import left_job
from leeward.console.views import FailbackRequest
from leeward.domain.lifecycle import Phase
from leeward.domain.runs import RunState
from leeward.domain.vm import Power
from leeward.orchestrator.assignments import job_of

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def world():
    """With a second host at home, annex."""
    with a_world_with("annex", "source") as world:
        world.watch.plugged.add("annex")
        yield world


def cut(world, name, value=True):
    world.cuts[name] = world.__dict__[name].line.cut = value


def events(world):
    return [event["detail"] for event in world.database.events() if event["what"] == "left behind"]


def kept_off(world, *hosts):
    return sorted(off.host for off in world.desk.desired().standdowns) == sorted(hosts)


@pytest.mark.parametrize("step", [pytest.param("prepare", marks=slow), "switch"])
def test_the_first_one_keeps_its_old_disks_and_the_new_ones_go(world, step):
    away(world)
    old = world.disks(world.office)
    newest = world.newest()
    die(world)
    given_up_after(world, step)
    assert VM in world.office.homes._homes
    assert (world.disks(world.office) == newest) == (step == "switch")
    cut(world, "office")
    go_home(world, to="annex")
    world.until(Phase.BACK)
    assert (power(world.annex), world.watch.on["annex"]) == (Power.RUNNING, newest)
    assert events(world) == ["office cannot be reached: it removes what is left there when it is back"]
    assert kept_off(world, "office", "recovery")
    world.restart_console()
    world.desk.let_go()
    world.cuts["office"] = False
    world.wait(lambda: any("waiting for the vault" in job.progress for job in world.office.jobs.jobs()))
    assert VM in world.office.homes._homes  # the log may say anything
    # What is asked of that host meanwhile does not wait behind that: the order is called off, and given anew.
    world.hook = while_running("settle-home", world.desk.let_go)
    world.service.commit("web")
    world.until(Phase.HOME)
    world.wait(lambda: world.office.jobs.jobs() == [])
    world.office.line.cut = False

    def over():
        world.desk.let_go()
        return world.office.jobs.jobs() == [] and VM not in world.office.homes._homes

    world.wait(over)
    assert world.disks(world.office) == old
    world.wait(lambda: kept_off(world, "recovery"))
    world.office.hypervisor.start(VM)  # by somebody
    world.wait(lambda: power(world.office) is Power.OFF)
    assert power(world.annex) is Power.RUNNING


def test_what_the_guest_has_written_at_the_first_one_is_never_removed(world):
    away(world)
    die(world)
    started_and_failed(world)
    written = world.disks(world.office)
    go_home(world, to="annex")
    world.until(Phase.BACK)

    def told():
        world.desk.let_go()
        return events(world)

    (said,) = world.wait(told)
    assert said.startswith("what is left at office could not be removed: it has been started from its new disks")
    assert (power(world.office), world.disks(world.office), VM in world.office.homes._homes) == (
        Power.OFF,
        written,
        True,
    )
    world.restart_console()
    assert kept_off(world, "office", "recovery")
    world.wait(lambda: world.office.agent._ledger.standdown(VM, "office") is not None)


@slow
def test_a_way_home_to_the_first_one_after_all_is_not_removed_by_the_late_order(world):
    away(world)
    newest = world.newest()
    die(world)
    given_up_after(world, "switch")
    cut(world, "office")
    given_up_after(world, "prepare", to="annex")
    cut(world, "office", False)
    go_home(world, to="office")
    world.until(Phase.BACK)
    for _ in range(3):
        world.desk.let_go()
    world.wait(lambda: world.desk.let_go() or world.office.jobs.jobs() == [])
    world.wait(lambda: world.desk.let_go() or VM not in world.annex.homes._homes)
    assert (power(world.office), power(world.annex)) == (Power.RUNNING, None)
    assert world.watch.on["office"] == newest
    assert world.annex.agent._ledger.standdowns() == []  # nothing is there to be kept off
    world.service.commit("web")
    world.until(Phase.HOME)
    world.mend()
    world.must_be_sound(twice=world.watch.twice())


@pytest.mark.parametrize(
    ("order", "step"),
    [
        (lambda first, life: left_job(first, life), "stop-away"),
        pytest.param(lambda first, life: job_of(first, "revert", undo=True), "boot-home", marks=slow),
    ],
    ids=["removal of what is left", "undo step, when the VM is there"],
)
def test_an_order_that_comes_late_leaves_a_later_failbacks_disks_alone(world, order, step):
    """Two unplanned failbacks are taken back; then the VM comes home to the first one's host as was planned."""
    away(world)
    die(world)
    given_up_after(world, "switch")
    first = world.failovers.last(VM, "web")
    cut(world, "office")
    given_up_after(world, "prepare", to="annex")
    world.recovery.start_agent()
    assert bring_to_end(world).state is RunState.UNDONE
    world.until(Phase.SETTLED)
    cut(world, "office", False)
    late = order(first, world.database.lives.get(VM))
    world.wait(lambda: world.service.status("web")[0].state == "enabled")
    done = []

    def come_late():
        if not done:
            done.append(late.id)
            world.office.local.submit(late)
            world.wait(lambda: world.office.local.job(late.id).state == "done")

    world.hook = while_running(step, come_late)
    world.service.failback("web", FailbackRequest(to="office"))
    world.until(Phase.BACK)
    assert done
    assert (power(world.office), power(world.recovery)) == (Power.RUNNING, Power.OFF)
    assert world.watch.on["office"] == world.watch.off["recovery"]
    world.service.commit("web")
    world.until(Phase.HOME)
    assert power(world.office) is Power.RUNNING
