"""The keeper prunes what is due, by each VM's policy, and only where this agent is the writer."""

import pytest
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.agent.keeper import Keeper, interval
from leeward.domain.errors import StoreUnavailable
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore
from leeward.wire.messages import PolicyMessage, ProtectionMessage


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def pen():
    pen = Pen(Vault.create(MemoryStore(), "x", cost=CHEAP)[0], VM)
    pen.resize("vda", 4)
    for number in range(200):
        pen.put("vda", number % 4, bytes([number + 1]) * 65536).commit()
    return pen


@pytest.fixture
def clock():
    return Clock()


def wish(**policy):
    return ProtectionMessage(vm_id=VM, vm_name="web", host="h", policy=PolicyMessage(**policy))


def keeper(pen, clock, *, epochs=None, wishes=None, open_vault=None):
    epochs = {VM: pen.writer.state.epoch} if epochs is None else epochs
    wishes = [wish(retain_s=60)] if wishes is None else wishes
    return Keeper(lambda: wishes, lambda: epochs, open_vault or (lambda: pen.vault), clock=clock)


def count(pen):
    return len(pen.vault.log(VM).points())


def test_not_before_it_is_due(pen, clock):
    made = keeper(pen, clock)
    made.look()
    clock.now = 59
    made.look()
    assert count(pen) == 200
    clock.now = 60
    made.look()
    assert 61 <= count(pen) <= 70
    assert made.troubles == {}


def test_only_its_writer_prunes_a_log(pen, clock):
    for epochs in ({}, {VM: pen.writer.state.epoch - 1}):
        made = keeper(pen, clock, epochs=epochs)
        made.look()
        clock.now += 3600
        made.look()
        assert count(pen) == 200
    assert "is over" in made.troubles[VM]


def test_trouble_is_told_and_goes_away(pen, clock):
    away = True

    def open_vault():
        if away:
            raise StoreUnavailable("the vault is away", subject="here")
        return pen.vault

    made = keeper(pen, clock, open_vault=open_vault)
    made.look()
    clock.now += 60
    made.look()
    assert "away" in made.troubles[VM]
    away = False
    clock.now += 60
    made.look()
    assert made.troubles == {}
    assert count(pen) < 80


def test_an_unprotected_vm_is_left_alone(pen, clock):
    wishes = [wish(retain_s=60)]
    made = keeper(pen, clock, wishes=wishes)
    made.look()
    wishes.clear()
    clock.now += 3600
    made.look()
    assert count(pen) == 200


def test_how_often():
    assert interval(PolicyMessage(retain_s=60)) == 60
    assert interval(PolicyMessage(retain_s=86_400)) == 3600
    assert interval(PolicyMessage(retain_s=30 * 86_400)) == 3600
