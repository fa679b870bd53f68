"""Cycles start so early that the point is durable within the target, and never crowd out the guest."""

import pytest

from leeward.agent.pace import backoff, next_start, usual


def test_quick_cycles_keep_the_target():
    start = next_start(began=100.0, ended=100.1, usual_s=0.1, rpo_s=1.0)
    assert start == pytest.approx(100.8)
    assert start + 0.1 - 100.0 <= 1.0  # age of the old point when the new one is durable


def test_slow_cycles_leave_the_guest_some_rest():
    assert next_start(began=0.0, ended=4.0, usual_s=4.0, rpo_s=1.0) == 6.0


def test_usual_goes_up_at_once_and_down_slowly():
    assert usual(None, 1.0) == 1.0
    assert usual(1.0, 3.0) == 3.0
    assert usual(3.0, 1.0) == pytest.approx(2.6)


def test_backoff_grows_and_is_bounded():
    waits = [backoff(n) for n in range(1, 20)]
    assert waits == sorted(waits)
    assert waits[0] == 1.0
    assert waits[-1] == 15.0
