"""A vault with a history to look at, damage and restore."""

import pytest
from tests.vault.pen import Pen

from leeward.vault import transaction
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

CHEAP = Argon2(1024, 1, 1)
VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def vault(store):
    return Vault.create(store, "passphrase", cost=CHEAP)[0]


@pytest.fixture
def small_objects(monkeypatch):
    make_small_objects(monkeypatch)


def make_small_objects(monkeypatch):
    """Objects of two frames, so that a megabyte makes parts."""
    monkeypatch.setattr(transaction, "OBJECT_FRAMES", 2)


@pytest.fixture
def pen(vault):
    return Pen(vault, VM)


@pytest.fixture(scope="module")
def first_pen():
    """For a history that the tests of a file have in common, in small objects: each takes a copy of it."""
    with pytest.MonkeyPatch.context() as patch:
        make_small_objects(patch)
        yield Pen(Vault.create(MemoryStore(), "passphrase", cost=CHEAP)[0], VM)
