"""Compaction moves what is in use out of mostly dead objects; content and points stay, pruning frees the space."""

import random

import pytest
from tests.vault.conftest import VM
from tests.vault.test_prune import sound

from leeward.domain.errors import Damaged, Fenced
from leeward.domain.retention import Retention
from leeward.vault import compaction, keyspace
from leeward.vault.check import check
from leeward.vault.compaction import Usage, compact, move, victims
from leeward.vault.history import History

SHORT = Retention(10.0)


@pytest.fixture(autouse=True)
def small(monkeypatch, small_objects):
    monkeypatch.setattr(compaction, "_LEAST_DEAD", 8)


@pytest.fixture(scope="module")
def worn_out(first_pen):
    """A first copy of 64 blocks in objects of 32, of which two thirds are overwritten and pruned."""
    pen = first_pen
    pen.resize("vda", 64)
    pen.put("vda", 0, random.Random(0).randbytes(64 * 65536))
    pen.commit()
    for number in range(60):
        pen.put("vda", number % 21 * 3, random.Random(number).randbytes(2 * 65536))
        pen.commit()
    pen.writer.write_map()
    pen.prune(SHORT)
    return pen


@pytest.fixture
def worn(worn_out):
    return worn_out.copy()


def history(pen):
    return History(pen.vault._reader, VM)


def size(pen):
    return sum(info.size for info in pen.vault.store.scan("vm/"))


def work_on(pen, commits=14):
    for number in range(commits):
        pen.put("vda", number % 21 * 3, random.Random(500 + number).randbytes(65536))
        pen.commit()
    pen.writer.write_map()


def test_space_comes_back(worn):
    assert compact(history(worn), worn.writer, 1000) > 0
    worn.check_all()
    sound(worn)
    base = worn.vault.prune_plan(VM, SHORT, now_ns=worn.time).after.base
    first = keyspace.part(VM, 2, 0)[:-10]
    assert any(info.key.startswith(first) for info in worn.vault.store.scan("vm/"))
    before = size(worn)
    work_on(worn)
    worn.prune(SHORT)
    assert worn.vault.prune_plan(VM, SHORT, now_ns=worn.time).after.base > base
    assert not any(info.key.startswith(first) for info in worn.vault.store.scan("vm/"))
    assert size(worn) < before
    worn.check_all()
    sound(worn)


def test_nothing_to_gain_moves_nothing(pen):
    pen.resize("vda", 64)
    pen.put("vda", 0, random.Random(0).randbytes(64 * 65536))
    for _ in range(20):
        pen.commit()
    pen.writer.write_map()
    pen.prune(SHORT)
    assert compact(history(pen), pen.writer, 1000) == 0


def test_slices_are_bounded_and_come_to_an_end(worn):
    slices = []
    while moved := compact(history(worn), worn.writer, 16):
        slices.append(moved)
        assert len(slices) < 50
    assert slices
    assert max(slices) <= 32  # the budget, or the one object that is larger
    worn.check_all()


def test_no_point_comes_of_it(worn):
    before = worn.vault.log(VM).points()
    tracking = worn.writer.state.tracking
    compact(history(worn), worn.writer, 1000)
    assert worn.vault.log(VM).points() == before
    worn.reopen(expect_epoch=worn.writer.state.epoch)
    assert worn.writer.state.tracking == tracking
    assert worn.writer.state.last_point == before[-1]
    worn.put("vda", 3, b"next").commit()
    worn.check_all()
    report = check(worn.vault.store, keys=worn.vault.keys)
    assert report.points == len(worn.remembered)


def test_young_objects_are_left_alone(worn):
    state = worn.writer.state
    base = history(worn).horizon().base
    for number in victims(state, base, 1000):
        assert state.objects[number].seq <= base
    assert victims(state, 0, 1000) == []


def test_usage_counts_blocks(worn):
    usage = Usage.of(worn.writer.state)
    assert usage.live.sum() == 64
    assert (usage.live <= usage.total).all()
    worn.reopen(expect_epoch=worn.writer.state.epoch)  # through a map checkpoint
    again = Usage.of(worn.writer.state)
    assert again.live.sum() == 64
    assert sorted(again.total[again.live > 0]) == sorted(usage.total[usage.live > 0])


def test_a_damaged_object_is_not_moved(worn):
    state = worn.writer.state
    chosen = victims(state, history(worn).horizon().base, 1000)
    ref = state.objects[chosen[0]]
    key = keyspace.of_ref(VM, ref.seq, ref.part)
    data = worn.vault.store.get(key)
    # Damage in a frame that is not needed any more would go unnoticed here, so all of its frames are spoilt.
    worn.vault.store.delete(key)
    worn.vault.store.put(key, [data[:8192], bytes(byte ^ 1 for byte in data[8192:])])
    tail = state.seq
    with pytest.raises(Damaged):
        move(history(worn), worn.writer, chosen)
    assert worn.vault.log(VM).open_writer(writer="x").state.seq == tail


def test_an_attempt_that_died_leaves_nothing_that_matters(worn, monkeypatch):
    def die(*args, **how):
        raise KeyboardInterrupt

    from leeward.vault.transaction import PointTransaction

    monkeypatch.setattr(PointTransaction, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        compact(history(worn), worn.writer, 1000)
    monkeypatch.undo()
    for compare in (False, True):
        worn.reopen(expect_epoch=worn.writer.state.epoch)
        worn.put("vda", 7, b"after the crash").commit(compare=compare)
        worn.check_all()
        sound(worn)


def test_a_fenced_writer_moves_nothing(worn):
    old = worn.writer
    worn.reopen(new_epoch=True)
    with pytest.raises(Fenced):
        compact(history(worn), old, 1000)
    worn.check_all()
    sound(worn)
