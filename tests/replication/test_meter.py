"""Progress as people see it: bytes, what they took lately, and when it will be over."""

import pytest

from leeward.replication.meter import WINDOW_S, Meter

MIB = 1 << 20


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_rate_and_rest_of_a_steady_copy(clock):
    meter = Meter("initial", 100 * MIB, clock)
    begun = meter.progress()
    assert (begun.done, begun.total, begun.rate, begun.eta_s, begun.fraction) == (0, 100 * MIB, 0.0, None, 0.0)
    for second in range(1, 6):
        clock.now += 1
        meter.advance(4 * MIB, second * MIB)
    seen = meter.progress()
    assert (seen.phase, seen.done, seen.sent) == ("initial", 20 * MIB, 5 * MIB)
    assert seen.rate == pytest.approx(4 * MIB)
    assert seen.eta_s == pytest.approx(20)
    assert seen.fraction == pytest.approx(0.2)


def test_a_change_of_speed_counts_after_the_window(clock):
    meter = Meter("initial", 1000 * MIB, clock)
    for rate in (20, 2):
        for _ in range(int(WINDOW_S) + 2):
            clock.now += 1
            meter.advance(rate * MIB, 0)
    assert meter.progress().rate == pytest.approx(2 * MIB)


def test_a_copy_that_stands_still_grows_slower_and_later(clock):
    meter = Meter("resync", 100 * MIB, clock)
    clock.now += 1
    meter.advance(10 * MIB, 0)
    before = meter.progress()
    clock.now += 9
    after = meter.progress()
    assert after.rate < before.rate
    assert after.eta_s > before.eta_s


def test_what_is_done_has_no_rest(clock):
    meter = Meter("initial", 10 * MIB, clock)
    clock.now += 1
    meter.advance(10 * MIB, 0)
    assert (meter.progress().fraction, meter.progress().eta_s) == (1.0, 0.0)
    assert Meter("initial", 0, clock).progress().fraction == 1.0
