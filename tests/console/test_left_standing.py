"""An agent dies while a guest stands still for its group's common instant: it goes on only where it is ours still."""

import threading
import time

import pytest
from tests.console.chaos import VM
from tests.console.test_crash_matrix import a_world, ask

from leeward.agent import left_standing
from leeward.agent.ledger import Ledger, StandDown
from leeward.agent.standstill import Standstill
from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind
from leeward.domain.vm import Power


@pytest.fixture(autouse=True)
def soon(quick, monkeypatch):
    monkeypatch.setattr(left_standing, "_ASK_S", 0.3)


@pytest.fixture
def world():
    with a_world() as world:
        yield world


def leave_standing(world):
    """→ what lets guests go on, each time that it is called."""
    office = world.office
    office.stop_agent()
    Standstill(office.folder / "standstill.json").begin("office", [VM])
    office.hypervisor.pause(VM)
    calls, resume = [], office.hypervisor.resume

    def counted(vm_id):
        calls.append(office.hypervisor.vm(VM).power)
        return resume(vm_id)

    office.hypervisor.resume = counted
    return calls


def power(world):
    return world.office.hypervisor.vm(VM).power


def test_one_that_was_taken_over_meanwhile_never_goes_on(world):
    calls = leave_standing(world)
    ask(world, Kind.UNPLANNED)
    world.until(Phase.AWAY)
    world.cuts["office"] = True  # it finds out by itself
    world.office.start_agent()
    world.wait(lambda: power(world) is Power.OFF)
    assert Power.PAUSED not in calls
    world.wait(lambda: world.office.agent._groups.left() == [])


def test_one_that_stands_down_never_goes_on_whatever_the_vault_says(world):
    calls = leave_standing(world)
    Ledger(world.office.folder / "agent.json").stand_down(StandDown(VM, "web", "office", "it runs at recovery"))
    world.office.line.cut = world.cuts["office"] = True
    world.office.start_agent()
    world.wait(lambda: power(world) is Power.OFF)
    assert Power.PAUSED not in calls


def test_without_the_vault_one_that_is_ours_goes_on_and_one_that_we_know_nothing_of_does_not(world):
    leave_standing(world)
    world.office.line.cut = world.cuts["office"] = True
    ledger = Ledger(world.office.folder / "agent.json")
    epoch = ledger.epoch_of(VM, "office")
    ledger.forget(VM)
    world.office.start_agent()
    time.sleep(0.3)
    assert power(world) is Power.PAUSED
    world.office.stop_agent()
    Ledger(world.office.folder / "agent.json").save_epoch(VM, epoch, "office")
    world.office.start_agent()
    assert power(world) is Power.RUNNING


def test_a_vault_that_does_not_answer_does_not_keep_it_standing(world, monkeypatch):
    leave_standing(world)
    answers = threading.Event()
    monkeypatch.setattr(world.office, "open_vault", lambda: answers.wait(30) and world.vault)
    began = time.monotonic()
    world.office.start_agent()
    assert power(world) is Power.RUNNING
    assert time.monotonic() - began < 5
    answers.set()
