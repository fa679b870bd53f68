"""Pruning: what the rules keep stays exact whatever happens, what goes is gone for good, and nothing else."""

import random
import threading
import time

import pytest
from tests.vault.conftest import VM

from leeward.domain.errors import Damaged, Fenced, Refused, StoreError, StoreFull, StoreReadOnly
from leeward.domain.retention import Retention
from leeward.vault import keyspace, prune
from leeward.vault.check import check
from leeward.vault.lease import Lease

SHORT = Retention(10.0)


@pytest.fixture(scope="module")
def forty(first_pen):
    """Forty points, a second apart; a disk of four megabytes, overwritten in eight places again and again."""
    pen = first_pen
    pen.resize("vda", 64)
    pen.put("vda", 0, random.Random(0).randbytes(64 * 65536))
    pen.commit()
    for number in range(1, 40):
        pen.put("vda", number % 8 * 4, random.Random(number).randbytes(4 * 65536))
        pen.commit()
        if number % 9 == 0:
            pen.writer.write_map()
    return pen


@pytest.fixture
def long(forty, small_objects):
    return forty.copy()


def sound(pen):
    for keys in (None, pen.vault.keys):
        report = check(pen.vault.store, keys=keys, deep=keys is not None)
        assert report.troubles == []
        assert report.hurt == {}


def keys_of(pen):
    return {info.key for info in pen.vault.store.scan("")}


def test_what_is_old_goes_and_the_rest_stays_exact(long):
    before = sum(info.size for info in long.vault.store.scan("vm/"))
    done = long.prune(SHORT)
    after = sum(info.size for info in long.vault.store.scan("vm/"))
    assert done.points >= 25
    # The horizon itself is all that came.
    assert before - done.bytes <= after <= before - done.bytes + 4096
    assert done.bytes > 1 << 20
    long.check_all()
    sound(long)


def test_a_plan_changes_nothing(long):
    there = keys_of(long)
    plan = long.vault.prune_plan(VM, SHORT, now_ns=long.time)
    assert plan.drop
    assert plan.delete
    assert keys_of(long) == there


def test_nothing_to_do_is_an_empty_plan(long):
    assert long.vault.prune_plan(VM, Retention(3600.0), now_ns=long.time).empty
    long.prune(SHORT)
    assert long.vault.prune_plan(VM, SHORT, now_ns=long.time).empty


def test_writing_goes_on_after_and_pruning_goes_on_with_it(long):
    for round_ in range(6):
        long.prune(SHORT)
        for number in range(12):
            long.put("vda", (round_ * 7 + number) % 60, random.Random(round_ * 100 + number).randbytes(2 * 65536))
            long.commit()
        long.writer.write_map()
        long.check_all()
        sound(long)
    long.reopen(new_epoch=True)
    long.put("vda", 5, b"after").commit()
    long.check_all()
    # Ten seconds of points, and what is up to an eighth of the window older.
    long.prune(SHORT)
    assert len(long.remembered) <= 13


def test_thinned_points_outlive_the_log_around_them(long):
    long.time += 3 * 3600 * 10**9
    for number in range(30):
        long.put("vda", number, random.Random(1000 + number).randbytes(65536))
        long.commit()
    # A stretch without points counts for half the window only, so the old ones are some twenty seconds old.
    done = long.prune(Retention(10.0, hourly_s=86_400.0))
    assert done.points
    hours = {point.time_ns // (3600 * 10**9) for point in long.vault.log(VM).points()}
    assert len(hours) >= 2
    long.check_all()
    sound(long)
    long.prune(SHORT)
    long.check_all()
    sound(long)


@pytest.mark.parametrize("step", prune.STEPS)
def test_killed_at_every_step(long, step):
    class Killed(BaseException):
        pass

    def die(name):
        if name == step:
            raise Killed

    everything = dict(long.remembered)
    with pytest.raises(Killed):
        long.prune(SHORT, die)
    for point in long.vault.log(VM).points():
        long.remembered = {point.id: everything[point.id]}
        long.check(point.id)
    sound(long)
    long.remembered = {point.id: everything[point.id] for point in long.vault.log(VM).points()}
    long.prune(SHORT)
    assert long.vault.prune_plan(VM, SHORT, now_ns=long.time).empty
    long.reopen(expect_epoch=long.writer.state.epoch)
    long.put("vda", 1, b"on").commit()
    long.check_all()
    sound(long)


def test_a_pinned_point_stays_until_it_is_let_go(long):
    wanted = list(long.remembered)[3]
    name = long.vault.pin(VM, wanted, "test", 3600)
    long.prune(SHORT)
    assert wanted in long.remembered
    long.check_all()
    sound(long)
    long.vault.unpin(VM, name)
    long.prune(SHORT)
    assert wanted not in long.remembered
    long.check_all()


def test_a_point_pinned_in_the_last_moment_calls_it_off(long):
    wanted = list(long.remembered)[3]

    def pin(step):
        if step == "horizon-put":
            long.vault.pin(VM, wanted, "test", 3600)

    with pytest.raises(Refused, match="taken into use"):
        long.prune(SHORT, pin)
    long.check_all()
    sound(long)
    long.prune(SHORT)
    assert wanted in long.remembered
    long.check_all()


def test_a_pin_on_an_unknown_point_stops_deletion(long):
    long.vault.pin(VM, "99999", "test", 3600)
    there = {key for key in keys_of(long) if "/log/" in key or "/part/" in key}
    with pytest.raises(Refused, match="not known"):
        long.prune(SHORT)
    assert there <= keys_of(long)


def test_two_at_once(long):
    first = long.vault.prune_plan(VM, SHORT, now_ns=long.time)
    second = long.vault.prune_plan(VM, Retention(15.0), now_ns=long.time)
    long.vault.prune(first)
    with pytest.raises(Refused, match="another process"):
        long.vault.prune(second)
    long.remembered = {point.id: long.remembered[point.id] for point in long.vault.log(VM).points()}
    long.check_all()
    sound(long)


def spoil(store, key):
    data = bytearray(store.get(key))
    data[-5] ^= 1
    store.delete(key)
    store.put(key, [bytes(data)])


def test_a_damaged_map_prunes_nothing(long):
    plan = long.vault.prune_plan(VM, SHORT, now_ns=long.time)
    key = keyspace.map_(VM, plan.after.base)
    assert key in keys_of(long), "this test wants a base that exists already"
    spoil(long.vault.store, key)
    there = keys_of(long)
    with pytest.raises(Damaged):
        long.vault.prune(plan)
    assert keys_of(long) == there
    long.check_all()


def test_a_map_that_differs_from_the_log_prunes_nothing(long, monkeypatch):
    """Somebody's bug made a map that is well-formed and wrong."""
    plan = long.vault.prune_plan(VM, SHORT, now_ns=long.time)
    real = prune.History.checkpoint

    def wrong(history, seq):
        found = real(history, seq)
        if seq == plan.after.base:
            found.state.maps["vda"].put(7, 1, int(found.state.maps["vda"].locate(9, 1)[0]))
        return found

    monkeypatch.setattr(prune.History, "checkpoint", wrong)
    there = keys_of(long)
    with pytest.raises(Damaged, match="what the log says"):
        long.vault.prune(plan)
    assert keys_of(long) == there


def test_a_missing_part_prunes_nothing(long):
    plan = long.vault.prune_plan(VM, SHORT, now_ns=long.time)
    going = {info.key for info in plan.delete}
    base = plan.after.base
    data = [key for key in sorted(keys_of(long)) if "/log/" in key and keyspace.number_of(key) < base]
    needed = next(key for key in data if key not in going)
    long.vault.store.delete(needed)
    there = keys_of(long)
    with pytest.raises(Damaged, match="missing"):
        long.vault.prune(plan)
    assert there - {needed} <= keys_of(long)


def test_objects_under_a_lock_are_left_for_later(long, monkeypatch):
    real = long.vault.store.delete
    locked = set()

    def delete(key):
        if "/log/" in key and len(locked) < 2:
            locked.add(key)
            raise StoreError("the object is locked", subject=key)
        real(key)

    monkeypatch.setattr(long.vault.store, "delete", delete)
    done = long.prune(SHORT)
    assert done.locked == 2
    monkeypatch.undo()
    assert {info.key for info in long.vault.prune_plan(VM, SHORT, now_ns=long.time).delete} >= locked
    done = long.prune(SHORT)
    assert done.objects >= 2
    assert not locked & keys_of(long)


def test_a_read_only_store_loses_nothing(long, monkeypatch):
    def put(key, parts):
        raise StoreReadOnly("the vault is read-only", subject=key)

    monkeypatch.setattr(long.vault.store, "put", put)
    there = keys_of(long)
    with pytest.raises(StoreReadOnly):
        long.vault.prune(long.vault.prune_plan(VM, SHORT, now_ns=long.time))
    assert keys_of(long) == there


def test_damage_after_pruning_is_named(long):
    long.prune(SHORT)
    horizon = long.vault.prune_plan(VM, SHORT, now_ns=long.time).after
    store = long.vault.store
    base = keyspace.map_(VM, horizon.base)
    kept = store.get(base)
    store.delete(base)
    troubles = check(store).troubles
    assert [trouble.key for trouble in troubles] == [base]
    report = check(store, keys=long.vault.keys)
    assert set(report.hurt[VM]) == set(long.remembered)
    store.put(base, [kept])
    spoil(store, keyspace.horizon(VM, horizon.number))
    assert check(store).troubles


def test_a_missing_entry_after_the_horizon_is_named(long):
    long.prune(SHORT)
    newest = list(long.remembered)[-3]
    long.vault.store.delete(keyspace.log(VM, int(newest)))
    report = check(long.vault.store, keys=long.vault.keys)
    assert keyspace.log(VM, int(newest)) in [trouble.key for trouble in report.troubles]


def test_a_fenced_writer_prunes_nothing(long):
    epoch = long.writer.state.epoch
    assert long.vault.prune_plan(VM, SHORT, epoch=epoch, now_ns=long.time).drop
    long.writer.write_map()
    assert long.vault.prune_plan(VM, SHORT, epoch=epoch, now_ns=long.time).drop
    long.reopen(new_epoch=True)
    with pytest.raises(Fenced, match="is over"):
        long.vault.prune_plan(VM, SHORT, epoch=epoch, now_ns=long.time)


def test_a_point_that_is_being_read_stays(long):
    wanted = list(long.remembered)[2]
    with long.vault.holding(VM, wanted, "test") as held:
        assert held == wanted
        long.prune(SHORT)
        long.check(wanted)
    assert long.vault.pins(VM) == []
    long.prune(SHORT)
    assert wanted not in long.remembered


def test_a_lease_is_renewed_without_a_gap(long):
    made, dropped = [], []

    def put():
        made.append(long.vault.pin(VM, "3", "test", 3600))
        return made[-1]

    def drop(name):
        assert len(long.vault.pins(VM)) >= (2 if not over.is_set() else 1)
        dropped.append(name)
        long.vault.unpin(VM, name)

    over = threading.Event()
    with Lease(put, drop, every_s=0.01):
        while len(made) < 4:
            time.sleep(0.005)
        over.set()
    assert made == dropped
    assert long.vault.pins(VM) == []


@pytest.mark.parametrize("error", [StoreFull("it is full"), StoreReadOnly("it is read-only")])
def test_a_vault_that_cannot_be_written_is_read_without_a_pin(long, monkeypatch, error):
    def refuse(key, parts):
        raise error

    monkeypatch.setattr(long.vault.store, "put", refuse)
    assert long.vault.pin(VM, "3", "test", 3600) == ""
    with long.vault.holding(VM, "latest", "test") as held:
        long.check(held)
    monkeypatch.undo()
    assert long.vault.pins(VM) == []


def test_a_lease_takes_a_pin_as_soon_as_there_can_be_one_and_keeps_it(long):
    names = iter(["", "a", "", ""])
    dropped = []
    asked = []

    def put():
        asked.append(1)
        return next(names, "")

    with Lease(put, dropped.append, every_s=0.01):
        while len(asked) < 5:
            time.sleep(0.005)
        assert dropped == []
    assert dropped == ["a"]
