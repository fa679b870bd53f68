"""The spool is sent beside the cycles: by itself, within the bandwidth, and never into another writer's log."""

import time

import pytest

from leeward.agent import catchup
from leeward.agent.catchup import CatchUp
from leeward.domain.errors import Fenced, StoreUnavailable
from leeward.replication.limiter import Limiter
from leeward.replication.spool import SpoolingStore
from leeward.vault.stores.memory import MemoryStore


class Remote(MemoryStore):
    away = False

    def put(self, key, parts):
        if self.away:
            raise StoreUnavailable("the vault is away")
        super().put(key, parts)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(catchup, "_RETRY_S", 0.05)


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def store(remote):
    made = SpoolingStore(remote, MemoryStore(), 1 << 20)
    remote.away = True
    for number in range(10):
        made.put(f"log/{number:04d}", [bytes(1000)])
    return made


def catch_up(store, rate=0, on_fenced=lambda: None):
    return CatchUp("web", store, "log/", Limiter(rate), on_fenced)


def wait(condition):
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_it_goes_on_trying_and_sends_everything_in_order(remote, store):
    one = catch_up(store)
    one.look()
    time.sleep(0.3)
    assert store.pending_bytes == 10_000
    remote.away = False
    wait(lambda: store.pending_bytes == 0)
    assert [info.key for info in remote.scan("")] == [f"log/{number:04d}" for number in range(10)]
    # The thread has ended; what comes to wait later needs another look.
    remote.away = True
    store.put("log/0010", [b"x"])
    remote.away = False
    wait(lambda: not one._thread.is_alive())
    one.look()
    wait(lambda: store.pending_bytes == 0)


def test_the_bandwidth_holds(remote, store):
    remote.away = False
    began = time.monotonic()
    catch_up(store, rate=4000).look()
    wait(lambda: store.pending_bytes == 0)
    assert time.monotonic() - began >= 1.0  # 10,000 bytes, less the burst of one second and the last object


def test_another_writer_ends_it_for_good(remote, store):
    remote.away = False
    remote.put("log/0000", [b"theirs"])
    told = []
    one = catch_up(store, on_fenced=lambda: told.append(1))
    one.look()
    wait(lambda: told)
    with pytest.raises(Fenced):
        one.look()


def test_another_writer_is_found_although_nothing_can_be_sent(remote, store):
    MemoryStore.put(remote, "log/0000", [b"theirs"])
    told = []
    one = catch_up(store, on_fenced=lambda: told.append(1))
    one.look()
    wait(lambda: told)
    with pytest.raises(Fenced):
        one.check()


def test_it_can_be_stopped_and_leaves_the_rest(remote, store):
    one = catch_up(store)
    one.look()
    one.stop(5)
    assert not one._thread.is_alive()
    assert store.pending_bytes == 10_000
