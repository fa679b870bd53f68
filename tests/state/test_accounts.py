"""Users: one of a name, always an admin among them, and a first one only with the code."""

import threading

import pytest

from leeward.domain.access import Role
from leeward.domain.errors import LeewardError, NotFound, NotSignedIn, Refused
from leeward.state.accounts import Accounts
from leeward.state.credentials import Credentials


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accounts(database, clock):
    return Accounts(database, clock)


@pytest.fixture
def credentials(database, clock):
    return Credentials(database, {"browser": 600.0, "cli": 6000.0}, clock)


def together(*calls):
    """Run all at once; what each returned or raised."""
    results = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(number):
        start.wait()
        try:
            results[number] = calls[number]()
        except LeewardError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_users_come_change_and_go(accounts):
    assert not accounts.exist()
    accounts.add("anna", "hash-a", Role.ADMIN)
    accounts.add("ben", "hash-b", Role.VIEWER)
    with pytest.raises(Refused, match="already"):
        accounts.add("ben", "hash-c", Role.ADMIN)
    assert [(user.name, user.role) for user in accounts.all()] == [("anna", Role.ADMIN), ("ben", Role.VIEWER)]
    assert accounts.password("ben") == "hash-b"
    accounts.set_password("ben", "hash-d")
    assert accounts.password("ben") == "hash-d"
    assert accounts.set_role("ben", Role.OPERATOR).role is Role.OPERATOR
    accounts.remove("ben")
    assert accounts.password("ben") is None
    assert [user.name for user in accounts.all()] == ["anna"]


def test_what_is_not_there(accounts):
    for call in (
        lambda: accounts.remove("nobody"),
        lambda: accounts.set_role("nobody", Role.ADMIN),
        lambda: accounts.set_password("nobody", "x"),
    ):
        with pytest.raises(NotFound):
            call()


def test_the_last_admin_stays(accounts):
    accounts.add("anna", "a", Role.ADMIN)
    accounts.add("ben", "b", Role.OPERATOR)
    with pytest.raises(Refused, match="last admin"):
        accounts.remove("anna")
    with pytest.raises(Refused, match="last admin"):
        accounts.set_role("anna", Role.OPERATOR)
    accounts.set_role("anna", Role.ADMIN)
    accounts.set_role("ben", Role.ADMIN)
    accounts.remove("anna")


def test_two_admins_who_remove_each_other_leave_one(accounts):
    accounts.add("anna", "a", Role.ADMIN)
    accounts.add("ben", "b", Role.ADMIN)
    for _ in range(5):
        results = together(lambda: accounts.remove("anna"), lambda: accounts.set_role("ben", Role.VIEWER))
        assert len([result for result in results if isinstance(result, Refused)]) == 1, results
        assert [user.role for user in accounts.all()].count(Role.ADMIN) == 1
        if accounts.password("anna") is None:
            accounts.add("anna", "a", Role.ADMIN)
        accounts.set_role("ben", Role.ADMIN)


def test_the_code_makes_one_admin_once(accounts, clock):
    accounts.offer_setup("old", clock.now + 60)
    accounts.offer_setup("code", clock.now + 60)
    for wrong in ("old", "other", ""):
        with pytest.raises(NotSignedIn):
            accounts.set_up(wrong, "anna", "hash")
    assert accounts.set_up("code", "anna", "hash").role is Role.ADMIN
    with pytest.raises(Refused, match="users already"):
        accounts.set_up("code", "eve", "hash")
    with pytest.raises(Refused, match="users already"):
        accounts.offer_setup("more", clock.now + 60)


def test_the_code_is_over_in_time_and_with_the_first_user(accounts, clock):
    accounts.offer_setup("code", clock.now + 60)
    clock.now += 60
    with pytest.raises(NotSignedIn):
        accounts.set_up("code", "anna", "hash")
    accounts.offer_setup("code", clock.now + 60)
    accounts.add("ben", "b", Role.VIEWER)
    with pytest.raises(Refused):
        accounts.set_up("code", "anna", "hash")


def test_of_many_with_the_same_code_one_comes_in(accounts, clock):
    accounts.offer_setup("code", clock.now + 60)
    results = together(*[lambda name=f"u{n}": accounts.set_up("code", name, "hash") for n in range(6)])
    assert len([result for result in results if not isinstance(result, LeewardError)]) == 1, results
    assert len(accounts.all()) == 1


def test_a_new_password_ends_other_logins(accounts, credentials, clock):
    accounts.add("anna", "a", Role.ADMIN)
    for digest in ("mine", "stolen"):
        credentials.add_login(digest, "anna", "browser", "", clock.now + 1000)
    accounts.set_password("anna", "b", keep="mine")
    assert credentials.find_login("stolen") is None
    assert credentials.find_login("mine").user == "anna"
    accounts.set_password("anna", "c")
    assert credentials.find_login("mine") is None
