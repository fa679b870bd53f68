"""What the vault is told beside its logs."""

import threading
import time

import pytest

from leeward.console.telling import Teller
from leeward.domain.errors import StoreUnavailable


class SlowVault:
    """Takes documents while its gate is open, and as an opener stands for itself."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.taken = []
        self.error = None

    def open(self):
        return self

    def put_document(self, vm_id, kind, data):
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.taken.append((vm_id, kind, data))


@pytest.fixture
def vault():
    made = SlowVault()
    yield made
    made.gate.set()


def until(true):
    ends = time.monotonic() + 10
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_it_is_written_when_tell_returns(vault):
    Teller(vault).tell("plans", {"1": lambda: {"a": 1}, "2": lambda: {"b": 2}})
    assert sorted(vault.taken, key=str) == [("1", "plans", {"a": 1}), ("2", "plans", {"b": 2})]


def test_nobody_waits_for_a_vault_that_does_not_answer_and_it_is_told_the_newest_in_the_end(vault):
    vault.gate.clear()
    teller, life = Teller(vault, patience_s=0.2), {"phase": "home"}
    teller.tell("life", {"1": lambda: dict(life)})
    life["phase"] = "failing-over"
    teller.tell("life", {"1": lambda: dict(life)})
    life["phase"] = "away"
    assert vault.taken == []
    vault.gate.set()
    until(lambda: len(vault.taken) == 2)
    assert vault.taken[-1] == ("1", "life", {"phase": "away"})


def test_many_are_waited_for_together(vault):
    vault.gate.clear()
    began = time.monotonic()
    Teller(vault, patience_s=0.3).tell("plans", {str(number): dict for number in range(20)})
    assert time.monotonic() - began < 3, "not 20 times the patience"
    vault.gate.set()
    until(lambda: len(vault.taken) == 20)


def test_a_vault_that_is_away_fails_nothing(vault):
    vault.error = StoreUnavailable("no line to it")
    Teller(vault).tell("life", {"1": dict})
    vault.error = None
    Teller(vault).tell("life", {"1": dict})
    assert vault.taken == [("1", "life", {})]


def test_a_bug_is_not_hidden(vault):
    vault.error = KeyError("bug")
    with pytest.raises(KeyError):
        Teller(vault).tell("life", {"1": dict})


def test_what_was_not_written_yet_is_replaced(vault):
    vault.gate.clear()
    teller = Teller(vault, patience_s=0.05)
    for number in range(10):
        teller.tell("life", {"1": lambda number=number: {"number": number}})
    vault.gate.set()
    teller.settle()
    assert [data["number"] for _, _, data in vault.taken] == [0, 9]


def test_after_a_bug_the_next_is_told(vault):
    vault.error = KeyError("bug")
    teller = Teller(vault)
    with pytest.raises(KeyError):
        teller.tell("life", {"1": dict, "2": dict})
    vault.error = None
    teller.tell("life", {"3": dict})
    assert [vm_id for vm_id, _, _ in vault.taken] == ["2", "3"]
