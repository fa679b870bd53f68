"""Pages stay current by themselves: a stream over the console's own HTTPS listener."""

import re
import ssl
import threading
import time
from contextlib import suppress

import httpx
import pytest
from tests.console.plan_world import DB
from tests.console.web.stand import Served, Stand

from leeward.console.web import live
from leeward.domain.access import Role

pytestmark = pytest.mark.slow
HTMX = {"HX-Request": "true"}


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_CHECK_S", 0.3)
    made = Stand(tmp_path)
    made.world.protect_all()
    made.server = Served(made)
    yield made
    made.server.close()
    made.close()


class Listener:
    """Reads one stream in a thread; keeps what came, with when."""

    def __init__(self, stand, browser, path):
        context = ssl.create_default_context(cadata=stand.authority.ca_pem.decode())
        self.events, self.ended = [], threading.Event()
        self._client = httpx.Client(verify=context, cookies=browser.cookies, timeout=30)
        self._url = stand.server.url + path
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        # A server that ends cuts its streams; so does the end of a test.
        with suppress(httpx.HTTPError), self._client.stream("GET", self._url, headers=HTMX) as response:
            self.status, self.kind = response.status_code, response.headers.get("content-type")
            self.packed = "content-encoding" in response.headers
            block = []
            for line in response.iter_lines():
                if line:
                    block.append(line)
                    continue
                self.events.append((time.monotonic(), "\n".join(block)))
                block = []
        self.ended.set()

    def wait(self, words, since=0.0, seconds=10.0):
        """When an event with these words came."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for at, event in list(self.events):
                if at >= since and words in event:
                    return at
            time.sleep(0.02)
        raise AssertionError([event[:200] for _, event in self.events])

    def ids(self, since):
        later = "".join(event for at, event in list(self.events) if at >= since)
        return set(re.findall(r'hx-target="#([^"]*)"', later))


def test_what_happens_is_on_the_page_by_itself_and_little_else_is_sent(served):
    listener = Listener(served, served.as_role("viewer"), "/recovery/live")
    listener.wait('id="tasks"')
    assert (listener.status, listener.kind) == (200, "text/event-stream; charset=utf-8")
    assert not listener.packed  # though the client would take it
    time.sleep(1.2)
    began = time.monotonic()
    served.service.set_paused("db", True)
    served.world.wait(lambda: served.service.status("db")[0].state == "paused")
    listener.wait("Paused", since=began)
    assert f"vm-{DB}" in listener.ids(began)
    assert "list" not in listener.ids(began)
    assert "vm-6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b02" not in listener.ids(began)


def test_a_run_is_followed_step_by_step(served):
    viewer = served.as_role("viewer")
    served.service.start_test("db", "latest", "anna")
    run = served.service.last_run("db")
    listener = Listener(served, viewer, f"/runs/{run.id}/live")
    listener.wait('class="step done"')
    listener.wait("Done")


def test_a_stream_ends_with_the_login_and_with_the_role(served):
    viewer = served.as_role("viewer", "anna")
    first = Listener(served, viewer, "/live")
    first.wait('id="tiles"')
    served.identity.reception.set_role("anna", Role.OPERATOR)
    first.wait("leeward-reload")
    assert first.ended.wait(5)
    second = Listener(served, viewer, "/live")
    second.wait('id="tiles"')
    served.identity.reception.remove_user("anna")
    second.wait("leeward-reload")
    assert second.ended.wait(5)
    third = Listener(served, viewer, "/live")
    third.ended.wait(5)
    assert third.status == 401


def test_a_stream_tells_when_its_page_is_no_longer_right(served):
    listener = Listener(served, served.as_role("viewer"), f"/vms/{DB}/live")
    listener.wait('id="vm-head"')
    served.service.unprotect("db")
    del served.world.office.hypervisor._vms[DB]
    listener.wait("leeward-reload")
    assert listener.ended.wait(5)


def test_open_streams_do_not_keep_the_daemon_from_ending(served):
    listener = Listener(served, served.as_role("viewer"), "/live")
    listener.wait('id="tiles"')
    began = time.monotonic()
    served.watch.stop()
    assert listener.ended.wait(5)
    assert time.monotonic() - began < 3
