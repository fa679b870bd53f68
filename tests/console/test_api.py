"""The API as a program sees it: what it answers with, and every error in one shape with its status code."""

import re
import time
from pathlib import Path

import pytest
from tests.console.caller import WEB
from tests.console.world import Opener

from leeward.agent.keys import load_keys
from leeward.domain.errors import (
    Damaged,
    Fenced,
    HostBusy,
    HypervisorError,
    LeewardError,
    StoreUnavailable,
    TooManyAttempts,
)

pytestmark = pytest.mark.usefixtures("quick")

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
FIELDS = {"code", "message", "subject", "hint", "exit_code"}


def error(answer, status, code):
    """The error of an answer, when it is one of this kind and shape."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    told = answer.json()["error"]
    assert set(told) == FIELDS
    assert told["code"] == code, told
    assert told["message"]
    assert "\n" not in told["message"]
    assert f"| {status} |" in DOCS, status
    assert re.search(rf"^\| {told['exit_code']} \|", DOCS, re.MULTILINE), told
    return told


def until(call, condition, timeout_s=20.0):
    ends = time.monotonic() + timeout_s
    while True:
        found = call()
        if condition(found):
            return found
        assert time.monotonic() < ends, found
        time.sleep(0.05)


def documented(heading):
    """Keys of the JSON example under a heading of docs/cli.md."""
    example = DOCS.split(f"### `{heading}`")[1].split("```json")[1].split("```")[0]
    return set(re.findall(r'^[\[{]*\s*"(\w+)":|(?:^|, )"(\w+)": ', example, re.MULTILINE))


def test_health_hosts_and_vms(shared):
    assert shared.anyone.get("/health").json()["version"]
    hosts = shared.local.get("/hosts").json()
    assert hosts[0] == {
        "name": "office",
        "site": "source",
        "uri": "memory",
        "reachable": True,
        "error": "",
        "vms": 1,
        "trouble": "",
    }
    assert (hosts[1]["name"], hosts[1]["site"]) == ("recovery", "recovery")
    (vm,) = shared.local.get("/vms").json()
    assert (vm["id"], vm["name"], vm["protected"], vm["unsupported"]) == (WEB, "web", False, "")
    assert vm["disks"] == [{"name": "vda", "size": 8 << 16}, {"name": "vdb", "size": 4 << 16}]


def test_a_protection_from_first_to_last(console):
    ask = console.local
    assert ask.get("/status").json()[0]["state"] == "disabled"
    view = ask.put("/vms/web/protection", {"rpo_s": 1, "app_interval_s": 0}).json()
    assert (view["vm"], view["vm_id"], view["rpo_target_s"]) == ("web", WEB, 1.0)
    view = until(lambda: ask.get("/status", params={"vm": "web"}).json()[0], lambda view: view["state"] == "enabled")
    assert view["failover_possible"]
    assert console.vault.log(WEB).points()[-1].id == view["last_point"]["id"]
    changed = ask.put(f"/vms/{WEB}/protection", {"bandwidth": 4_000_000_000}).json()
    assert changed["policy"]["rpo_s"] == 1.0
    assert changed["policy"]["bandwidth"] == 4_000_000_000
    assert ask.post("/vms/web/pause").json()["vm_id"] == WEB
    until(lambda: ask.get("/status").json()[0]["state"], lambda state: state == "paused")
    assert ask.post("/vms/web/resume").status_code == 200
    until(lambda: ask.get("/status").json()[0]["state"], lambda state: state == "enabled")
    assert ask.delete("/vms/web/protection").json() == {
        "vm": "web",
        "state": "disabled",
        "given_up_bytes": 0,
    }
    assert ask.get("/status").json()[0]["state"] == "disabled"
    assert [event["what"] for event in ask.get("/events").json()] == [
        "unprotect",
        "resume",
        "pause",
        "protect",
        "protect",
    ]
    assert console.vault.log(WEB).points()


def test_events_tell_who_did_it(console):
    console.user("anna", "operator").put("/vms/web/protection", {})
    console.local.post("/vms/web/pause")
    events = console.anyone.get("/events"), console.local.get("/events").json()
    assert events[0].status_code == 401
    assert [(event["what"], event["who"]) for event in events[1]] == [("pause", "local"), ("protect", "anna")]


def test_a_failover_and_a_test_through_the_api(console):
    anna = console.user("anna", "operator")
    console.world.protect()
    begun = anna.post("/vms/web/test-failover")
    assert begun.status_code == 202, begun.text
    until(lambda: anna.get("/vms/web/test-failover").json(), lambda view: view["done"])
    assert [view["vm"] for view in anna.get("/test-failovers").json()] == ["web"]
    error(anna.delete("/vms/web/protection"), 409, "refused")
    assert anna.delete("/vms/web/test-failover").status_code == 200
    assert anna.get("/vms/web/loss?event=unplanned&point=latest").json()["lossless"] is True
    error(anna.get("/vms/web/loss?event=planned"), 422, "bad-input")
    begun = anna.post("/vms/web/failover/planned", {"point": "latest"})
    assert begun.status_code == 202, begun.text
    run = begun.json()
    assert (run["vm_id"], run["by"]) == (WEB, "anna")
    # The VM's phase, and the history, follow the run's end.
    wanted = {("planned begun", "anna"), ("planned done", "anna"), ("test begun", "anna")}
    until(
        lambda: {(event["what"], event["who"]) for event in anna.get("/events").json()}, lambda found: wanted <= found
    )
    done = anna.get("/vms/web/run").json()
    assert (done["id"], done["state"], done["phase"]) == (run["id"], "done", "away")
    assert anna.get(f"/runs/{run['id']}").json() == done
    assert anna.get("/runs", params={"vm": "web", "limit": 1}).json() == [done]
    error(anna.post("/vms/web/failover/planned"), 409, "refused")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/status?vm=nope", None, 404, "not-found"),
        ("PUT", "/vms/nope/protection", {}, 404, "not-found"),
        ("DELETE", "/vms/nope/protection", None, 404, "not-found"),
        ("POST", "/vms/nope/pause", {}, 404, "not-found"),
        ("DELETE", "/vms/web/protection", None, 409, "refused"),
        ("POST", "/vms/web/resume", {}, 409, "refused"),
        ("POST", "/vms/nope/failover/planned", {}, 404, "not-found"),
        ("POST", "/vms/web/failover/unplanned", {}, 409, "refused"),
        ("POST", "/vms/web/failback", {}, 409, "refused"),
        ("POST", "/vms/web/commit", {}, 409, "refused"),
        ("POST", "/vms/web/retry", {}, 409, "refused"),
        ("POST", "/vms/web/cancel", {}, 409, "refused"),
        ("POST", "/vms/web/failback", {"timeout_s": 0}, 422, "bad-input"),
        ("GET", "/vms/web/run", None, 409, "refused"),
        ("GET", "/runs/nope", None, 404, "not-found"),
        ("GET", "/vms/web/test-failover", None, 409, "refused"),
        ("DELETE", "/vms/web/test-failover", None, 409, "refused"),
        ("POST", "/vms/nope/test-failover", {}, 404, "not-found"),
        ("POST", "/vms/web/test-failover", {"point": 5}, 422, "bad-input"),
        ("GET", "/nothing", None, 404, "not-found"),
        ("GET", "/vms/web/nothing/at/all", None, 404, "not-found"),
        ("POST", "/status", {}, 405, "bad-input"),
    ],
)
def test_errors(shared, method, path, body, status, code):
    error(shared.local.ask(method, path, body), status, code)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rpo_s": "soon"}, "rpo_s"),
        ({"rpo_s": 0.5}, "rpo_s"),
        ({"rpo_s": None, "retain_s": 1e300}, "retain_s"),
        ({"bandwidth": 1.5}, "bandwidth"),
        ({"bandwidth": -1}, "bandwidth"),
        ({"bandwidth": 10**40}, "bandwidth"),
        ({"rpo": 5}, "rpo"),
        ([], "body"),
        ("x", "body"),
    ],
)
def test_bad_fields_are_named(shared, body, field):
    told = error(shared.local.put("/vms/web/protection", body), 422, "bad-input")
    assert field in told["message"] + told["subject"]
    assert shared.database.desired().protections == ()


@pytest.mark.parametrize(
    "raw", [b"{", b"\xff\xfe", b'{"retain_s": Infinity}', b'{"retain_s": 1e999}', b'{"rpo_s": NaN}']
)
def test_what_is_no_json(shared, raw):
    answer = shared.local.ask("PUT", "/vms/web/protection", content=raw, headers={"Content-Type": "application/json"})
    error(answer, 422, "bad-input")


def test_a_body_that_does_not_say_it_is_json_is_refused(shared):
    """A foreign page can make a browser send text, but not JSON."""
    answer = shared.local.ask("PUT", "/vms/web/protection", content=b"{}", headers={"Content-Type": "text/plain"})
    error(answer, 422, "bad-input")


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=100000000"])
def test_bad_queries_are_named(shared, query):
    assert error(shared.local.get(f"/events?{query}"), 422, "bad-input")["subject"] == "limit"


def test_too_large_a_body(shared):
    answer = shared.local.ask("PUT", "/vms/web/protection", {"rpo_s": "x" * (2 << 20)})
    error(answer, 413, "bad-input")
    error(shared.anyone.post("/login", {"user": "x" * (2 << 20), "password": "x"}), 413, "bad-input")

    async def pieces():
        for _ in range(40):
            yield b"x" * 65536

    error(shared.anyone.ask("POST", "/login", content=pieces()), 413, "bad-input")


def test_without_the_vaults_key_protecting_says_what_to_do(console, monkeypatch):
    monkeypatch.setattr(Opener, "open", lambda _: load_keys(console.folder))
    told = error(console.local.put("/vms/web/protection", {}), 404, "not-found")
    assert "leeward vault unlock" in told["hint"]
    assert console.database.desired().protections == ()


@pytest.mark.parametrize(
    ("raised", "status", "exit_code"),
    [
        (StoreUnavailable("x"), 503, 5),
        (HostBusy("x"), 503, 5),
        (TooManyAttempts("x", wait_s=7), 429, 5),
        (HypervisorError("x"), 500, 9),
        (Damaged("x"), 500, 7),
        (Fenced("x"), 500, 8),
        (LeewardError("x"), 500, 1),
    ],
)
def test_each_kind_of_error_has_its_status(shared, monkeypatch, raised, status, exit_code):
    def fail(*_):
        raise raised

    monkeypatch.setattr(shared.service, "hosts", fail)
    answer = shared.local.get("/hosts")
    assert error(answer, status, raised.code)["exit_code"] == exit_code
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


def test_a_bug_is_no_traceback(shared, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(shared.service, "hosts", fail)
    told = error(shared.local.get("/hosts"), 500, "internal")
    assert told["exit_code"] == 70
    assert "secret" not in str(told)


def test_the_database_may_be_away_and_come_back(console, monkeypatch):
    console.local.put("/vms/web/protection", {})
    engine = console.database._engine
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE counter RENAME TO elsewhere")
    error(console.local.get("/status"), 500, "error")
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO counter")
    assert console.local.get("/status").status_code == 200


def test_the_openapi_document(shared):
    document = shared.local.get("/openapi.json").json()
    assert "/api/v1/vms/{vm}/protection" in document["paths"]
    assert shared.anyone.get("/openapi.json").status_code == 401
