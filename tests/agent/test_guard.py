"""The guard keeps a VM off for as long as that is written down, and not an instant longer."""

import threading

import pytest

from leeward.agent.guard import Guard
from leeward.agent.ledger import Ledger, StandDown
from leeward.domain.errors import HypervisorError
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
OFF = StandDown(VM, "web", "office", "it runs at recovery")


@pytest.fixture
def host():
    host = MemoryHypervisor("office")
    host.add(VM, "web", {"vda": b"x"})
    return host


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "agent.json")


@pytest.fixture
def guard(ledger, host):
    return Guard(ledger, {"office": host})


def test_stops_what_must_be_off_each_time_and_says_so(guard, ledger, host):
    ledger.stand_down(OFF)
    guard.look()
    assert host.vm(VM).power is Power.OFF
    assert "still running here" in guard.reports()[0].note
    host.start(VM)
    guard.look()
    assert host.vm(VM).power is Power.OFF
    assert "started here" in guard.reports()[0].note
    assert guard.reports()[0].running is False


def test_touches_nothing_that_is_not_written_down(guard, ledger, host):
    guard.look()
    assert host.vm(VM).power is Power.RUNNING
    ledger.stand_down(OFF)
    ledger.stand_up(VM, "office")
    assert guard.keep_off(OFF) is True  # of a look that began before
    assert host.vm(VM).power is Power.RUNNING


def test_a_stand_down_that_is_taken_back_in_the_middle_of_a_look_does_not_stop_the_vm_started_next(
    guard, ledger, host, monkeypatch
):
    ledger.stand_down(OFF)
    guard.look()
    looking, going_on = threading.Event(), threading.Event()
    real = ledger.standdowns

    def slow():
        found = real()
        looking.set()
        going_on.wait(5)
        return found

    monkeypatch.setattr(ledger, "standdowns", slow)
    look = threading.Thread(target=guard.look)
    look.start()
    looking.wait(5)
    with guard.sparing(VM, "office"):
        ledger.stand_up(VM, "office")
    host.start(VM)
    going_on.set()
    look.join(5)
    assert host.vm(VM).power is Power.RUNNING


def test_taking_back_waits_for_a_stop_that_is_under_way(guard, ledger, host, monkeypatch):
    ledger.stand_down(OFF)
    stopping, may_stop, order = threading.Event(), threading.Event(), []
    real = host.force_off

    def slow(vm_id):
        stopping.set()
        may_stop.wait(5)
        order.append("stopped")
        real(vm_id)

    monkeypatch.setattr(host, "force_off", slow)
    look = threading.Thread(target=guard.look)
    look.start()
    stopping.wait(5)

    def take_back():
        with guard.sparing(VM, "office"):
            order.append("taken back")

    back = threading.Thread(target=take_back)
    back.start()
    may_stop.set()
    back.join(5)
    look.join(5)
    assert order == ["stopped", "taken back"]


def test_trouble_becomes_a_note_and_is_tried_again(guard, ledger, host, monkeypatch):
    def broken(vm_id):
        raise HypervisorError("the host hangs", subject=vm_id)

    ledger.stand_down(OFF)
    with monkeypatch.context() as patch:
        patch.setattr(host, "force_off", broken)
        assert guard.keep_off(OFF) is False
    report = guard.reports()[0]
    assert report.running
    assert "the host hangs" in report.note
    assert guard.keep_off(OFF) is True


def test_a_vm_that_is_gone_is_off_and_a_host_that_is_gone_is_told(guard, ledger, host):
    ledger.stand_down(OFF)
    host.remove(VM)
    assert guard.keep_off(OFF) is True
    elsewhere = StandDown(VM, "web", "attic", "why")
    ledger.stand_down(elsewhere)
    assert guard.keep_off(elsewhere) is False
    assert {report.note for report in guard.reports()} == {
        "it is no longer defined on the host",
        "the host is not among this agent's hosts",
    }


def test_what_the_host_would_start_by_itself_is_remembered_through_restarts(guard, ledger, host, tmp_path):
    host.set_autostart(VM, True)
    ledger.stand_down(OFF)
    guard.look()
    assert host.autostart(VM) is False
    ledger.stand_down(OFF)  # told again by the console
    again = Ledger(tmp_path / "agent.json")
    assert again.standdown(VM, "office").autostart is True
