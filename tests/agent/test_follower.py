"""The follower serves VMs in turn, slows down on errors, and leaves alone what a failover needs."""

import threading
import time

import pytest

from leeward.agent import follower as module
from leeward.agent.follower import Follower
from leeward.domain.errors import Refused, StoreFull
from leeward.recovery.memory_replicas import MemoryReplica
from leeward.wire.messages import ReplicaMessage


class Shelf:
    """Replicas of one host. work(vm_id, progress): what an advance does."""

    def __init__(self, work=lambda vm_id, progress: None):
        self.work, self.known, self.looks = work, {}, []

    def advance(self, vm_id, point_id="latest", progress=None):
        self.looks.append(vm_id)
        record = self.known.setdefault(vm_id, MemoryReplica(vm_id, f"r-{vm_id}"))
        self.work(vm_id, progress)
        record.point, record.time_ns = "7", 10**18

    def record(self, vm_id):
        return self.known.get(vm_id)

    def records(self):
        return list(self.known.values())

    def sizes(self):
        return {f"r-{vm_id}": 4096 for vm_id in self.known}

    def remove(self, vm_id):
        if self.known[vm_id].taken:
            raise Refused("in use")
        del self.known[vm_id]


def wish(vm_id, host="recovery", **how):
    return ReplicaMessage(vm_id=vm_id, vm_name=f"name of {vm_id}", host=host, **how)


@pytest.fixture
def follow(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(module, "_CACHE_S", 0.0)
    monkeypatch.setattr(module, "pace", lambda rpo: 0.05)
    made = []

    def begin(shelf, wishes):
        made.append(Follower(lambda: wishes, {"recovery": lambda: shelf}))
        made[-1].start()
        return made[-1]

    yield begin
    for follower in made:
        follower.stop(5)


def until(condition, seconds=5):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_look_costs_no_more_than_the_target_asks_for():
    assert module.pace(1.0) == 3.0
    assert module.pace(60.0) == 60.0


def test_each_is_looked_at_again_and_again_and_what_is_not_wished_goes(follow):
    shelf, wishes = Shelf(), [wish("a"), wish("b")]
    follower = follow(shelf, wishes)
    until(lambda: shelf.looks.count("a") > 3 and shelf.looks.count("b") > 3)
    told = {report.vm_id: report for report in follower.reports()}
    assert (told["a"].state, told["a"].point, told["a"].bytes, told["a"].fraction) == ("warm", "7", 4096, 1.0)
    del wishes[0]
    until(lambda: [record.vm_id for record in shelf.records()] == ["b"])
    shelf.known["b"].taken = "copy"
    wishes.clear()
    time.sleep(0.1)
    assert [report.state for report in follower.reports()] == ["taken"]  # a VM has it
    shelf.known["b"].taken = ""
    until(lambda: not shelf.records())


def test_nothing_is_removed_before_it_is_known_what_is_wished(follow):
    shelf = Shelf()
    shelf.known["a"] = MemoryReplica("a", "r-a", point="1")
    follow(shelf, None)
    time.sleep(0.1)
    assert shelf.records()


def test_long_copies_give_way_to_others_and_get_on(follow, monkeypatch):
    monkeypatch.setattr(module, "_PARALLEL", 1)
    monkeypatch.setattr(module, "_TURN_S", 0.02)
    began = time.monotonic()
    turns = []

    def work(vm_id, progress):
        if vm_id == "small":
            return
        turns.append(time.monotonic() - began)
        ends = time.monotonic() + 0.15  # as long as an advance of these takes when nobody interrupts it
        while time.monotonic() < ends:
            progress(1, 2, 0)
            time.sleep(0.002)

    shelf = Shelf(work)
    follower = follow(shelf, [wish("large"), wish("vast"), wish("small")])
    until(lambda: "small" in shelf.looks)
    assert shelf.record("large").point == ""
    assert {report.vm_id: report.fraction for report in follower.reports()}["large"] == 0.5
    until(lambda: shelf.record("large").point and shelf.record("vast").point)
    assert len(turns) > 2


def test_trouble_is_told_by_name_and_looks_become_rare(follow, monkeypatch):
    monkeypatch.setattr(module, "PACE_S", 0.05)

    def work(vm_id, progress):
        raise StoreFull(f"no room for {vm_id}", subject="/images")

    shelf = Shelf(work)
    follower = follow(shelf, [wish("id-a"), wish("id-b", host="elsewhere")])
    until(lambda: len(shelf.looks) == 3)
    told = {report.vm_id: report for report in follower.reports()}
    assert (told["id-a"].state, told["id-a"].reason) == ("error", "/images: no room for name of id-a")
    assert "storage folder" in told["id-b"].reason
    time.sleep(0.1)
    assert len(shelf.looks) < 5
    shelf.known["id-a"].point = "3"
    assert follower.reports()[0].state == "behind"
    shelf.work = lambda vm_id, progress: None
    until(lambda: follower.reports()[0].state == "warm")


def test_a_failover_interrupts_it_and_is_left_alone(follow):
    entered = threading.Event()

    def work(vm_id, progress):
        entered.set()
        while True:
            progress(0, 1, 0)
            time.sleep(0.005)

    shelf = Shelf(work)
    follower = follow(shelf, [wish("a")])
    entered.wait(5)
    with follower.sparing("a"), follower.sparing("a"):
        looks = len(shelf.looks)
        assert not follower._busy("a")
        time.sleep(0.1)
        assert len(shelf.looks) == looks
    until(lambda: len(shelf.looks) > looks)


def test_it_fetches_no_faster_than_the_policy_allows(follow):
    done = threading.Event()

    def work(vm_id, progress):
        for fetched in range(0, 3000, 500):
            progress(fetched, 3000, fetched)
        done.set()

    follow(Shelf(work), [wish("a", bandwidth=2000)])
    assert not done.wait(0.15)
    assert done.wait(5)
