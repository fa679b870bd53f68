"""The audit log: every change that is asked for, by whom, from where, with which end; and never a secret."""

import threading

import pytest
from tests.console.caller import PASSWORD, Caller
from tests.console.test_api import error

from leeward.domain.errors import Unavailable


def rows(console):
    return [
        (row["who"], row["address"], row["what"], row["subject"], row["outcome"], row["status"])
        for row in console.audit()[::-1]
    ]


def test_changes_of_every_end_are_kept(console, monkeypatch):
    anna = console.user("anna", "operator", address="198.51.100.4")
    before = len(rows(console))
    anna.put("/vms/web/protection", {"rpo_s": 2})
    anna.put("/vms/web/protection", {"rpo_s": "x"})
    anna.post("/vms/nope/pause")
    anna.delete("/users/ben")
    anna.get("/vms")
    console.local.post("/vms/web/pause")
    console.anyone.delete("/vms/web/protection")

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(console.service, "set_paused", fail)
    anna.post("/vms/web/resume")
    assert rows(console)[before:] == [
        ("anna", "198.51.100.4", "protect", "web", "done", 200),
        ("anna", "198.51.100.4", "protect", "web", "refused", 422),
        ("anna", "198.51.100.4", "pause", "nope", "refused", 404),
        ("anna", "198.51.100.4", "remove user", "ben", "refused", 403),
        ("local", "local", "pause", "web", "done", 200),
        ("nobody", "203.0.113.7", "unprotect", "web", "refused", 401),
        ("anna", "198.51.100.4", "resume", "web", "failed", 500),
    ]
    assert console.audit()[4]["detail"].startswith("there is no such VM")


def test_signing_in_is_by_that_user_and_who_cannot_is_told_by_the_name_that_he_tried(console):
    console.user("anna", "operator")
    for user in ("anna", " Root ", "<b>x</b>", "hunter2-is-my-password", "x" * 256):
        console.anyone.post("/login", {"user": user, "password": "wrong password"})
    console.browser("anna")
    assert rows(console)[-6:] == [
        ("nobody", "203.0.113.7", "login", "anna", "refused", 401),
        ("nobody", "203.0.113.7", "login", "root", "refused", 401),
        # What is no user's name, or may be a password that was typed into the wrong field, is kept nowhere.
        ("nobody", "203.0.113.7", "login", "no user's name, of length 8", "refused", 401),
        ("nobody", "203.0.113.7", "login", "no user's name, of length 22", "refused", 401),
        ("nobody", "203.0.113.7", "login", "no user's name, of length 256", "refused", 401),
        ("anna", "203.0.113.7", "login", "anna", "done", 200),
    ]
    assert "hunter2" not in console.local.get("/audit").text


def test_no_secret_is_kept(console):
    anna = console.user("anna", "admin")
    secrets = [PASSWORD, anna.headers["Authorization"].removeprefix("Bearer ")]
    secrets.append(anna.post("/tokens", {"name": "ci"}).json()["token"])
    anna.post("/users", {"name": "ben", "password": "a secret of ben's"})
    anna.put("/users/ben/password", {"password": "another one of his"})
    anna.put("/users/anna/password", {"password": "a new one of hers", "current": PASSWORD})
    anna.post("/users", {"name": "zoe", "password": ["hunter2"]})
    anna.delete("/tokens/ci")
    text = console.local.get("/audit").text + console.local.get("/events").text
    for secret in [*secrets, "secret", "another one", "a new one", "hunter2", "argon2"]:
        assert secret not in text
    assert [row[3] for row in rows(console)[-6:]] == ["ci", "ben", "ben", "anna", "", "ci"]


def test_a_token_is_told_from_its_owner(console):
    anna = console.user("anna", "operator")
    token = anna.post("/tokens", {"name": "ci", "role": "operator"}).json()["token"]
    Caller(console.app, headers={"Authorization": f"Bearer {token}"}).put("/vms/web/protection", {})
    assert rows(console)[-1][0] == "anna, token ci"
    assert console.local.get("/events").json()[0]["who"] == "anna, token ci"


def test_what_cannot_be_written_down_is_not_done(console, monkeypatch):
    def fail(**_):
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(console.identity.audit, "add", fail)
    error(console.local.put("/vms/web/protection", {}), 503, "unavailable")
    assert console.database.desired().protections == ()


def test_what_was_done_stays_done_though_its_end_cannot_be_written(console, monkeypatch):
    def fail(*_, **__):
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(console.identity.audit, "end", fail)
    assert console.local.put("/vms/web/protection", {}).status_code == 200
    assert rows(console)[-1][4:] == ("begun", 0)


def test_a_change_under_way_is_seen(console, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()
    inner = console.service.protect

    def slow(*args):
        inside.set()
        assert go_on.wait(20)
        return inner(*args)

    monkeypatch.setattr(console.service, "protect", slow)
    thread = threading.Thread(target=lambda: console.local.put("/vms/web/protection", {}))
    thread.start()
    assert inside.wait(20)
    assert rows(console)[-1][2:] == ("protect", "web", "begun", 0)
    go_on.set()
    thread.join()
    assert rows(console)[-1][2:] == ("protect", "web", "done", 200)


def test_strangers_cannot_fill_the_log(console):
    for _ in range(100):
        console.anyone.post("/vms/web/pause")
    assert len(rows(console)) == 60
    assert console.user("anna", "operator").post("/vms/web/pause").status_code == 409
    assert len(rows(console)) == 62
    console.pace += 10
    console.anyone.post("/vms/web/pause")
    assert "40 more were refused" in console.audit()[0]["detail"]


@pytest.mark.parametrize("query", ["limit=0", "before=0", "limit=x", f"before={1 << 31}", f"before={10**30}"])
def test_bad_queries(shared, query):
    error(shared.local.get(f"/audit?{query}"), 422, "bad-input")


def test_pages(console):
    for _ in range(5):
        console.local.post("/vms/web/pause")
    first = console.local.get("/audit", params={"limit": 2}).json()
    second = console.local.get("/audit", params={"limit": 2, "before": first[-1]["id"]}).json()
    assert [row["id"] for row in first + second] == sorted((row["id"] for row in first + second), reverse=True)
    assert len({row["id"] for row in first + second}) == 4
