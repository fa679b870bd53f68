"""Signing in: for browsers, for the command line, the first user; and everything that must not get anybody in."""

import time

import pytest
from tests.console.caller import PASSWORD, Caller
from tests.console.test_api import error

from leeward.console import reception
from leeward.console.gate import COOKIE
from leeward.domain.errors import BadInput


def test_a_browsers_cookie_is_out_of_reach(console):
    console.user("anna", "operator")
    answer = console.anyone.post("/login", {"user": "Anna ", "password": PASSWORD})
    (cookie,) = answer.headers.get_list("set-cookie")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert cookie.startswith("__Host-")
    assert {"httponly", "secure", "samesite=strict", "path=/"} <= parts
    assert not any(part.startswith("domain") for part in parts)
    assert answer.json()["token"] is None
    assert answer.json()["role"] == "operator"
    assert answer.cookies[COOKIE] not in answer.text


def test_a_browser_needs_the_csrf_token_for_changes_and_only_for_them(console):
    console.user("anna", "operator")
    caller, csrf = console.browser("anna")
    assert caller.get("/vms").status_code == 200
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": csrf[:-1] + "x"}, {"X-CSRF-Token": "é"}):
        answer = caller.put("/vms/web/protection", {}, headers={k: v.encode() for k, v in headers.items()})
        error(answer, 403, "forbidden")
    assert console.database.desired().protections == ()
    assert caller.get("/session").json()["csrf"] == csrf
    assert caller.put("/vms/web/protection", {}, headers={"X-CSRF-Token": csrf}).status_code == 200
    other, others = console.browser("anna")
    assert others != csrf
    error(other.put("/vms/web/protection", {}, headers={"X-CSRF-Token": csrf}), 403, "forbidden")


def test_bearers_need_no_csrf_token(console):
    caller = console.user("anna", "operator")
    assert caller.put("/vms/web/protection", {}).status_code == 200
    assert caller.get("/session").json() | {"expires": ""} == {
        "who": "anna",
        "user": "anna",
        "role": "operator",
        "via": "cli",
        "expires": "",
        "csrf": None,
    }


def test_a_login_of_one_kind_is_none_of_the_other(console):
    cli = console.user("anna", "operator")
    browser, _ = console.browser("anna")
    secret = cli.headers["Authorization"].removeprefix("Bearer ")
    error(Caller(console.app, cookies={COOKIE: secret}).get("/vms"), 401, "not-signed-in")
    bearer = {"Authorization": f"Bearer {browser.cookies[COOKIE]}"}
    error(Caller(console.app, headers=bearer).get("/vms"), 401, "not-signed-in")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer lwt_x", "Bearer lwl_x", "Basic YTpi", "Bearer \u00e9", "Token lwt_x"]
)
def test_wrong_credentials_are_nobody_everywhere(shared, header):
    for local in (True, False):
        caller = Caller(shared.app, local=local, headers={"Authorization": header.encode()})
        answer = caller.get("/vms")
        error(answer, 401, "not-signed-in")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert caller.get("/health").status_code == 200


def test_signing_out_ends_just_this_login(console):
    one, two = console.user("anna", "viewer"), console.signed_in("anna")
    assert one.delete("/session").json()["state"] == "signed out"
    assert one.get("/vms").status_code == 401
    assert two.get("/vms").status_code == 200
    browser, csrf = console.browser("anna")
    answer = browser.delete("/session", headers={"X-CSRF-Token": csrf})
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert browser.get("/vms").status_code == 401
    error(console.local.delete("/session"), 409, "refused")


def test_logins_end_in_time(console, monkeypatch):
    caller = console.user("anna", "viewer")
    credentials = console.identity.gate._credentials
    now = time.time()
    monkeypatch.setattr(credentials, "_clock", lambda: now + 6.9 * 86_400)
    assert caller.get("/vms").status_code == 200
    monkeypatch.setattr(credentials, "_clock", lambda: now + 14 * 86_400)
    assert caller.get("/vms").status_code == 401


def test_a_proxy_before_the_socket_makes_nobody_root(shared):
    for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
        error(Caller(shared.app, local=True, headers={name: "1.2.3.4"}).get("/vms"), 401, "not-signed-in")


def test_wrong_user_and_wrong_password_look_the_same(console):
    console.user("anna", "admin")
    answers = [
        console.anyone.post("/login", {"user": user, "password": password})
        for user, password in [("anna", "wrong password"), ("nobody-here", PASSWORD), ("no name: !", PASSWORD)]
    ]
    told = [error(answer, 401, "not-signed-in") | {"subject": ""} for answer in answers]
    assert told[0] == told[1] == told[2]
    assert next(dict(answer.headers) for answer in answers).keys() == dict(answers[1].headers).keys()


def test_unknown_users_cost_the_same_work(console, monkeypatch):
    """Not seconds, which vary, but what takes them."""
    console.user("anna", "admin")
    seen = []
    inner = console.identity.reception._passwords.match
    monkeypatch.setattr(
        console.identity.reception._passwords, "match", lambda *args: seen.append(args[1] is None) or inner(*args)
    )
    for user in ("anna", "nobody-here"):
        console.anyone.post("/login", {"user": user, "password": "wrong"})
    assert seen == [False, True]


def test_guessing_is_slowed_by_user_and_address(console):
    console.user("anna", "admin")
    console.user("ben", "viewer")

    def guess(user, address, password="wrong"):
        return Caller(console.app, address=address).post("/login", {"user": user, "password": password})

    for _ in range(5):
        error(guess("anna", "203.0.113.9"), 401, "not-signed-in")
    answer = guess("anna", "203.0.113.9", PASSWORD)
    error(answer, 429, "too-many-attempts")
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    # From elsewhere, and for others from there, it still goes.
    assert guess("anna", "203.0.113.10", PASSWORD).status_code == 200
    assert guess("ben", "203.0.113.9", PASSWORD).status_code == 200
    statuses = [guess(f"user{number}", "203.0.113.9").status_code for number in range(20)]
    assert statuses[:14] == [401] * 14
    assert statuses[-1] == 429
    # The machine's root is never kept out.
    assert console.local.post("/login", {"user": "anna", "password": PASSWORD}).status_code == 200


def test_good_logins_are_not_counted(console):
    console.user("anna", "admin")
    for _ in range(30):
        assert console.anyone.post("/login", {"user": "anna", "password": PASSWORD}).status_code == 200


def test_the_first_admin_comes_with_the_code_and_only_then(console):
    wanted = {"user": "Anna", "password": PASSWORD}
    error(console.anyone.post("/setup", {"code": "AAAAA-AAAAA-AAAAA-AAAAA", **wanted}), 401, "not-signed-in")
    code = console.local.post("/setup-code").json()["code"]
    error(console.anyone.post("/setup", {"code": code, "user": "anna", "password": "short"}), 422, "bad-input")
    typed = code.lower().replace("-", " ")
    made = console.anyone.post("/setup", {"code": typed, **wanted})
    assert (made.status_code, made.json()["name"], made.json()["role"]) == (201, "anna", "admin")
    error(console.anyone.post("/setup", {"code": code, **wanted}), 409, "refused")
    error(console.local.post("/setup-code"), 409, "refused")
    assert console.signed_in("anna").get("/users").json()[0]["name"] == "anna"


def test_codes_cannot_be_tried_at_will(console):
    body = {"code": "x", "user": "anna", "password": PASSWORD}
    statuses = {console.anyone.post("/setup", body).status_code for _ in range(8)}
    assert statuses == {401, 429}


def test_passwords_and_logins_lie_nowhere_in_the_database(console):
    console.user("anna", "admin")
    browser, csrf = console.browser("anna")
    made = console.local.post("/tokens", {"name": "ci"}).json()["token"]
    code = None
    console.database.close()
    stored = b"".join(path.read_bytes() for path in console.folder.glob("leeward.db*"))
    assert b"anna" in stored
    for secret in (PASSWORD, browser.cookies[COOKIE], made, csrf, code or "lwt_"):
        assert secret.encode() not in stored


@pytest.mark.parametrize("password", ["short", "a" * 300, "aaaaaaaaaaaaaaa", "annaannaanna"])
def test_weak_passwords(shared, password):
    with pytest.raises(BadInput):
        shared.identity.reception.add_user("annaannaanna", password, reception.Role.VIEWER)


def test_one_password_however_it_is_typed(shared):
    shared.local.post("/users", {"name": "zoe", "password": "caf\u00e9 caf\u00e9 caf\u00e9"})
    shared.signed_in("zoe", "cafe\u0301 cafe\u0301 cafe\u0301")
