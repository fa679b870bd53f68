"""The API of alerts, and `leeward alert …` against it."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console as Terminal
from tests.console.caller import Console
from tests.console.test_api import error

from leeward.cli import alerts as commands
from leeward.cli.main import main
from leeward.console.alerts.center import AlertCenter
from leeward.console.alerts_api import build_router
from leeward.console.authority import Authority
from leeward.console.web.alert_letters import From
from leeward.domain.alerts import AlertKind, Decision, Trouble

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
HOST = Trouble(AlertKind.HOST, "office", "office", "its agent does not answer")
LATE = Trouble(AlertKind.RPO, "id-db", "db", "", "office", 60.0)


@pytest.fixture
def console(tmp_path):
    def routers(made):
        made.center = AlertCenter(
            made.database, Authority.open(tmp_path / "authority"), From("here", ""), clock=lambda: 1_800_000_300.0
        )
        return [build_router(made.center)]

    made = Console(tmp_path, routers=routers)
    made.center.book.apply(Decision(((HOST, 60.0), (LATE, 60.0)), (), ()), 1_800_000_000.0)
    yield made
    made.close()


@pytest.fixture
def run(console, monkeypatch, capsys):
    """A command as a script calls it, with the console in this process."""

    class Client:
        def get(self, path, **params):
            return self._checked(console.local.get(path, params={k: v for k, v in params.items() if v is not None}))

        def post(self, path):
            return self._checked(console.local.post(path))

        def _checked(self, answer):
            assert answer.status_code == 200, answer.text
            return answer.json()

    monkeypatch.setattr(commands, "current", lambda: type("Context", (), {"client": lambda self: Client()})())
    monkeypatch.setattr(commands, "out", Terminal(width=200, highlight=False))

    def call(*words):
        assert main(["alert", *words]) == 0
        return capsys.readouterr().out

    return call


def documented():
    section = DOCS.split("### `leeward alert list`", 1)[1].split("\n### ", 1)[0]
    return json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])


def test_alerts_are_told_as_documented(console):
    alerts = console.user("anna", "viewer").get("/alerts").json()
    assert [one["kind"] for one in alerts] == ["rpo", "host"]
    (example,) = documented()
    assert list(alerts[1]) == list(example)
    assert alerts[1]["text"] == example["text"]
    assert (alerts[1]["began"], alerts[1]["raised"]) == ("2027-01-15T07:59:00Z", "2027-01-15T08:00:00Z")


def test_one_half_or_both(console):
    console.center.book.apply(Decision((), (), (HOST.key,)), 1_800_000_600.0)
    found = {
        state: [one["kind"] for one in console.local.get("/alerts", params={"state": state}).json()]
        for state in ("open", "past", "all")
    }
    assert found == {"open": ["rpo"], "past": ["host"], "all": ["rpo", "host"]}
    assert console.local.get("/alerts", params={"state": "odd"}).status_code == 422
    assert console.local.get("/alerts", params={"kind": "odd"}).status_code == 422


@pytest.mark.parametrize("number", [0, 1 << 31, 1 << 63, 10**30])
def test_numbers_that_no_alert_has(console, number):
    for answer in (
        console.local.get("/alerts", params={"before": number}),
        console.local.post(f"/alerts/{number}/acknowledge"),
    ):
        error(answer, 422, "bad-input")
    largest = (1 << 31) - 1
    assert len(console.local.get("/alerts", params={"before": largest}).json()) == 2
    assert console.local.post(f"/alerts/{largest}/acknowledge").status_code == 404


def test_an_operator_acknowledges_a_viewer_does_not(console):
    (number,) = [one["id"] for one in console.local.get("/alerts", params={"kind": "host"}).json()]
    assert console.user("anna", "viewer").post(f"/alerts/{number}/acknowledge").status_code == 403
    done = console.user("ben", "operator").post(f"/alerts/{number}/acknowledge").json()
    assert (done["state"], done["acknowledged_by"]) == ("acknowledged", "ben")
    assert done["acknowledged"] == "2027-01-15T08:05:00Z"
    assert console.local.post("/alerts/999/acknowledge").status_code == 404
    console.center.book.apply(Decision((), (), (HOST.key,)), 1_800_000_600.0)
    assert console.local.post(f"/alerts/{number}/acknowledge").status_code == 409
    assert ("acknowledge alert", "ben", "office", "done") in [
        (entry["what"], entry["who"], entry["subject"], entry["outcome"]) for entry in console.audit()
    ]


def test_the_command_line(console, run):
    assert [one["kind"] for one in json.loads(run("list", "--json"))] == ["rpo", "host"]
    assert [one["kind"] for one in json.loads(run("list", "--kind", "host", "--json"))] == ["host"]
    shown = run("list")
    assert "Host office cannot be reached." in shown
    assert "its agent does not answer" in shown
    number = json.loads(run("list", "--kind", "host", "--json"))[0]["id"]
    assert json.loads(run("ack", str(number), "--json"))["acknowledged_by"] == "local"
    assert "seen by local" in run("list")
    assert "There are no such alerts." in run("list", "--state", "past")


def test_what_hosts_are_called_does_not_write_into_the_terminal(console, run):
    evil = Trouble(AlertKind.HOST, "x", "\x1b[2J[red]evil", "\x07")
    console.center.book.apply(Decision(((evil, 0.0),), (), ()), 1_800_000_000.0)
    shown = run("list")
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "[red]evil" in shown
