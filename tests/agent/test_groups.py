"""When a consistency group meets, and whom it waits for."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from leeward.agent import groups
from leeward.agent.groups import Fellow, Groups
from leeward.agent.standstill import Standstill
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.wire.messages import PolicyMessage, ProtectionMessage

NEVER = float("inf")


def wish(name, group="shop", host="office", every=5.0, **more):
    policy = PolicyMessage(group=group, group_s=every)
    return ProtectionMessage(vm_id=name, vm_name=name, host=host, policy=policy, **more)


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(groups, "_HEARD_S", 0.0)
    host = MemoryHypervisor("office")
    for name in ("db", "app", "web"):
        host.add(name, name, {"vda": bytes(65536)})
    return Groups({"office": host}, Standstill(tmp_path / "note.json"))


@pytest.fixture
def group(made):
    made.change([wish("db"), wish("app")])
    return made.of(wish("db"))


def meet(group, *names):
    """These come to the round, each in its thread."""
    seats = [group.join(name) for name in names]

    def come(seat):
        with seat.moment():
            pass

    with ThreadPoolExecutor(len(seats)) as pool:
        list(pool.map(come, seats))
    return seats


def test_a_round_is_due_once_all_are_able(group):
    assert group.due("db") == NEVER
    group.able("db")
    assert group.due("db") == NEVER
    assert group.join("db") is None
    group.able("app")
    assert group.due("db") <= time.monotonic()
    seats = meet(group, "db", "app")
    assert {seat.mark.id for seat in seats} == {seats[0].mark.id}
    assert 4 < group.due("db") - time.monotonic() <= 5  # the next one
    assert group.join("db") is None


def test_who_is_awaited_is_to_come_at_once_and_only_once(group):
    for name in ("db", "app"):
        group.able(name)
    seat = group.join("db")
    assert seat is not None
    assert group.due("app") == 0.0
    assert group.due("db") > time.monotonic()
    other = group.join("app")
    assert other is not None
    assert group.join("app") is None
    seat.withdraw("it failed")
    with other.moment():
        pass
    assert other.mark is None


def test_who_is_in_trouble_keeps_nobody_waiting(group):
    for name in ("db", "app"):
        group.able(name)
    group.unable("app")
    assert group.due("db") == NEVER
    assert group.trouble() == ""
    group._since -= 3600
    assert group.trouble() == "no common instant of group shop for 60 min: app cannot take part"
    group.able("app")
    meet(group, "db", "app")
    assert group.trouble() == ""


def test_members_come_and_go(made, group):
    for name in ("db", "app"):
        group.able(name)
    made.change([wish("db"), wish("app"), wish("web")])
    assert group.due("db") == NEVER  # the new one has to be able first
    group.able("web")
    assert group.due("db") <= time.monotonic()
    made.change([wish("db"), wish("app", paused=True)])
    assert group.members == {"db"}
    assert group.due("db") == NEVER  # alone it has nobody to agree with
    made.change([wish("db"), wish("app", group="other"), wish("web", host="elsewhere")])
    assert group.members == {"db"}
    assert made.of(wish("db", group="")) is None
    made.change([wish("db", every=30.0), wish("app", every=5.0)])
    assert group.every_s == 5.0


def test_a_cycle_that_would_be_late_for_the_round_is_left_to_it(made, group):
    fellow = Fellow(wish("db"), made.of)
    now = time.monotonic()
    assert fellow.due(now + 1, now, 0.5) == now + 1
    for name in ("db", "app"):
        group.able(name)
    group._next = now + 2.0
    assert fellow.due(now - 1, now, 0.5) == now - 1  # there is time for it
    assert fellow.due(now - 1, now, 3.0) == group._next
    assert fellow.due(now + 60, now, None) == group._next
    alone = Fellow(wish("db", group=""), made.of)
    assert alone.due(now + 60, now, 3.0) == now + 60
    assert alone.seat() is None
    assert alone.trouble() == ""


def test_nobody_is_left_standing_when_one_leaves_in_the_middle(made, group):
    for name in ("db", "app"):
        group.able(name)
    seat = group.join("db")
    made.change([wish("app")])
    with seat.moment():  # its round goes on with those it began with, and the other one does not come
        pass
    assert seat.mark is None
    assert all(vm.power is Power.RUNNING for vm in made._drivers["office"].vms())
