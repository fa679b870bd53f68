"""Which instant the VMs of a group come back to."""

from leeward.domain.consistency import choose, common_marks
from leeward.domain.points import Mark, RecoveryPoint
from leeward.domain.vm import Consistency


def log(*entries):
    """(time in seconds, mark or None) → points."""
    return [
        RecoveryPoint(
            str(number),
            1,
            int(at * 1e9),
            Consistency.CRASH,
            (),
            0,
            Mark(name, "shop", int(at * 1e9), ("a", "b")) if name else None,
        )
        for number, (at, name) in enumerate(entries, 1)
    ]


def test_the_newest_mark_that_all_have():
    points = {"a": log((1, "m1"), (2, "m2"), (3, None), (4, "m4")), "b": log((1, "m1"), (2, None), (3, "m2"))}
    assert [mark.id for mark in common_marks(points)] == ["m1", "m2"]
    chosen = choose("shop", 60.0, points)
    assert chosen.points == {"a": "2", "b": "3"}
    assert chosen.note == "one instant of group shop, 2.0 s older than the newest point"
    assert chosen.late == ""


def test_without_a_common_mark_each_takes_its_newest():
    chosen = choose("shop", 60.0, {"a": log((1, "m1")), "b": log((1, None))})
    assert chosen.points == {}
    assert "no instant yet" in chosen.note
    assert common_marks({}) == []


def test_an_old_one_has_to_be_wished():
    points = {"a": log((0, "m1"), (7200, None)), "b": log((0, "m1"))}
    assert "last agree 2 h before" in choose("shop", 60.0, points).late
    assert choose("shop", 3600.0, points).late == ""
    assert choose("shop", 60.0, points).points == {"a": "1", "b": "1"}


def test_a_clock_that_was_set_back_makes_no_older_mark_the_newest():
    """For the hour that comes again all would have gone back to before it, and none would have been told."""
    before, after = [(7200, "m1"), (7260, "m2")], [(3700, "m3"), (3720, None)]
    points = {"a": log(*before, *after), "b": log(*before, *after)}
    assert [mark.id for mark in common_marks(points)] == ["m1", "m2", "m3"]
    chosen = choose("shop", 60.0, points)
    assert chosen.points == {"a": "3", "b": "3"}
    assert chosen.note == "one instant of group shop, 20 s older than the newest point"


def test_an_old_mark_is_told_as_old_although_the_clock_was_set_back():
    points = {"a": log((7200, "m1"), (3600, None), (5400, None)), "b": log((7200, "m1"))}
    assert "last agree 30 min before" in choose("shop", 60.0, points).late
