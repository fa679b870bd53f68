"""The ledger survives restarts and kills, and says what to do when it is damaged."""

import os
import resource
from contextlib import contextmanager

import pytest

from leeward.agent.agent import Agent, Source
from leeward.agent.config import HostConfig
from leeward.agent.ledger import Ledger, Owed, StandDown
from leeward.agent.worker import Services
from leeward.domain.errors import BadInput, Unavailable
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.replication.pool import CopyPool
from leeward.wire.messages import DesiredState, PolicyMessage, ProtectionMessage, StandDownMessage

WISH = ProtectionMessage(vm_id="a" * 8, vm_name="web", host="office", policy=PolicyMessage(rpo_s=1))


def test_remembers_across_restarts(tmp_path):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.save_desired(DesiredState(generation=3, protections=(WISH,)))
    ledger.save_epoch(WISH.vm_id, 4, "office")
    again = Ledger(tmp_path / "agent.json")
    assert again.desired == ledger.desired
    assert again.epochs() == {WISH.vm_id: 4}
    again.forget(WISH.vm_id)
    assert Ledger(tmp_path / "agent.json").epochs() == {}


def test_a_kill_between_write_and_rename_keeps_the_old_content(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.save_epoch("vm", 1, "office")

    def die(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        ledger.save_epoch("vm", 2, "office")
    assert Ledger(tmp_path / "agent.json").epochs() == {"vm": 1}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"desired": {"generation": "x"}, "epochs": {}}'])
def test_damage_is_one_clear_error(tmp_path, content):
    (tmp_path / "agent.json").write_text(content)
    with pytest.raises(BadInput) as caught:
        Ledger(tmp_path / "agent.json")
    assert "agent.json" in str(caught.value)
    assert caught.value.hint


def test_an_epoch_counts_only_for_the_host_it_was_begun_from(tmp_path):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.save_epoch("vm", 3, "recovery")
    assert ledger.epoch_of("vm", "recovery") == 3
    assert ledger.epoch_of("vm", "office") is None


def test_a_ledger_from_before_hosts_were_noted_is_understood(tmp_path):
    path = tmp_path / "agent.json"
    path.write_text('{"desired": {"generation": 1}, "epochs": {"vm": 2}}')
    assert Ledger(path).epoch_of("vm", "office") == 2


def test_what_is_held_or_stands_down_is_remembered(tmp_path):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.hold("a", "office")
    ledger.stand_down(StandDown("b", "web", "office", "it runs at recovery"))
    again = Ledger(tmp_path / "agent.json")
    assert again.holds("a", "office")
    assert not again.holds("a", "recovery")
    assert again.holds("b", "office")
    assert again.standdowns() == [StandDown("b", "web", "office", "it runs at recovery")]
    again.stand_up("b", "office")
    again.unhold("a", "office")
    last = Ledger(tmp_path / "agent.json")
    assert not last.holds("a", "office")
    assert not last.holds("b", "office")


def test_one_vm_is_held_and_kept_off_on_each_host_for_itself(tmp_path):
    """One agent can have both sites' hosts, and after a failover both have the VM."""
    ledger = Ledger(tmp_path / "agent.json")
    ledger.hold("vm", "office")
    ledger.hold("vm", "recovery")
    ledger.stand_down(StandDown("vm", "web", "office", "why"))
    again = Ledger(tmp_path / "agent.json")
    assert again.holds("vm", "office")
    assert again.holds("vm", "recovery")
    again.stand_up("vm", "recovery")
    assert not again.holds("vm", "recovery")
    assert again.holds("vm", "office")
    again.unhold("vm", "office")
    assert again.holds("vm", "office")  # it stands down all the same
    again.stand_up("vm", "office")
    assert not Ledger(tmp_path / "agent.json").holds("vm", "office")


def test_a_ledger_of_older_form_is_read(tmp_path):
    path = tmp_path / "agent.json"
    path.write_text('{"desired": {"generation": 2}, "epochs": {"vm": 3}, "held": {"vm": "office"}}')
    ledger = Ledger(path)
    assert ledger.epoch_of("vm", "anywhere") == 3
    assert ledger.holds("vm", "office")
    assert not ledger.holds("vm", "recovery")


def test_who_has_begun_a_later_epoch_does_not_stand_down_for_an_earlier_one(tmp_path):
    """A worker finds itself fenced and looks who did it; meanwhile the failover is taken back."""
    ledger = Ledger(tmp_path / "agent.json")
    off = StandDown("vm", "web", "office", "it runs at recovery")
    ledger.save_epoch("vm", 3, "office")
    assert ledger.stand_down(off, after=2) is False
    assert not ledger.holds("vm", "office")
    assert ledger.stand_down(off, after=4) is True
    assert ledger.holds("vm", "office")


@pytest.fixture
def full():
    """No file can grow any more: to a program it is as good as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return disk


def test_on_a_full_disk_nothing_is_half_taken_over_but_a_vm_stays_off(tmp_path, full):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.save_desired(DesiredState(generation=1))
    with full():
        with pytest.raises(Unavailable, match="cannot keep what it was told") as raised:
            ledger.save_desired(DesiredState(generation=2, protections=(WISH,)))
        with pytest.raises(Unavailable):
            ledger.hold("vm", "office")
        with pytest.raises(Unavailable):
            ledger.stand_down(StandDown("vm", "web", "office", "it runs at recovery"))
    assert "room" in raised.value.hint
    assert ledger.desired.generation == 1  # so it will be told again
    assert ledger.standdown("vm", "office") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["agent.json"]
    ledger.save_desired(DesiredState(generation=2, protections=(WISH,)))
    again = Ledger(tmp_path / "agent.json")
    assert (again.desired.generation, again.standdown("vm", "office") is not None) == (2, True)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (lambda ledger: ledger.stand_down(StandDown("vm", "web", "office", "why")), Ledger.stand_up),
        (lambda ledger: ledger.hold("vm", "office"), Ledger.stand_up),
        (lambda ledger: ledger.hold("vm", "office"), Ledger.unhold),
        (lambda ledger: ledger.owe(Owed("vm", "web", "office", 3, {}, ["r"])), Ledger.unowe),
    ],
)
def test_on_a_full_disk_nothing_is_half_let_go_of(tmp_path, full, begin, end):
    """Or the next time it would pass for done, and a restart would bring it back."""
    ledger = Ledger(tmp_path / "agent.json")
    begin(ledger)
    with full(), pytest.raises(Unavailable):
        end(ledger, "vm", "office")
    assert ledger.holds("vm", "office")
    end(ledger, "vm", "office")
    assert not ledger.holds("vm", "office")
    assert not Ledger(tmp_path / "agent.json").holds("vm", "office")


def test_an_order_that_cannot_be_kept_is_carried_out_when_there_is_room(tmp_path, full):
    """The console tells it again; the VM is kept off at once."""
    ledger, host = Ledger(tmp_path / "agent.json"), MemoryHypervisor("office")
    hosts = {"office": Source(HostConfig("office", "source", ""), host)}
    agent = Agent("office", hosts, None, ledger, Services("office", CopyPool.make(1)), None)
    off = [StandDownMessage(vm_id=vm, vm_name=vm, host="office", reason="it runs at recovery") for vm in ("a", "b")]
    order = DesiredState(generation=7, standdowns=tuple(off))
    with full(), pytest.raises(Unavailable):
        agent.apply(order)
    assert agent.report().generation == 0
    assert {standdown.vm_id for standdown in ledger.standdowns()} == {"a", "b"}
    agent.apply(order)
    assert agent.report().generation == 7
    assert len(Ledger(tmp_path / "agent.json").standdowns()) == 2


def test_an_epoch_is_not_turned_back_by_a_worker_that_is_late(tmp_path):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.save_epoch("vm", 3, "office")
    ledger.save_epoch("vm", 2, "office")
    assert ledger.epoch_of("vm", "office") == 3
    ledger.save_epoch("vm", 4, "recovery")
    assert ledger.epoch_of("vm", "recovery") == 4
    ledger.save_epoch("vm", 5, "office")
    assert Ledger(tmp_path / "agent.json").epoch_of("vm", "office") == 5
