"""Which points stay."""

from hypothesis import given
from hypothesis import strategies as st

from leeward.domain.points import RecoveryPoint
from leeward.domain.retention import Retention, ages, kept
from leeward.domain.vm import Consistency

START = 1_800_000_000 * 10**9
DAY = 86_400


def points(*seconds):
    return [
        RecoveryPoint(str(n), 1, START + int(s * 1e9), Consistency.CRASH, (), 0) for n, s in enumerate(seconds, 1)
    ]


def ids(found):
    return [int(point.id) for point in found]


def now(log):
    return log[-1].time_ns


def test_all_of_the_window():
    log = points(*range(0, 100, 10))
    assert ids(kept(log, Retention(30.0), now(log))) == [7, 8, 9, 10]


def test_the_newest_always_stays():
    log = points(0)
    assert ids(kept(log, Retention(1.0), START + 10**18)) == [1]
    assert kept([], Retention(1.0), START) == []


def test_a_vm_that_was_off_for_a_week_keeps_what_it_had():
    log = points(*range(100))
    assert len(kept(log, Retention(3600.0), START + 7 * DAY * 10**9)) == 100


def test_a_clock_that_jumped_ahead_does_not_make_everything_old():
    log = points(*range(1000), 365 * DAY, 365 * DAY + 1)
    left = ids(kept(log, Retention(600.0), now(log)))
    # Half of the window is still from before the jump.
    assert left[:1] == [701]
    assert len(left) == 302


def test_a_clock_set_back_keeps_more_not_less():
    log = points(*range(1000, 1100), *range(100, 200))
    left = kept(log, Retention(50.0), now(log))
    assert ids(left)[-51:] == list(range(150, 201))


def test_one_an_hour_then_one_a_day():
    log = points(*(n * 600 for n in range(6 * 24 * 10)))  # ten days, one each ten minutes
    left = kept(log, Retention(3600.0, hourly_s=DAY, daily_s=5 * DAY), now(log))
    old = [(now(log) - point.time_ns) / 1e9 for point in left]
    assert sum(age <= 3600 for age in old) == 7
    assert 22 <= sum(3600 < age <= DAY for age in old) <= 25
    assert 4 <= sum(age > DAY for age in old) <= 5
    assert max(old) <= 5 * DAY


def test_pinned_points_stay():
    log = points(*range(100))
    assert ids(kept(log, Retention(5.0), now(log), {"3"}))[0] == 3


@given(
    st.lists(st.floats(0, 10 * DAY), min_size=1, max_size=40),
    st.floats(1, 2 * DAY),
    st.floats(0, 5 * DAY),
    st.floats(0, 9 * DAY),
)
def test_rules_only_ever_add_up(gaps, window, hourly, daily):
    at, seconds = 0.0, []
    for gap in gaps:
        at += gap
        seconds.append(at)
    log = points(*seconds)
    old = ages(log, now(log), window)
    assert old == sorted(old, reverse=True)
    few = set(ids(kept(log, Retention(window), now(log))))
    more = set(ids(kept(log, Retention(window, hourly, daily), now(log))))
    assert few <= more
    assert len(log) in few
    # What the clock calls young is never dropped.
    young = {n for n, point in enumerate(log, 1) if (now(log) - point.time_ns) / 1e9 <= window}
    assert young <= few
