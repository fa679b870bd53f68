"""How fast a vault grows, and when its disk is full."""

import pytest

from leeward.domain.growth import DAY_S, Size, full_in_s, per_day

MIB = 1 << 20


def sizes(days, of_day):
    return [Size(1e9 + hour * 3600, int(of_day(hour / 24))) for hour in range(int(days * 24) + 1)]


def test_a_steady_growth_is_found_whatever_the_noise():
    found = per_day(sizes(5, lambda day: 100 * MIB + day * 7 * MIB + (day * 24 % 3) * 1000))
    assert found == pytest.approx(7 * MIB, rel=0.01)


def test_only_the_last_two_weeks_count():
    """The first copies were large; since then little has come."""
    found = per_day(sizes(40, lambda day: min(day, 20) * 900 * MIB + day * MIB))
    assert found == pytest.approx(MIB, rel=0.01)


def test_what_shrinks_is_never_full():
    found = per_day(sizes(3, lambda day: 900 * MIB - day * MIB))
    assert found == pytest.approx(-MIB, rel=0.01)
    assert full_in_s(5 * MIB, found) is None


@pytest.mark.parametrize("short", [[], [Size(1e9, 5)], [Size(1e9, 5), Size(1e9 + 5 * 3600, 9)]])
def test_too_little_is_not_guessed_from(short):
    assert per_day(short) is None


def test_when_it_is_full():
    assert full_in_s(30 * MIB, 10.0 * MIB) == 3 * DAY_S
    assert full_in_s(None, 10.0) is None
    assert full_in_s(10, None) is None
    assert full_in_s(10, 0.0) is None
