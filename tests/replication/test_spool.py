"""The spool keeps order, survives restarts, is bounded, and never hides that another writer took over."""

import pytest

from leeward.domain.errors import Fenced, ObjectExists, ObjectNotFound, StoreUnavailable
from leeward.replication.spool import SpoolingStore
from leeward.vault.stores.memory import MemoryStore


class Switch(MemoryStore):
    """A store whose line can be cut. `after`: number of puts that still pass."""

    def __init__(self):
        super().__init__()
        self.after = None
        self.order = []

    def put(self, key, parts):
        if self.after is not None:
            if self.after <= 0:
                raise StoreUnavailable("the line is cut")
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


def test_another_writer_in_our_place_fences(remote, spool):
    store = SpoolingStore(remote, spool, 1000)
    remote.after = 0
    store.put("log/0001", [b"mine"])
    remote.after = None
    remote.put("log/0001", [b"theirs"])
    with pytest.raises(Fenced):
        store.drain()
    assert remote.get("log/0001") == b"theirs"
    assert len(list(spool.scan(""))) == 1


def test_a_full_spool_lets_the_outage_through(remote, spool):
    store = SpoolingStore(remote, spool, 10)
    remote.after = 0
    store.put("log/0001", [b"x" * 8])
    with pytest.raises(StoreUnavailable, match="spool is full"):
        store.put("log/0002", [b"y" * 3])
    assert store.pending_bytes == 8
    with pytest.raises(ObjectNotFound):
        remote.after = None
        store.get("log/0002")


def test_create_only_also_in_the_spool(remote, spool):
    store = SpoolingStore(remote, spool, 100)
    remote.after = 0
    store.put("log/0001", [b"x"])
    with pytest.raises(ObjectExists):
        store.put("log/0001", [b"x"])
