"""`leeward host scan` as a script and as a person see it, over strangers on loopback at their real ports."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.network.discovery import strangers as st

from leeward.cli import discovery
from leeward.cli.main import main

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTION = DOCS.split("### `leeward host scan RANGE...`\n", 1)[1]
DOCUMENTED = json.loads(re.search(r"```json\n(.*?)```", SECTION, re.DOTALL)[1])
# Loopback addresses of this test run's own.
NET = f"127.{77 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
BEACON, HYPERV, WINDOWS, MARKUP = f"{NET}.4", f"{NET}.5", f"{NET}.6", f"{NET}.7"


@pytest.fixture(scope="module")
def crowd():
    crowd = st.Strangers()
    evil = st.IDENTIFY_RESPONSE.replace(b"Microsoft Corporation", b"[red]Acme[/] \x1b[2J")
    for address, port, handle in (
        (BEACON, 16509, st.closes),
        (HYPERV, 5985, st.windows),
        (HYPERV, 2179, st.mute),
        (WINDOWS, 5985, st.windows),
        (MARKUP, 5985, st.says(st.http_answer("200 OK", evil))),
    ):
        sock = socket.socket()
        sock.bind((address, port))
        crowd.add(handle, sock)
    yield crowd
    crowd.close()


def start(*words):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "leeward.cli.main", "host", "scan", *words]
    # A shell that runs tests in the background has them ignore Ctrl-C.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def run(capsys, monkeypatch):
    """run(words) → exit code, standard output, standard error."""
    monkeypatch.setattr(discovery.out, "width", 200)
    monkeypatch.setattr("structlog.configure", lambda **_: None)  # it would outlive this test

    def call(*words):
        code = main(["host", "scan", *words])
        return code, *capsys.readouterr()

    return call


def test_the_json_is_as_documented(run, crowd):
    code, out, err = run(f"{NET}.5-6", f"{NET}.9", "--no-names", "--json", "--wait")
    assert (code, err) == (0, "")
    view = json.loads(out)
    assert set(view) == set(DOCUMENTED)
    assert [set(finding) for finding in view["findings"]] == [set(DOCUMENTED["findings"][0])] * 2
    assert set(view["findings"][0]["ports"][0]) == set(DOCUMENTED["findings"][0]["ports"][0])
    assert (view["state"], view["addresses"], view["done"], view["alive"], view["found"]) == ("done", 3, 18, 3, 2)
    assert [finding["kind"] for finding in view["findings"]] == ["hyperv", "windows"]
    assert [finding["address"] for finding in view["findings"]] == [HYPERV, WINDOWS]


def test_the_table_says_what_is_what(run, crowd):
    code, out, _ = run(f"{NET}.5-9", "--no-names")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "ADDRESS"
    text = " ".join(out.split())
    assert "probably Hyper-V" in text
    assert "Windows with remote management" in text
    assert "5 addresses scanned" in lines[-1]
    assert "3 with an open port, 5 alive" in lines[-1]


def test_words_of_strangers_are_neither_markup_nor_commands_to_the_terminal(run, crowd):
    _, out, _ = run(MARKUP, "--no-names")
    assert "WS-Management of [red]Acme[/] [2J" in " ".join(out.split())
    assert "\x1b[2J" not in out


def test_nothing_found(run, crowd):
    assert run(f"{NET}.9", "--no-names")[1].splitlines()[0].startswith("1 address scanned")


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_ends_it_at_once_and_shows_what_was_found(crowd, as_json):
    words = [f"{BEACON},{NET}.10-200", "--no-names", "--rate", "100"] + (["--json"] if as_json else [])
    seen = crowd.total
    process = start(*words)
    while crowd.total == seen:  # until the second door of the first address, after two of more than eleven seconds
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5  # with the end of the process, on a busy machine
    assert process.returncode == 130
    assert "Traceback" not in err
    if as_json:
        view = json.loads(out)
        assert view["state"] == "cancelled"
        assert 192 < view["done"] < 600
        assert [finding["address"] for finding in view["findings"]] == [BEACON]
    else:
        assert "Interrupted after" in out
        assert BEACON in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"{NET}.5,10.77.0.300"], "10.77.0.300"),
        (["10.0.0.0/8"], "more than 4,096 addresses"),
        ([f"{NET}.5", "--rate", "0"], "rate must be between"),
        ([f"{NET}.5", "--timeout", "soon"], "not a duration"),
        ([f"{NET}.5", "--timeout", "1h"], "timeout must be between"),
    ],
)
def test_mistakes_are_told_in_one_line(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert json.loads(run(*words, "--json")[1])["error"]["code"] == "bad-input"


def test_a_name_that_is_none(run):
    code, out, _ = run("no-such-name.invalid", "--json")
    assert code in (3, 5)  # as the name service answers, or there is none
    assert json.loads(out)["error"]["subject"] == "no-such-name.invalid"
