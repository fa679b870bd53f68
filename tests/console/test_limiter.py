"""Tries come at a pace, whatever is tried; the table never grows and never forgets."""

import threading

import pytest

from leeward.console.limiter import Limiter, Rule, network


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_burst_and_then_a_pace():
    clock = Clock()
    limiter = Limiter([Rule(3, 10.0)], clock=clock)
    assert [limiter.take("a") for _ in range(5)] == [0, 0, 0, 10, 10]
    clock.now += 4
    assert limiter.take("a") == 6
    clock.now += 6
    assert [limiter.take("a") for _ in range(2)] == [0, 10]
    clock.now += 1000
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, 10]


def test_other_keys_are_not_touched():
    limiter = Limiter([Rule(1, 10.0)], clock=Clock())
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0
    assert sum(limiter.take(str(n)) == 0 for n in range(20)) >= 18  # one or two may share a counter


def test_a_refused_try_costs_nothing_by_any_rule():
    clock = Clock()
    limiter = Limiter([Rule(1, 10.0), Rule(2, 100.0)], clock=clock)
    assert limiter.take("anna", "here") == 0
    for _ in range(5):
        assert limiter.take("anna", "here") == 10
    clock.now += 10
    assert limiter.take("anna", "here") == 0
    clock.now += 10
    assert limiter.take("anna", "here") == 80


def test_given_back():
    limiter = Limiter([Rule(1, 10.0)], clock=Clock())
    for _ in range(10):
        assert limiter.take("a") == 0
        limiter.give_back("a")
    assert limiter.take("a") == 0
    assert limiter.take("a") == 10


def test_a_flood_of_other_keys_frees_nobody():
    limiter = Limiter([Rule(1, 1000.0)], slots=64, clock=Clock())
    limiter.take("anna")
    for number in range(10_000):
        limiter.take(f"invented {number}")
    assert limiter.take("anna") > 0
    assert len(limiter._paid[0]) == 64


def test_many_at_once_get_no_more_than_the_burst():
    limiter = Limiter([Rule(10, 1000.0)], clock=Clock())
    got = []
    threads = [threading.Thread(target=lambda: got.append(limiter.take("a"))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(0) == 10


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address, expected):
    assert network(address) == expected
