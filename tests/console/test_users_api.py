"""Users and tokens through the API."""

import time

import pytest
from tests.console.caller import PASSWORD, Caller
from tests.console.test_api import error

NEW = "another long password"


def bearer(console, secret):
    return Caller(console.app, headers={"Authorization": f"Bearer {secret}"})


def test_users(console):
    admin = console.user("root", "admin")
    made = admin.post("/users", {"name": "Ben", "password": PASSWORD, "role": "operator"})
    assert (made.status_code, made.json()["name"], made.json()["role"]) == (201, "ben", "operator")
    assert [user["name"] for user in admin.get("/users").json()] == ["ben", "root"]
    assert PASSWORD not in admin.get("/users").text
    assert "argon2" not in admin.get("/users").text
    error(admin.post("/users", {"name": "ben", "password": PASSWORD}), 409, "refused")
    assert admin.put("/users/ben/role", {"role": "viewer"}).json()["role"] == "viewer"
    error(admin.put("/users/nobody1/role", {"role": "viewer"}), 404, "not-found")
    error(admin.put("/users/ben/role", {"role": "king"}), 422, "bad-input")
    assert admin.delete("/users/BEN").json() == {"name": "ben", "state": "removed"}
    error(admin.delete("/users/ben"), 404, "not-found")
    error(admin.delete("/users/root"), 409, "refused")


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "x" * 65, "é", "a/b", "a\0b", "local", "nobody", "Leeward"])
def test_names_that_are_none(shared, name):
    error(shared.local.post("/users", {"name": name, "password": PASSWORD}), 422, "bad-input")


def test_ones_own_password(console):
    anna, elsewhere = console.user("anna", "viewer"), console.signed_in("anna")
    console.user("ben", "viewer")
    error(anna.put("/users/ben/password", {"password": NEW}), 403, "forbidden")
    error(anna.put("/users/anna/password", {"password": NEW}), 422, "bad-input")
    error(anna.put("/users/anna/password", {"password": NEW, "current": "wrong"}), 403, "forbidden")
    assert anna.put("/users/anna/password", {"password": NEW, "current": PASSWORD}).status_code == 200
    assert anna.get("/session").status_code == 200
    assert elsewhere.get("/session").status_code == 401
    error(console.anyone.post("/login", {"user": "anna", "password": PASSWORD}), 401, "not-signed-in")
    console.signed_in("anna", NEW)


def test_guesses_at_ones_own_password_are_counted(console):
    anna = console.user("anna", "viewer")
    body = {"password": NEW, "current": "wrong"}
    statuses = [anna.put("/users/anna/password", body).status_code for _ in range(7)]
    assert statuses == [403] * 5 + [429] * 2


def test_an_admin_sets_anothers_password_and_ends_his_logins(console):
    anna = console.user("anna", "viewer")
    admin = console.user("root", "admin")
    assert admin.put("/users/anna/password", {"password": NEW}).status_code == 200
    assert anna.get("/session").status_code == 401
    assert console.local.put("/users/root/password", {"password": NEW}).status_code == 200
    assert admin.get("/session").status_code == 401


def test_a_token_is_told_once_and_does_what_its_role_may(console):
    anna = console.user("anna", "operator")
    made = anna.post("/tokens", {"name": "nightly check", "role": "viewer"}).json()
    assert made["token"].startswith("lwt_")
    assert len(made["token"]) == 4 + 43
    (seen,) = anna.get("/tokens").json()
    assert seen == {name: value for name, value in made.items() if name != "token"}
    assert (seen["owner"], seen["last_used"]) == ("anna", None)
    token = bearer(console, made["token"])
    assert token.get("/vms").status_code == 200
    error(token.put("/vms/web/protection", {}), 403, "forbidden")
    assert token.get("/session").json()["who"] == "anna, token nightly check"
    assert anna.get("/tokens").json()[0]["last_used"] is not None
    assert anna.delete("/tokens/nightly%20check").json()["id"] == made["id"]
    assert token.get("/vms").status_code == 401


def test_tokens_give_nobody_more_than_he_has(console):
    anna = console.user("anna", "operator")
    error(anna.post("/tokens", {"name": "x", "role": "admin"}), 403, "forbidden")
    token = bearer(console, anna.post("/tokens", {"name": "x", "role": "operator"}).json()["token"])
    error(token.post("/tokens", {"name": "y", "role": "viewer"}), 403, "forbidden")
    error(token.put("/users/anna/password", {"password": NEW, "current": PASSWORD}), 403, "forbidden")
    console.local.put("/users/anna/role", {"role": "viewer"})
    error(token.post("/vms/web/pause"), 403, "forbidden")


def test_others_tokens_are_for_admins(console):
    anna, ben, admin = console.user("anna", "viewer"), console.user("ben", "viewer"), console.user("root", "admin")
    for caller in (anna, ben, console.local):
        assert caller.post("/tokens", {"name": "x"}).status_code == 201
    error(anna.post("/tokens", {"name": "x"}), 409, "refused")
    assert [token["owner"] for token in anna.get("/tokens").json()] == ["anna"]
    everybodys = {token["owner"]: token["id"] for token in admin.get("/tokens").json()}
    assert set(everybodys) == {"anna", "ben", None}
    error(anna.delete(f"/tokens/{everybodys['ben']}"), 404, "not-found")
    error(admin.delete("/tokens/x"), 422, "bad-input")
    assert admin.delete(f"/tokens/{everybodys['ben']}").status_code == 200
    assert ben.get("/tokens").json() == []
    assert anna.delete("/tokens/x").status_code == 200


def test_tokens_end(console, monkeypatch):
    short = console.local.post("/tokens", {"name": "short", "expires_s": 3600}).json()
    ever = console.local.post("/tokens", {"name": "ever", "expires_s": None}).json()
    usual = console.local.post("/tokens", {"name": "usual"}).json()
    assert ever["expires"] is None
    for hours, holding in ((0.9, "seu"), (2, "eu"), (24 * 89, "eu"), (24 * 91, "e"), (24 * 9999, "e")):
        now = time.time() + hours * 3600
        monkeypatch.setattr(console.identity.gate._credentials, "_clock", lambda now=now: now)
        tries = {"s": short, "e": ever, "u": usual}
        held = {name for name, made in tries.items() if bearer(console, made["token"]).get("/vms").is_success}
        assert held == set(holding), hours


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x", "expires_s": 0}, "expires_s"),
        ({"name": "x", "expires_s": 1e12}, "expires_s"),
        ({"name": "x", "role": "root"}, "role"),
        ({"name": "x\ny"}, "x"),
        ({"name": "a, token b"}, "a, token b"),
    ],
)
def test_bad_tokens(shared, body, field):
    assert field in error(shared.local.post("/tokens", body), 422, "bad-input")["subject"]


def test_secrets_are_not_repeated_in_errors(shared):
    for path, body in (
        ("/users", {"name": "anna", "password": ["hunter2hunter2"]}),
        ("/login", {"user": "anna", "password": "hunter2hunter2", "kind": "x"}),
        ("/setup", {"code": 5, "user": "anna", "password": {"p": "hunter2hunter2"}}),
    ):
        answer = shared.local.post(path, body)
        error(answer, 422, "bad-input")
        assert "hunter2" not in answer.text
