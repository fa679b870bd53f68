"""Which drill is begun, ended or left alone, told by schedules and by what is known."""

from dataclasses import replace

import pytest

from leeward.domain.drills import (
    CLEAN_AGAIN_S,
    LONGEST_S,
    RETRY_S,
    Deed,
    Do,
    Known,
    Mode,
    Schedule,
    decide,
    due,
    in_window,
    next_due,
    plan_of,
    read_window,
    show_window,
    subject_of,
)
from leeward.domain.errors import BadInput

DAY = 86_400.0
NOW = 1000 * DAY
MONTHLY = Schedule("v1", 30 * DAY, Mode.RUN, since=NOW - 1)
STALE = NOW - 31 * DAY
BEGIN = [Deed(Do.BEGIN, "v1")]


def deeds(known, schedule=MONTHLY, now=NOW, minute=0):
    return decide([(schedule, known)], now, minute)


def test_when_a_test_is_due():
    assert next_due(MONTHLY, None) == NOW - 1
    assert next_due(MONTHLY, NOW - DAY) == NOW + 29 * DAY
    assert due(MONTHLY, Known(True, tested=STALE), NOW)
    assert not due(MONTHLY, Known(True, tested=STALE), NOW - 2 * DAY)


def test_what_is_due_is_begun():
    assert deeds(Known(True)) == BEGIN
    assert deeds(Known(True, tested=STALE)) == BEGIN
    assert deeds(Known(True, tested=NOW - DAY)) == []
    assert deeds(Known(True), replace(MONTHLY, mode=Mode.WARN)) == []


@pytest.mark.parametrize(
    "known",
    [
        Known(False, tested=STALE),  # disabled, paused, in error, or being moved
        Known(True, busy=True),
        Known(True, copy=True),
        Known(True, cleaning=True),
        Known(True, tried=NOW - RETRY_S + 1),
    ],
)
def test_what_is_not_begun(known):
    assert deeds(known) == []


def test_what_failed_is_tried_again_the_next_day_or_sooner():
    assert deeds(Known(True, tried=NOW - RETRY_S)) == BEGIN
    hourly = replace(MONTHLY, every_s=3600.0)
    assert deeds(Known(True, tried=NOW - 3600.0), hourly) == BEGIN
    assert deeds(Known(True, tried=NOW - 3599.0), hourly) == []


def test_windows():
    night = replace(MONTHLY, begins=22 * 60, ends=4 * 60)
    assert [in_window(night, hour * 60) for hour in (21, 22, 23, 0, 3, 4, 12)] == [
        False,
        True,
        True,
        True,
        True,
        False,
        False,
    ]
    noon = replace(MONTHLY, begins=12 * 60, ends=13 * 60)
    assert [in_window(noon, minute) for minute in (719, 720, 779, 780)] == [False, True, True, False]
    assert in_window(MONTHLY, 5)
    assert deeds(Known(True), night, minute=12 * 60) == []
    assert deeds(Known(True), night, minute=23 * 60) == BEGIN
    # What has begun is brought to its end, window or not.
    ended = Known(True, ended=NOW - 600, copy=True)
    assert deeds(ended, night, minute=12 * 60) == [Deed(Do.CLEAN, "v1")]


def test_a_copy_is_removed_when_its_time_is_over():
    known = Known(True, tested=NOW - 599, ended=NOW - 599, copy=True)
    assert deeds(known) == []
    assert deeds(known, now=NOW + 1) == [Deed(Do.CLEAN, "v1")]
    assert deeds(known, replace(MONTHLY, mode=Mode.WARN), now=NOW + 1) == [Deed(Do.CLEAN, "v1")]
    assert deeds(replace(known, cleaning=True), now=NOW + 1) == []
    assert deeds(replace(known, cleaned=NOW), now=NOW + CLEAN_AGAIN_S - 1) == []
    assert deeds(replace(known, cleaned=NOW), now=NOW + CLEAN_AGAIN_S) == [Deed(Do.CLEAN, "v1")]


def test_one_that_is_off_is_forgotten_when_nothing_of_it_is_left():
    off, forget = replace(MONTHLY, mode=Mode.OFF), [Deed(Do.FORGET, "v1")]
    assert deeds(Known(True, tested=STALE), off) == forget
    assert deeds(Known(True), MONTHLY) == BEGIN
    assert deeds(Known(True, going=True, tried=NOW - 5), off) == []
    assert deeds(Known(True, going=True, tried=NOW - LONGEST_S - 1), off) == [Deed(Do.TAKE_BACK, "v1")]
    ended = Known(True, ended=NOW, tried=NOW - 5)
    there = replace(ended, copy=True)
    assert deeds(there, off, now=NOW + 599) == []
    assert deeds(there, off, now=NOW + 600) == [Deed(Do.CLEAN, "v1")]
    assert deeds(there, off, now=NOW + DAY) == [Deed(Do.CLEAN, "v1")]
    # A copy may not have been told of yet.
    assert deeds(ended, off, now=NOW + 599 + CLEAN_AGAIN_S) == []
    assert deeds(ended, off, now=NOW + 600 + CLEAN_AGAIN_S) == forget
    assert deeds(replace(ended, cleaning=True), off, now=NOW + DAY) == []


def test_one_that_never_comes_up_is_taken_back():
    going = Known(True, going=True, tried=NOW - LONGEST_S)
    assert deeds(going) == []
    assert deeds(going, now=NOW + 1) == [Deed(Do.TAKE_BACK, "v1")]
    assert deeds(replace(going, ending=True), now=NOW + 1) == []  # once
    assert deeds(replace(going, noted=True), now=NOW + 1) == []  # it had stalled, and somebody goes on with it


def test_what_a_plan_asks_for_is_given_while_it_is_not_too_late():
    asks = Known(True, going=True, asks=True, tried=NOW - LONGEST_S)
    assert deeds(asks) == [Deed(Do.APPROVE, "v1")]
    assert deeds(asks, now=NOW + 1) == [Deed(Do.TAKE_BACK, "v1")]
    assert deeds(replace(asks, longest_s=LONGEST_S + 60), now=NOW + 60) == [Deed(Do.APPROVE, "v1")]
    assert deeds(replace(asks, going=False)) == []


def test_one_that_takes_long_by_its_plan_holds_up_the_others_for_longer():
    going = Known(True, going=True, ending=True, tried=NOW - LONGEST_S - CLEAN_AGAIN_S - 60)
    other = (MONTHLY, Known(True))
    for longest_s, found in ((LONGEST_S, BEGIN), (LONGEST_S + 60, [])):
        assert decide([other, (replace(MONTHLY, subject="p"), replace(going, longest_s=longest_s))], NOW, 0) == found


def test_plans_are_told_from_vms():
    assert plan_of(subject_of("shop: plan:")) == "shop: plan:"
    assert plan_of("6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b01") is None


def test_one_at_a_time_the_longest_due_first():
    second = replace(MONTHLY, subject="v2")
    both = [(MONTHLY, Known(True, tested=STALE)), (second, Known(True, tested=STALE - DAY))]
    assert decide(both, NOW, 0) == [Deed(Do.BEGIN, "v2")]
    for holding in (
        Known(True, going=True, tried=NOW - 5),
        Known(True, ended=NOW - 5, tested=NOW - 5, copy=True, tried=NOW - 90),
    ):
        assert decide([both[0], (second, holding)], NOW, 0) == []
    # One that cannot be taken back does not hold up the others for ever.
    for ago, found in ((LONGEST_S + CLEAN_AGAIN_S, []), (LONGEST_S + CLEAN_AGAIN_S + 1, BEGIN)):
        stuck = Known(True, going=True, ending=True, tried=NOW - ago)
        assert decide([both[0], (second, stuck)], NOW, 0) == found
    # A copy that cannot be removed does not hold up the others for ever.
    left = Known(True, ended=NOW - 600 - CLEAN_AGAIN_S, copy=True, tried=NOW - DAY, cleaned=NOW - 5)
    assert decide([both[0], (second, left)], NOW, 0) == BEGIN


@pytest.mark.parametrize(
    ("text", "minutes"), [("", (0, 0)), ("22:00-04:00", (1320, 240)), (" 1:05 – 2:59 ", (65, 179))]
)
def test_windows_as_they_are_written(text, minutes):
    assert read_window(text) == minutes
    assert read_window(show_window(*minutes)) == minutes


@pytest.mark.parametrize("text", ["22", "24:00-25:00", "22:60-23:00", "night", "22:00-", "1:1-2:2"])
def test_what_is_no_window(text):
    with pytest.raises(BadInput):
        read_window(text)
