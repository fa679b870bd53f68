"""Schedules of drills beside the plans that they belong to."""

from threading import Barrier, Thread

import pytest

from leeward.domain.drills import Mode, Schedule, subject_of
from leeward.domain.errors import NotFound, Refused
from leeward.domain.plans import Group, Member, Plan

SHOP = Schedule(subject_of("shop"), 3600.0)


def plan(name):
    return Plan(name, (Group("database", (Member("v1", "db"),)),))


def wished(database):
    return [kept.schedule.subject for kept in database.drills.all() if kept.schedule.mode is not Mode.OFF]


def test_a_plan_that_is_gone_gets_no_schedule(open_database):
    database = open_database()
    with pytest.raises(NotFound, match="no such plan"):
        database.drills.put(SHOP)
    database.plans.add(plan("shop"))
    database.drills.put(SHOP)
    assert wished(database) == [SHOP.subject]
    database.plans.remove("shop")
    with pytest.raises(NotFound, match="no such plan"):
        database.drills.put(SHOP)
    assert wished(database) == []


@pytest.mark.parametrize("end", ["removed", "renamed"])
def test_a_plan_that_goes_at_the_same_moment_leaves_no_schedule_behind(open_database, end):
    database, other = open_database(), open_database()

    def schedule(barrier):
        barrier.wait(10)
        try:
            database.drills.put(SHOP)
        except NotFound:
            return

    for _ in range(20):
        database.plans.add(plan("shop"))
        barrier = Barrier(2)
        thread = Thread(target=schedule, args=(barrier,))
        thread.start()
        barrier.wait(10)
        if end == "removed":
            other.plans.remove("shop")
        else:
            other.plans.change("shop", plan("store"), None)
        thread.join(20)
        assert SHOP.subject not in wished(database)
        for name in ("shop", "store"):
            database.plans.remove(name)
            database.drills.forget(subject_of(name))


def test_a_plan_does_not_get_the_name_of_another_one(open_database):
    database = open_database()
    for name in ("shop", "other"):
        database.plans.add(plan(name))
        database.drills.put(Schedule(subject_of(name), 3600.0))
    with pytest.raises(Refused, match="a plan of this name exists"):
        database.plans.change("other", plan("shop"), None)
    assert wished(database) == [subject_of("other"), SHOP.subject]
