"""`leeward alert settings`, `set` and `test`, against a console in this process and real receivers."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console as Terminal
from tests.console.alerts.receivers import PASSWORD, USER, Receiver, careful_mail_server, console_with_alerts
from tests.console.kept_routes import kept_routes, routes  # noqa: F401
from tests.console.ready_tables import ready_tables, tables  # noqa: F401

from leeward.cli import alert_settings as commands
from leeward.cli.asking import Asker
from leeward.cli.main import main

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECRET = "a secret of some length"


@pytest.fixture
def console(tmp_path):
    with console_with_alerts(tmp_path) as made:
        yield made


@pytest.fixture
def run(console, monkeypatch, capsys):
    """A command as a script calls it: (exit code, what it wrote, what it complained of)."""

    class InProcess(Asker):
        def _send(self, method, path, json=None, params=None):
            return console.local.ask(method, path, json, params=params)

        def _where(self):
            return ""

    monkeypatch.setattr(commands, "current", lambda: type("Context", (), {"client": lambda self: InProcess()})())
    monkeypatch.setattr(commands, "out", Terminal(width=200, highlight=False))

    def call(*words, stdin=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(["alert", *map(str, words)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture
def server(console, tmp_path):
    with careful_mail_server(console.authority) as made:
        made.ca = tmp_path / "ca.pem"
        made.ca.write_bytes(console.authority.ca_pem)
        yield made


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


def mail_words(server):
    words = ["set", "mail", "--host", "127.0.0.1", "--port", server.port, "--user", USER, "--ca", server.ca]
    return [*words, "--sender", "leeward@office.example", "--to", "anna@office.example", "--on"]


def test_mail_is_set_tried_and_switched(console, run, server, tmp_path):
    code, told, _ = run(*mail_words(server), "--password-file", "-", "--json", stdin=f"{PASSWORD}\n")
    assert code == 0
    assert json.loads(told)["has_secret"] is True
    assert PASSWORD not in told
    assert json.loads(run("test", "mail", "--json")[1]) == {"channel": "mail", "sent": True}
    (recipients, content), *_ = server.mails
    assert recipients == ["anna@office.example"]
    assert b"Test message" in content
    code, told, _ = run("set", "mail", "--off", "--to", "ben@office.example", "--to", "cleo@office.example")
    assert code == 0
    assert "○ off" in told
    assert "ben@office.example, cleo@office.example" in told
    assert "password stored" in told
    assert "has taken the test message" in run("test", "mail")[1]
    assert console.center.settings.channel("mail").settings.enabled is False
    assert PASSWORD not in run("settings")[1] + run("settings", "--json")[1]


def test_a_webhook_is_set_without_its_address_or_secret_among_the_arguments(console, run, receiver, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    code, _, _ = run("set", "webhook", "--url", "-", "--secret-file", secret, "--on", stdin=f"{receiver.url}\n")
    assert code == 0
    assert run("test", "webhook")[0] == 0
    assert b'"test": true' in receiver.posts[0][1]
    receiver.status = 500
    code, told, why = run("test", "webhook", "--json")
    assert code == 4
    assert json.loads(told)["error"]["message"] == "the receiver answered with status 500"
    assert why.count("\n") == 1
    assert run("set", "webhook", "--url", "-", "--secret-file", "-")[0] == 2


def test_rules(run):
    told = json.loads(run("set", "rules", "--rpo-grace", "10m", "--full", "80", "--remind", "0", "--json")[1])
    assert (told["rpo_grace_s"], told["full"], told["remind_h"], told["drill_days"]) == (600.0, 80, 0, 90)
    shown = run("set", "rules", "--zone", "Asia/Tokyo")[1]
    assert "en, Asia/Tokyo" in shown
    assert "after 10 min" in shown


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("rules", "--rpo-grace", "soon"), "rpo_grace_s"),
        (("rules", "--full", "100"), "full"),
        (("rules", "--zone", "Mars/Base"), "zone"),
        (("rules",), "rules"),
        (("mail",), "mail"),
        (("mail", "--sender", "nobody"), "host"),
        (("mail", "--ca", "/nowhere"), "ca"),
        (("mail", "--on", "--password-file", "/nowhere"), "/nowhere"),
        (("webhook", "--url", "ftp://x"), "url"),
        (("webhook", "--url", "https://x/"), "secret"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_fields_name(run, words, field):
    code, told, why = run("set", *words)
    assert (code, told) == (2, "")
    assert why.startswith(f"Error: {field}: ")
    assert why.count("\n") == 1


def test_a_channel_that_was_never_set_is_not_tried(run):
    assert run("test", "mail")[0] == 3
    assert "never set" in run("settings")[1]


def test_a_refused_login_is_told(run, server):
    assert run(*mail_words(server), "--password-file", "-", stdin="wrong\n")[0] == 0
    code, _, why = run("test", "mail")
    assert code == 4
    assert "the mail server refused the login: 535" in why


def test_settings_are_as_documented(console, run, server, receiver, tmp_path):
    run(*mail_words(server), "--password-file", "-", stdin=f"{PASSWORD}\n")
    run("set", "webhook", "--url", receiver.url, "--secret-file", "-", stdin=f"{SECRET}\n")
    section = DOCS.split("### `leeward alert settings`", 1)[1].split("\n### ", 1)[0]
    documented = json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])
    shown = json.loads(run("settings", "--json")[1])
    for name, fields in documented.items():
        assert set(shown[name]) == set(fields), name
