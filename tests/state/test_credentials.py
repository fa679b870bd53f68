"""Tokens and logins: what holds, until when, and how much they may do."""

import pytest
from tests.state.test_accounts import Clock, together

from leeward.domain.access import Role
from leeward.domain.errors import LeewardError, NotFound
from leeward.state.accounts import Accounts
from leeward.state.credentials import Credentials


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accounts(database, clock):
    made = Accounts(database, clock)
    made.add("root", "x", Role.ADMIN)
    made.add("anna", "x", Role.OPERATOR)
    return made


@pytest.fixture
def credentials(database, accounts, clock):
    return Credentials(database, {"browser": 600.0, "cli": 6000.0}, clock)


def test_a_token_holds_until_it_is_over_or_removed(credentials, clock):
    made = credentials.add_token("t1", "d1", "backup check", Role.VIEWER, "anna", clock.now + 3600)
    credentials.add_token("t2", "d2", "for ever", Role.ADMIN, None, None)
    assert credentials.find_token("d1").id == made.id
    assert credentials.find_token("other") is None
    clock.now += 3600
    assert credentials.find_token("d1") is None
    assert credentials.find_token("d2").role is Role.ADMIN
    assert [token.id for token in credentials.tokens()] == ["t1", "t2"]
    credentials.remove_token("t2")
    assert credentials.find_token("d2") is None


def test_a_token_never_does_more_than_its_owner(accounts, credentials):
    credentials.add_token("t1", "d1", "n", Role.OPERATOR, "anna", None)
    accounts.set_role("anna", Role.VIEWER)
    assert credentials.find_token("d1").role is Role.VIEWER
    assert credentials.tokens()[0].role is Role.VIEWER
    accounts.set_role("anna", Role.ADMIN)
    assert credentials.find_token("d1").role is Role.OPERATOR


def test_everything_goes_with_its_owner(accounts, credentials, clock):
    credentials.add_token("t1", "d1", "n", Role.OPERATOR, "anna", None)
    credentials.add_login("l1", "anna", "cli", "", clock.now + 1000)
    accounts.remove("anna")
    assert credentials.find_token("d1") is None
    assert credentials.find_login("l1") is None
    accounts.add("anna", "another anna", Role.ADMIN)
    assert credentials.find_token("d1") is None
    assert credentials.find_login("l1") is None
    assert credentials.tokens() == []


def test_nobody_leaves_a_token_behind(accounts, credentials, clock):
    with pytest.raises(NotFound):
        credentials.add_token("t", "d", "n", Role.VIEWER, "nobody", None)
    for number in range(10):
        made, _ = together(
            lambda n=number: credentials.add_token(f"t{n}", f"d{n}", "n", Role.VIEWER, "anna", None),
            lambda: accounts.remove("anna"),
        )
        assert credentials.tokens() == []
        assert isinstance(made, LeewardError) or credentials.find_token(made.id) is None
        accounts.add("anna", "x", Role.OPERATOR)


def test_use_is_told_to_the_minute(credentials, clock):
    credentials.add_token("t1", "d1", "n", Role.VIEWER, None, None)
    assert credentials.tokens()[0].last_used is None
    credentials.find_token("d1")
    first = credentials.tokens()[0].last_used
    clock.now += 30
    credentials.find_token("d1")
    assert credentials.tokens()[0].last_used == first
    clock.now += 31
    credentials.find_token("d1")
    assert credentials.tokens()[0].last_used > first


def test_a_login_ends_by_rest_by_age_and_by_hand(credentials, clock):
    credentials.add_login("l1", "anna", "browser", "::1", clock.now + 2000)
    credentials.add_login("l2", "anna", "cli", "::1", clock.now + 2000)
    for _ in range(3):
        clock.now += 590
        found = credentials.find_login("l1")
        assert (found.user, found.role, found.kind) == ("anna", Role.OPERATOR, "browser")
    clock.now += 229
    assert credentials.find_login("l1")
    assert credentials.find_login("l2")
    clock.now += 1
    assert credentials.find_login("l1") is None
    credentials.add_login("l3", "anna", "browser", "", clock.now + 2000)
    clock.now += 600
    assert credentials.find_login("l3") is None
    credentials.add_login("l4", "anna", "browser", "", clock.now + 2000)
    credentials.remove_login("l4")
    assert credentials.find_login("l4") is None


def test_a_user_has_a_bounded_number_of_logins(credentials, clock, monkeypatch):
    monkeypatch.setattr("leeward.state.credentials._MOST_LOGINS", 5)
    credentials.add_login("other", "root", "cli", "", clock.now + 5000)
    for number in range(8):
        clock.now += 1
        credentials.add_login(f"l{number}", "anna", "cli", "", clock.now + 5000)
    assert [number for number in range(8) if credentials.find_login(f"l{number}")] == list(range(3, 8))
    assert credentials.find_login("other")
