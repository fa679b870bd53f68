"""Password hashes: right ones match, nothing else does, and a flood of guesses has to wait."""

import threading

import pytest
from tests.console.caller import FAST

from leeward.console import passwords
from leeward.console.passwords import Cost, Passwords
from leeward.domain.errors import TooManyAttempts


def test_only_the_password_matches():
    kept = Passwords(FAST)
    known = kept.hash(b"right")
    assert known.startswith("$argon2id$")
    assert kept.hash(b"right") != known
    assert kept.match(b"right", known)
    assert not kept.match(b"wrong", known)
    assert not kept.match(b"right", None)
    assert not kept.match(b"right", "damaged")


def test_hashes_of_other_costs_still_match():
    known = Passwords(Cost(128, 2, 1)).hash(b"right")
    assert Passwords(FAST).match(b"right", known)


def test_the_usual_cost_is_what_the_rfc_recommends():
    assert Passwords().hash(b"x").startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_no_more_than_two_at_a_time(monkeypatch):
    monkeypatch.setattr(passwords, "_BUSY_S", 0.05)
    kept = Passwords(FAST)
    inside, go_on, refused = threading.Barrier(3), threading.Event(), []

    def slow(*_):
        inside.wait(20)
        go_on.wait(20)
        return "x"

    monkeypatch.setattr(kept, "_hash", slow)
    threads = [threading.Thread(target=kept.hash, args=(b"x",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(20)
    with pytest.raises(TooManyAttempts):
        kept.match(b"x", None)
    go_on.set()
    for thread in threads:
        thread.join()
    assert not refused
    assert not kept.match(b"x", None)
