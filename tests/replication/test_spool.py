"""The spool keeps order, survives restarts, is bounded, and never hides that another writer took over."""

import pytest

from leeward.domain.errors import (
    Fenced,
    ObjectExists,
    ObjectNotFound,
    SpoolFull,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from leeward.replication.spool import SpoolingStore
from leeward.vault.stores.memory import MemoryStore


class Switch(MemoryStore):
    """A store whose line can be cut. `after`: number of puts that still pass."""

    def __init__(self):
        super().__init__()
        self.after = None
        self.error = StoreUnavailable("the line is cut")
        self.order = []

    def put(self, key, parts):
        if self.after is not None:
            if self.after <= 0:
                raise self.error
            self.after -= 1
        super().put(key, parts)
        self.order.append(key)


@pytest.fixture
def remote():
    return Switch()


@pytest.fixture
def spool():
    return MemoryStore()


def test_passes_through_while_the_vault_is_there(remote, spool):
    store = SpoolingStore(remote, spool, 100)
    store.put("a/1", [b"x" * 1000])
    assert remote.get("a/1") == b"x" * 1000
    assert list(spool.scan("")) == []


def test_keeps_everything_readable_and_drains_in_order(remote, spool):
    store = SpoolingStore(remote, spool, 1000)
    store.put("log/0001", [b"one"])
    remote.after = 0
    store.put("part/0002.1", [b"p", b"art"])
    store.put("log/0002", [b"two"])
    remote.after = None
    store.put("log/0003", [b"three"])  # behind the others although the vault is back
    assert remote.order == ["log/0001"]
    assert [info.key for info in store.scan("log/")] == ["log/0001", "log/0002", "log/0003"]
    assert [info.key for info in store.scan("log/", "log/0002")] == ["log/0003"]
    assert store.get("part/0002.1") == b"part"
    assert store.get_range("log/0003", 1, 3) == b"hre"
    assert store.size("log/0002") == 3
    assert store.folders("") == ["log", "part"]
    assert store.is_pending("log/0002")
    assert not store.is_pending("log/0001")
    assert store.drain() == 3
    assert remote.order == ["log/0001", "part/0002.1", "log/0002", "log/0003"]
    assert store.pending_bytes == 0
    assert list(spool.scan("")) == []
    assert store.get("log/0003") == b"three"


def test_survives_a_restart_half_drained(remote, spool):
    store = SpoolingStore(remote, spool, 1000)
    remote.after = 0
    for n in range(12):
        store.put(f"log/{n:04d}", [b"%d" % n])
    remote.after = 5
    with pytest.raises(StoreUnavailable):
        store.drain()
    again = SpoolingStore(remote, spool, 1000)
    remote.after = None
    again.put("log/0012", [b"12"])
    assert again.drain() == 8
    assert remote.order == [f"log/{n:04d}" for n in range(13)]


def test_an_object_that_arrived_without_its_answer_is_no_conflict(remote, spool):
    store = SpoolingStore(remote, spool, 1000)
    remote.after = 0
    store.put("log/0001", [b"mine"])
    remote.after = None
    remote.put("log/0001", [b"mine"])
    assert store.drain() == 1


@pytest.mark.parametrize("error", [StoreFull("it is full"), StoreReadOnly("it is read-only")])
def test_a_vault_that_takes_nothing_is_an_outage_too(remote, spool, error):
    store = SpoolingStore(remote, spool, 100)
    assert store.trouble == ""
    remote.after, remote.error = 0, error
    store.put("log/0001", [b"one"])
    store.put("log/0002", [b"two"])
    assert store.trouble == str(error)
    with pytest.raises(type(error)):
        store.send_next()
    remote.after = 1
    assert store.send_next() == 3
    assert store.trouble == ""
    remote.after = None
    assert store.drain() == 1
    assert remote.order == ["log/0001", "log/0002"]


def test_another_writer_in_our_place_fences_for_good(remote, spool):
    aside = []
    store = SpoolingStore(remote, spool, 1000, lambda: aside.append(1))
    remote.after = 0
    store.put("log/0001", [b"mine"])
    remote.after = None
    remote.put("log/0001", [b"theirs"])
    for _ in range(2):
        with pytest.raises(Fenced):
            store.drain()
    assert remote.get("log/0001") == b"theirs"
    assert len(list(spool.scan(""))) == 1
    assert aside == [1]
    # What we would put now would leave a gap in their log.
    with pytest.raises(Fenced):
        store.put("log/0002", [b"mine"])
    assert remote.order == ["log/0001"]


def test_a_rival_is_found_in_a_vault_that_takes_nothing_from_us(remote, spool):
    store = SpoolingStore(remote, spool, 1000)
    store.check_place("log/")
    remote.after, remote.error = 0, StoreReadOnly("we may not write")
    store.put("part/0001.7", [b"part"])
    store.check_place("log/")
    store.put("log/0001", [b"mine"])
    store.put("log/0002", [b"mine too"])
    store.check_place("log/")
    MemoryStore.put(remote, "log/0001", [b"mine"])  # arrived, although we were told otherwise
    store.check_place("log/")
    remote.delete("log/0001")
    MemoryStore.put(remote, "log/0001", [b"theirs"])
    with pytest.raises(Fenced):
        store.check_place("log/")
    with pytest.raises(Fenced):
        store.put("log/0003", [b"mine"])


def test_what_a_predecessor_still_sent_is_not_missed(remote, spool):
    remote.after = 0
    old = SpoolingStore(remote, spool, 1000)
    old.put("log/0001", [b"one"])
    old.put("log/0002", [b"two"])
    new = SpoolingStore(remote, spool, 1000)
    remote.after = None
    old.send_next()
    assert new.drain() == 2
    assert remote.order == ["log/0001", "log/0002"]
    assert new.pending_bytes == 0


def test_lost_from_the_spool_is_told(remote, spool):
    remote.after = 0
    store = SpoolingStore(remote, spool, 1000)
    store.put("log/0001", [b"one"])
    spool.delete(next(iter(spool.scan(""))).key)
    remote.after = None
    with pytest.raises(ObjectNotFound):
        store.send_next()
    assert store.pending_bytes == 3


def test_a_full_spool_lets_the_outage_through(remote, spool):
    store = SpoolingStore(remote, spool, 10)
    remote.after = 0
    with pytest.raises(StoreUnavailable, match="spool is full") as unsure:
        store.put("log/0001", [b"x" * 11])
    # The vault was tried: whether it has the object is not known.
    assert not isinstance(unsure.value, SpoolFull)
    store.put("log/0001", [b"x" * 8])
    with pytest.raises(SpoolFull, match="8 of 10 bytes") as full:
        store.put("log/0002", [b"y" * 3])
    assert "the line is cut" in str(full.value)
    assert store.pending_bytes == 8
    with pytest.raises(ObjectNotFound):
        remote.after = None
        store.get("log/0002")


def test_a_spool_on_a_full_disk_is_told_as_the_spools_trouble(remote):
    spool = Switch()
    spool.after, spool.error = 0, StoreFull("no space is left", hint="Make room")
    store = SpoolingStore(remote, spool, 1000)
    remote.after = 0
    with pytest.raises(StoreUnavailable, match=r"spool cannot keep.*no space is left.*Make room.*line is cut"):
        store.put("log/0001", [b"x"])
    assert store.pending_bytes == 0


def test_create_only_also_in_the_spool(remote, spool):
    store = SpoolingStore(remote, spool, 100)
    remote.after = 0
    store.put("log/0001", [b"x"])
    with pytest.raises(ObjectExists):
        store.put("log/0001", [b"x"])


def test_what_was_spooled_in_an_epoch_that_is_over_does_not_hinder_the_next(remote, spool):
    """The source was dead when it was taken over, and is the writer again after a failback."""
    aside = []

    def set_aside():
        for info in list(spool.scan("")):
            aside.append(info.key)
            spool.delete(info.key)

    store = SpoolingStore(remote, spool, 1000, set_aside)
    store.belong(1)
    remote.after = 0
    store.put("vm/log/2", [b"old"])
    store.belong(1)  # its worker begins again
    assert store.pending_bytes == 3
    remote.after = None
    remote.put("vm/log/2", [b"theirs"])
    again = SpoolingStore(remote, spool, 1000, set_aside)
    again.belong(3)
    assert again.pending_bytes == 0
    assert again.get("vm/log/2") == b"theirs"
    assert [key for key in aside if key.endswith("vm/log/2")]
    again.put("vm/log/3", [b"new"])
    assert remote.get("vm/log/3") == b"new"
    # And an older epoch never comes back.
    assert SpoolingStore(remote, spool, 1000, set_aside).pending_bytes == 0
    again.belong(2)
    remote.after = 0
    again.put("vm/log/4", [b"spooled"])
    again.belong(3)
    assert SpoolingStore(remote, spool, 1000, set_aside).is_pending("vm/log/4")


def test_a_writer_that_begins_an_epoch_through_the_spool_keeps_what_it_spools(remote, spool):
    aside = []

    def set_aside():
        aside.extend(list(spool.scan("")))
        for info in list(spool.scan("")):
            spool.delete(info.key)

    store = SpoolingStore(remote, spool, 1000, set_aside)
    store.belong(1)
    remote.after = 0
    store.put("vm/log/2", [b"old"])
    again = SpoolingStore(remote, spool, 1000, set_aside)
    again.begin_anew()
    assert [info.key for info in aside if info.key.endswith("vm/log/2")]
    again.put("vm/log/2", [b"the new epoch"])
    # Killed here, whoever comes then may know of the new epoch, and finds what began it.
    for store in (SpoolingStore(remote, spool, 1000, set_aside), again):
        store.belong(2)
        assert store.get("vm/log/2") == b"the new epoch"
