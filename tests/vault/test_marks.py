"""Marks of consistency groups: found again however a log is read, and kept by all VMs of a group or by none."""

import random

import pytest
from tests.vault.conftest import VM
from tests.vault.pen import Pen

from leeward.domain.consistency import common_marks
from leeward.domain.points import Mark
from leeward.domain.retention import Retention
from leeward.vault import keyspace

OTHER = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b22"


def mark(number, time_ns=5):
    return Mark(f"mark-{number}", "shop", time_ns, (VM, OTHER))


@pytest.fixture
def pen(pen):
    pen.resize("vda", 4)
    return pen


def marks(pen):
    return [point.mark for point in pen.vault.log(pen.vm_id).points()]


def test_it_is_told_by_the_point_its_listing_and_its_map(pen):
    pen.commit()
    assert pen.commit(keep_empty=True, mark=mark(1)).mark == mark(1)
    assert marks(pen) == [None, mark(1)]
    assert pen.log.tail().point.mark == mark(1)
    pen.writer.write_map()
    # From here on the entry itself is not needed to know.
    assert pen.log._history.listing(pen.writer.state.seq).points[-1].mark == mark(1)
    assert pen.log._history.checkpoint(pen.writer.state.seq).state.last_point.mark == mark(1)
    pen.commit(mark=mark(2))
    assert marks(pen) == [None, mark(1), mark(2)]
    pen.check_all()


def test_a_horizon_keeps_those_of_the_points_it_keeps(pen):
    for number in range(30):
        pen.put("vda", number % 4, random.Random(number).randbytes(65536))
        pen.commit(mark=mark(number) if number % 10 == 5 else None)
    chosen = pen.vault.log(VM).points()[15].id
    pen.vault.pin(VM, chosen, "test", 600)
    pen.prune(Retention(6.0))
    left = {point.id: point.mark for point in pen.vault.log(VM).points()}
    assert left[chosen] == mark(15)
    assert mark(25) in left.values()
    assert pen.log._history.horizon().points[0].mark == mark(15)
    pen.check_all()


def test_what_has_none_is_written_as_before_there_was_a_word_for_it(pen):
    """So vaults of older versions are read: their objects are just these."""
    point = pen.commit()
    pen.writer.write_map()
    reader = pen.vault._reader
    for key in (keyspace.log(VM, point.seq), keyspace.map_(VM, pen.writer.state.seq)):
        info = reader.meta(reader.open(key)).info
        assert "mark" not in info
        assert "marks" not in info


def test_a_group_keeps_a_mark_in_all_its_vms_or_in_none(vault):
    """One keeps all points for 20 s, the other for 60: a mark that the second one's rules keep, the first one keeps
    too, and what none keeps goes from both, whoever is pruned first."""
    pens = {vm_id: Pen(vault, vm_id).resize("vda", 1) for vm_id in (VM, OTHER)}
    rules = {VM: Retention(20.0), OTHER: Retention(60.0)}
    for number in range(100):
        for pen in pens.values():
            pen.commit(mark=mark(number, pen.time) if number % 5 == 0 else None)
    now = pens[VM].time

    def prune(vm_id):
        others = {other: rule for other, rule in rules.items() if other != vm_id}
        vault.prune(vault.prune_plan(vm_id, rules[vm_id], now_ns=now, together=others))

    def left(vm_id):
        return {point.mark.id for point in vault.log(vm_id).points() if point.mark}

    for vm_id in (VM, OTHER, VM):
        prune(vm_id)
    assert left(VM) == left(OTHER) == {f"mark-{number}" for number in range(40, 100, 5)}
    plain = [point for point in vault.log(VM).points() if point.mark is None]
    assert min(point.time_ns for point in plain) >= now - 21 * 10**9  # its own rules hold for the rest
    for vm_id, pen in pens.items():
        there = {point.id for point in vault.log(vm_id).points()}
        pen.remembered = {name: data for name, data in pen.remembered.items() if name in there}
        pen.check_all()


def test_of_an_hour_the_common_instant_is_kept(vault):
    hour, second = 3600 * 10**9, 10**9
    start = 10**18 - 10**18 % hour
    pens = {vm_id: Pen(vault, vm_id).resize("vda", 1) for vm_id in (VM, OTHER)}
    for number in range(5):
        for at in (600, 1800, 3000, 3599):
            instant = start + number * hour + at * second
            for late, pen in enumerate(pens.values()):
                pen.time = instant + late * second  # of the last one the second VM's point falls into the next hour
                pen.commit(mark=mark(number, instant) if at == 3599 else None)
    rule = Retention(60.0, hourly_s=10 * 3600.0)
    now = pens[VM].time
    for vm_id in pens:
        others = {other: rule for other in pens if other != vm_id}
        vault.prune(vault.prune_plan(vm_id, rule, now_ns=now, together=others))
    points = {vm_id: vault.log(vm_id).points() for vm_id in pens}
    assert [found.id for found in common_marks(points)] == [f"mark-{number}" for number in range(5)]
    assert all(len(found) <= 7 for found in points.values())
