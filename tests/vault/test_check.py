"""A check tells what is wrong with the vault, and nothing of what others rightly do to it meanwhile.

What damage of every kind is called is in test_faults.
"""

import itertools
import random

import pytest
from tests.vault.conftest import VM
from tests.vault.pen import copied

from leeward.domain.retention import Retention
from leeward.ports.objects import ObjectInfo
from leeward.vault import keyspace
from leeward.vault.check import check
from leeward.vault.stores.memory import MemoryStore

SHORT = Retention(10.0)


class Meddled(MemoryStore):
    """Before the read of a certain number, counted from 0, somebody does something to the vault."""

    def __init__(self, store, number, deed):
        super().__init__()
        self._objects, self._keys = store._objects, store._keys
        self.read = itertools.count()
        self.number, self.deed = number, deed

    def get(self, key):
        if next(self.read) == self.number:
            self.deed()
        return super().get(key)


class PartsFirst(MemoryStore):
    """Its listings come in another order, as those of folders do, and somebody commits in their middle."""

    def __init__(self, store, deed):
        super().__init__()
        self._objects, self._keys = store._objects, store._keys
        self.deed = deed

    def _scan(self, prefix, last):
        listed = list(super()._scan(prefix, last))
        yield from (info for info in listed if "/part/" in info.key)
        if prefix == f"vm/{VM}/" and self.deed is not None:
            deed, self.deed = self.deed, None
            deed()
            listed = list(super()._scan(prefix, last))
        yield from (info for info in listed if "/part/" not in info.key)


class Restless(MemoryStore):
    """Whatever is listed, something of it is gone when it is read."""

    def __init__(self, store):
        super().__init__()
        self._objects, self._keys = store._objects, store._keys

    def _scan(self, prefix, last):
        listed = list(super()._scan(prefix, last))
        yield from listed
        if prefix == f"vm/{VM}/":
            key = keyspace.document(VM, "catalog", 1)
            yield ObjectInfo(key, 100)


@pytest.fixture(scope="module")
def thirty(first_pen):
    """Thirty points, a second apart, in several objects each, with a map now and then."""
    first_pen.resize("vda", 128).put("vda", 0, random.Random(0).randbytes(128 << 16)).commit()
    for number in range(1, 30):
        first_pen.put("vda", number % 8 * 4, random.Random(number).randbytes(4 << 16)).commit()
        if number % 9 == 0:
            first_pen.writer.write_map()
    return first_pen


@pytest.fixture
def long(thirty, small_objects):
    return thirty.copy()


def kinds(vault):
    return [{}, {"keys": vault.keys}, {"keys": vault.keys, "deep": True}]


def everything_is_well(report):
    assert (report.troubles, report.hurt) == ([], {})


@pytest.mark.parametrize("kind", range(3), ids=["keyless", "keys", "deep"])
def test_pruning_at_any_instant_is_no_damage(long, kind):
    reads = Meddled(long.vault.store, -1, None)
    everything_is_well(check(reads, long.vault.public_key, **kinds(long.vault)[kind]))
    pruned = 0
    for number in range(0, next(reads.read), 3):
        pen = long.copy()
        store = Meddled(pen.vault.store, number, lambda pen=pen: pen.prune(SHORT))
        before = len(pen.remembered)
        everything_is_well(check(store, pen.vault.public_key, **kinds(pen.vault)[kind]))
        pruned += len(pen.remembered) < before
    assert pruned > 10


def test_a_document_that_a_newer_one_replaces_is_no_damage(long):
    for number in range(8):
        long.vault.put_document(VM, "catalog", {"name": f"web{number}"})

    def rename():
        for number in range(6):
            long.vault.put_document(VM, "catalog", {"name": f"db{number}"})

    report = check(Meddled(long.vault.store, 1, rename), keys=long.vault.keys)
    everything_is_well(report)


def test_a_mark_that_is_taken_off_is_no_damage(long):
    name = long.vault.pin(VM, "2", "test", 60.0)
    everything_is_well(check(Meddled(long.vault.store, 1, lambda: long.vault.unpin(VM, name)), keys=long.vault.keys))


def test_a_point_that_comes_in_the_middle_of_a_listing_is_whole(long):
    def write():
        long.put("vda", 0, random.Random(99).randbytes(40 << 16)).commit()

    points = len(long.vault.log(VM).points())
    report = check(PartsFirst(long.vault.store, write), keys=long.vault.keys)
    everything_is_well(report)
    assert report.points == points + 1


def test_what_changes_all_the_time_is_told_to_be_uncertain(long):
    everything_is_well(check(Restless(long.vault.store), keys=long.vault.keys))
    key = [info.key for info in long.vault.store.scan(f"vm/{VM}/part/")][-2]
    long.vault.store.delete(key)
    troubles = check(Restless(long.vault.store), keys=long.vault.keys).troubles
    assert [trouble.key for trouble in troubles] == [f"vm/{VM}/", key]
    assert "check again" in troubles[0].what


@pytest.mark.parametrize("folder", ["log", "part"])
def test_what_somebody_takes_away_in_the_middle_is_missed(long, folder):
    key = [info.key for info in long.vault.store.scan(f"vm/{VM}/{folder}/")][-2]
    store = Meddled(long.vault.store, 1, lambda: long.vault.store.delete(key))
    report = check(store, keys=long.vault.keys)
    assert [trouble.key for trouble in report.troubles] == [key]
    assert report.hurt[VM]


def test_a_map_that_a_kept_point_is_opened_from_is_missed(long):
    long.time += 3 * 3600 * 10**9
    for number in range(30):
        long.put("vda", number, random.Random(1000 + number).randbytes(65536)).commit()
    long.prune(Retention(10.0, hourly_s=86_400.0))
    old = next(point for point in long.vault.log(VM).points())
    everything_is_well(check(long.vault.store, keys=long.vault.keys))
    long.vault.store.delete(keyspace.map_(VM, old.seq))
    report = check(long.vault.store, keys=long.vault.keys)
    assert [trouble.key for trouble in report.troubles] == [keyspace.map_(VM, old.seq)]
    assert report.hurt == {VM: [old.id]}


def test_data_that_outlives_its_log_is_missed(long):
    long.prune(SHORT)
    base = long.vault.log(VM).points()[0].seq
    kept = [
        info.key
        for folder in ("log", "part")
        for info in long.vault.store.scan(f"vm/{VM}/{folder}/")
        if keyspace.number_of(info.key if folder == "log" else info.key.rpartition(".")[0]) < base
    ]
    assert kept
    hurt = 0
    for key in kept:
        store = copied(long.vault.store)
        store.delete(key)
        report = check(store, keys=long.vault.keys)
        assert [trouble.key for trouble in report.troubles] == [key]
        assert not report.sound
        hurt += VM in report.hurt
    assert hurt  # not by each: what the base alone has, all points have overwritten
