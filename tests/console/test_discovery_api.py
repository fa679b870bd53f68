"""Scans over HTTP, as the API has them."""

import json
import re
import time
from pathlib import Path

import pytest
from tests.console.caller import FAST, Caller
from tests.network.discovery import strangers as st

from leeward.console.access import unguarded
from leeward.console.api import build_api
from leeward.console.discovery_api import build_router
from leeward.console.identity import build_identity
from leeward.network.discovery.scans import Scans
from leeward.network.discovery.signs import Door, Role
from leeward.state.database import Database

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTION = DOCS.split("### `leeward host scan RANGE...`\n", 1)[1]
DOCUMENTED = json.loads(re.search(r"```json\n(.*?)```", SECTION, re.DOTALL)[1])
HOME = "127.0.0.1"


@pytest.fixture
def crowd():
    crowd = st.Strangers()
    yield crowd
    crowd.close()


@pytest.fixture
def client_of(tmp_path):
    """client_of(scans) → ask(method, path, body) → the API's answer to the machine's root."""
    database = Database(f"sqlite:///{tmp_path}/leeward.db")

    def client(scans):
        app = build_api(None, build_identity(database, cost=FAST))  # nothing here asks its service
        app.include_router(build_router(scans))
        assert unguarded(app) == []
        return lambda method, path="", body=None: Caller(app, local=True).ask(method, f"/scans{path}", body)

    yield client
    database.close()


def test_start_look_list(client_of, crowd):
    ask = client_of(Scans([Door(crowd.add(st.says(b"SSH-2.0-x\r\n")), Role.SSH)]))
    begun = ask("POST", body={"ranges": [HOME], "timeout_s": 1, "rate": 100, "names": False})
    assert begun.status_code == 202
    scan_id = begun.json()["id"]
    ends = time.monotonic() + 10
    while (view := ask("GET", f"/{scan_id}").json())["state"] == "running":
        assert time.monotonic() < ends
    assert set(view) == set(DOCUMENTED)
    assert set(view["findings"][0]) == set(DOCUMENTED["findings"][0])
    assert set(view["findings"][0]["ports"][0]) == set(DOCUMENTED["findings"][0]["ports"][0])
    assert (view["state"], view["done"], view["found"], view["error"]) == ("done", 1, 1, None)
    assert view["findings"][0]["supported"] is None
    (summary,) = ask("GET").json()
    assert summary == {key: value for key, value in view.items() if key != "findings"}


def test_cancel_and_one_at_a_time(client_of, crowd):
    ask = client_of(Scans([Door(crowd.add(st.mute), Role.LIBVIRT)]))
    scan_id = ask("POST", body={"ranges": [HOME], "names": False}).json()["id"]
    second = ask("POST", body={"ranges": [HOME]})
    assert (second.status_code, second.json()["error"]["code"]) == (409, "refused")
    begun = time.monotonic()
    view = ask("DELETE", f"/{scan_id}").json()
    assert time.monotonic() - begun < 1
    assert view["state"] == "cancelled"


@pytest.mark.parametrize("body", [{}, {"ranges": []}, {"ranges": ["224.0.0.1"]}, {"ranges": [HOME], "rate": 1e9}])
def test_what_cannot_be_scanned(client_of, body):
    ask = client_of(Scans())
    assert ask("POST", body=body).status_code == 422
    assert ask("GET").json() == []
    assert ask("GET", "/nonsense").status_code == 404
    assert ask("DELETE", "/nonsense").status_code == 404


def test_a_failed_scan_says_why(client_of, monkeypatch):
    scans = Scans()
    ask = client_of(scans)
    monkeypatch.setattr("leeward.network.discovery.scans._LOOK_UP_S", 0.0)
    scan_id = ask("POST", body={"ranges": ["no.such.name.invalid"]}).json()["id"]
    ends = time.monotonic() + 10
    while (view := ask("GET", f"/{scan_id}").json())["state"] == "running":
        assert time.monotonic() < ends
    assert view["state"] == "failed"
    assert set(view["error"]) == {"code", "message", "subject", "hint", "exit_code"}
