"""Scans over HTTP, as the API has them."""

import asyncio
import json
import re
import time
from pathlib import Path

import httpx
import pytest
from tests.network.discovery import strangers as st

from leeward.console.api import build_api
from leeward.console.discovery_api import build_router
from leeward.network.discovery.scans import Scans
from leeward.network.discovery.signs import Door, Role

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTION = DOCS.split("### `leeward host scan RANGE...`\n", 1)[1]
DOCUMENTED = json.loads(re.search(r"```json\n(.*?)```", SECTION, re.DOTALL)[1])
HOME = "127.0.0.1"


@pytest.fixture
def crowd():
    crowd = st.Strangers()
    yield crowd
    crowd.close()


def client_of(scans):
    """ask(method, path, body) → the API's answer."""
    app = build_api(None)  # whose errors become answers; nothing here asks its service
    app.include_router(build_router(scans))

    async def send(method, path, body):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://leeward") as client:
            return await client.request(method, f"/api/v1/scans{path}", json=body)

    return lambda method, path="", body=None: asyncio.run(send(method, path, body))


def test_start_look_list(crowd):
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


def test_cancel_and_one_at_a_time(crowd):
    ask = client_of(Scans([Door(crowd.add(st.mute), Role.LIBVIRT)]))
    scan_id = ask("POST", body={"ranges": [HOME], "names": False}).json()["id"]
    second = ask("POST", body={"ranges": [HOME]})
    assert (second.status_code, second.json()["error"]["code"]) == (409, "refused")
    begun = time.monotonic()
    view = ask("DELETE", f"/{scan_id}").json()
    assert time.monotonic() - begun < 1
    assert view["state"] == "cancelled"


@pytest.mark.parametrize("body", [{}, {"ranges": []}, {"ranges": ["224.0.0.1"]}, {"ranges": [HOME], "rate": 1e9}])
def test_what_cannot_be_scanned(body):
    ask = client_of(Scans())
    assert ask("POST", body=body).status_code == 422
    assert ask("GET").json() == []
    assert ask("GET", "/nonsense").status_code == 404
    assert ask("DELETE", "/nonsense").status_code == 404


def test_a_failed_scan_says_why(monkeypatch):
    scans = Scans()
    ask = client_of(scans)
    monkeypatch.setattr("leeward.network.discovery.scans._LOOK_UP_S", 0.0)
    scan_id = ask("POST", body={"ranges": ["no.such.name.invalid"]}).json()["id"]
    ends = time.monotonic() + 10
    while (view := ask("GET", f"/{scan_id}").json())["state"] == "running":
        assert time.monotonic() < ends
    assert view["state"] == "failed"
    assert set(view["error"]) == {"code", "message", "subject", "hint", "exit_code"}
