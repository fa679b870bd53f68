"""What a console answers that stands by, over plain ASGI."""

import asyncio

import httpx
import pytest

from leeward.console.standby import Front


async def works(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"it works"})


def ask(front, method, path):
    async def asked():
        transport = httpx.ASGITransport(front)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path)

    return asyncio.run(asked())


@pytest.fixture
def holds():
    return [True]


@pytest.fixture
def front(holds):
    return Front("south", lambda: holds[0], ("PEM", "AA:BB"), lambda: ("north", "https://north:8443"))


def test_everything_is_refused_with_the_name_of_the_one_that_works(front):
    for method, path in (("GET", "/api/v1/status"), ("POST", "/api/v1/login"), ("GET", "/")):
        answer = ask(front, method, path)
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert (error["code"], error["exit_code"]) == ("standby", 5)
        assert "north" in error["message"]
        assert "https://north:8443" in error["hint"]


def test_where_none_works_it_is_told_to_wait():
    error = ask(Front("south", lambda: False), "GET", "/api/v1/status").json()["error"]
    assert "none works" in error["message"]
    assert "again" in error["hint"]


def test_health_and_authority_are_told_all_the_same(front):
    assert ask(front, "GET", "/api/v1/health").json()["state"] == "standby"
    assert ask(front, "GET", "/api/v1/ca").json() == {"certificate": "PEM", "fingerprint": "AA:BB"}
    assert ask(Front("south"), "GET", "/api/v1/ca").status_code == 404


def test_load_balancers_see_which_one_works(front, holds):
    answer = ask(front, "GET", "/healthz")
    assert (answer.status_code, answer.json()) == (503, {"state": "standby", "console": "south"})
    front.open(works)
    answer = ask(front, "GET", "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"state": "active", "console": "south"})


def test_one_whose_seat_ran_out_answers_nothing_more(front, holds):
    front.open(works)
    assert ask(front, "GET", "/api/v1/status").text == "it works"
    holds[0] = False
    assert ask(front, "GET", "/api/v1/status").status_code == 503
    assert ask(front, "GET", "/healthz").status_code == 503
