"""The vault, looked after: one check at a time, called off, damaged, dead in the middle; and what is kept of it."""

import threading
import time
from dataclasses import replace

import pytest
from tests.console.world import World

from leeward.console.vault_care import VaultCare
from leeward.domain.errors import Refused, StoreUnavailable
from leeward.state.vault_care import VaultBook
from leeward.vault.facade import Vault


class Slow:
    """A store that waits in each `get` until it may go on."""

    def __init__(self, store):
        self._store, self.may = store, threading.Event()

    def get(self, key, *args, **more):
        assert self.may.wait(20)
        return self._store.get(key, *args, **more)

    def __getattr__(self, name):
        return getattr(self._store, name)


class Opener:
    def __init__(self, vault):
        self.vault = vault

    def open(self):
        if self.vault is None:
            raise StoreUnavailable("the vault cannot be reached", subject="file:///vault")
        return self.vault


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    made.protect()
    yield made
    made.close()


@pytest.fixture
def opener(world):
    return Opener(world.vault)


@pytest.fixture
def care(world, opener):
    made = VaultCare(world.database, opener)
    yield made
    made.stop()


def ended(care):
    ends = time.monotonic() + 20
    while care.progress is not None:
        assert time.monotonic() < ends
        time.sleep(0.01)
    return care.checks()[0]


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_vault(care, deep):
    care.begin(deep=deep, by="anna")
    check = ended(care)
    assert check.sound
    assert (check.deep, check.by, check.troubles, check.named) == (deep, "anna", 0, ())
    assert check.objects > 2
    assert check.points >= 1
    assert check.bytes > 1000


def test_a_damaged_object_is_named_and_the_points_that_need_it(care, world):
    key = next(info.key for info in world.store.scan("vm/") if "/log/" in info.key or info.size > 5000)
    data = bytearray(world.store.get(key))
    data[-1] ^= 1
    world.store.delete(key)
    world.store.put(key, [bytes(data)])
    care.begin(deep=False, by="anna")
    check = ended(care)
    assert not check.sound
    assert key in {name for name, _ in check.named}
    assert any(check.hurt.values())
    book = VaultBook(world.database)
    assert book.damaged() == check.troubles > 0
    opened = book.begin(True, "anna", time.time())
    book.end(replace(opened, ended=time.time(), failure="it was called off"))
    assert book.damaged() == check.troubles  # one that was called off says nothing
    book.end(replace(book.begin(True, "anna", time.time()), ended=time.time()))
    assert book.damaged() == 0


def test_one_at_a_time_and_called_off(care, opener):
    slow = Slow(opener.vault.store)
    opener.vault = Vault(slow, opener.vault.keys, None)
    slow.may.set()
    care.inventory()
    slow.may.clear()
    care.begin(deep=True, by="anna")
    assert care.progress.check.deep
    assert care.progress.of_bytes > 0
    with pytest.raises(Refused, match="just being checked"):
        care.begin(deep=False, by="bob")
    assert [check.ended for check in care.checks()] == [None]
    care.call_off()
    slow.may.set()
    check = ended(care)
    assert "called off" in check.failure
    assert not check.sound
    care.begin(deep=False, by="bob")
    assert ended(care).sound


def test_a_vault_that_goes_away_in_mid_check_is_told(care, opener):
    class Breaks(Slow):
        def get(self, key, *args, **more):
            if key.startswith("vm/"):
                raise StoreUnavailable("the disk is gone", subject=key)
            return self._store.get(key, *args, **more)

    opener.vault = Vault(Breaks(opener.vault.store), opener.vault.keys, None)
    care.begin(deep=False, by="anna")
    assert "the disk is gone" in ended(care).failure
    opener.vault = None
    with pytest.raises(StoreUnavailable):
        care.begin(deep=False, by="anna")
    assert len(care.checks()) == 1


def test_a_check_that_died_with_its_console_is_not_told_as_going_on(care, world, opener):
    VaultBook(world.database).begin(True, "anna", time.time())
    again = VaultCare(world.database, opener)
    again.start()
    again.stop()
    (check,) = again.checks()
    assert check.ended is not None
    assert "the console ended" in check.failure


def test_its_size_is_noted_once_an_hour(world, opener):
    now = [1_700_000_000.0]
    care = VaultCare(world.database, opener, clock=lambda: now[0])
    for _ in range(5):
        care.note_size()
        now[0] += 1200
    assert [size.at - 1_700_000_000 for size in care.sizes(86_400)] == [0, 4800]
    assert all(size.bytes == opener.vault.info().bytes for size in care.sizes(86_400))
    now[0] += 500 * 86_400
    care.note_size()
    assert len(VaultBook(world.database).sizes(0)) == 1
