"""The whole way of integrating recovery in a real Chromium, with a real scan and a real agent; then how it looks."""

import re

import pytest
from tests.console.caller import PASSWORD
from tests.console.stand import Host
from tests.console.web.browser import ARTIFACTS, LOOKS, Visitor, axe_source, chromium
from tests.console.web.stand import Served, Stand
from tests.loopback import free_port
from tests.network.discovery import strangers as st

from leeward.console.integration import Integration
from leeward.domain.access import Role
from leeward.network.discovery.signs import Door
from leeward.network.discovery.signs import Role as DoorRole
from leeward.wire.tokens import read_token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]

WAY = "/services/recovery"


@pytest.fixture
def crowd():
    crowd = st.Strangers()
    yield crowd
    crowd.close()


@pytest.fixture
def fresh(tmp_path, crowd):
    """Two machines on loopback: one with SSH, one with Windows' remote management; a door that keeps a scan busy."""
    doors = [Door(crowd.add(st.says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")), DoorRole.SSH)]
    made = Stand(tmp_path, doors=doors, agents_port=free_port(), empty=True)
    made.own.start()
    made.identity.reception.add_user("anna", PASSWORD, Role.ADMIN)
    made.identity.reception._tries.take = lambda *keys: 0
    made.server = Served(made)
    yield made
    made.server.close()
    made.own.stop()
    made.close()


def test_from_no_host_to_vms_to_choose_from_by_clicks(fresh, crowd, tmp_path):
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    axe = axe_source()
    with chromium() as browser:
        anna = Visitor(browser, fresh.server.url).sign_in("anna")
        page = anna.go("/services")
        page.click("text=Integrate…")
        page.click("a.primary >> text=Begin")

        page.wait_for_url("**/place")
        page.screenshot(path=ARTIFACTS / "integrate-place-here.png", full_page=True, caret="initial")
        page.fill("#f-name", "north")
        page.fill("#f-storage", "relative")
        page.select_option("#f-network", "network:default")
        page.click("button.primary")
        page.wait_for_selector("#why-storage")
        page.screenshot(path=ARTIFACTS / "integrate-place-wrong.png", full_page=True, caret="initial")
        assert page.evaluate("document.activeElement.id") == "f-storage"
        assert page.input_value("#f-name") == "north"
        assert page.input_value("#f-network") == "network:default"
        page.fill("#f-storage", str(tmp_path / "images"))
        page.click("button.primary")

        page.wait_for_url("**/scan")
        fresh.scans._doors = (*fresh.scans._doors, Door(crowd.add(st.mute), DoorRole.LIBVIRT))
        page.fill("#f-ranges", "127.0.0.1-250")
        page.press("#f-ranges", "Enter")
        page.wait_for_selector("#scan-bar")
        page.wait_for_selector("#scan-found >> text=machine with an SSH server")
        page.screenshot(path=ARTIFACTS / "integrate-scanning.png", full_page=True)
        page.reload()
        page.wait_for_selector("#scan-bar")  # it goes on, whoever looks
        page.click("text=Cancel the scan")
        page.wait_for_selector("text=The scan was cancelled")
        page.check("#pick-127\\.0\\.0\\.1")
        page.click("text=Continue with those that are chosen")

        page.wait_for_url("**/hosts")
        page.click("#picks a.button")
        page.fill("#f-name", "kvm01")
        page.click("text=Make a token")
        page.wait_for_selector("#cmd-enrol")
        page.wait_for_selector("#standing >> text=Waiting for its agent")
        token = read_token(re.search(r"lw1-[\w-]+", page.inner_text("#cmd-enrol"))[0])
        page.screenshot(path=ARTIFACTS / "integrate-token.png", full_page=True)
        assert anna.grave(axe) == []
        page.reload()
        page.wait_for_selector("text=The token was shown once")
        host = Host(tmp_path / "kvm01", "kvm01")
        host.enrol(token)
        host.start()
        try:
            page.wait_for_selector("#standing .badge.good")
            page.click("#standing a.primary")
            page.wait_for_selector("#picks .badge.good >> text=VMs: 1")
            page.go_back()
            page.wait_for_selector("#standing .badge.good")
            page.go_forward()
            page.click("a.primary >> text=Next")
            page.wait_for_selector("#found >> text=kvm01")
            page.click("a.primary >> text=Choose VMs to protect")
            page.wait_for_selector("tr.row >> text=web")
            assert "\n".join(anna.troubles) == ""
            anna.close()
            every_look(fresh, browser, axe)
            this_machine_goes(fresh, browser)
        finally:
            host.stop()


def this_machine_goes(stand, browser):
    """From the Hosts page, by clicks."""
    anna = Visitor(browser, stand.server.url).sign_in("anna")
    page = anna.go("/hosts")
    page.click("text=Remove…")
    page.wait_for_url("**/hosts/remove?host=north")
    page.fill("#f-confirm", "south")
    page.press("#f-confirm", "Enter")
    page.wait_for_selector("#why-confirm")
    assert page.input_value("#f-confirm") == "south"
    page.fill("#f-confirm", "north")
    page.press("#f-confirm", "Enter")
    page.wait_for_url("**/hosts")
    page.wait_for_selector("text=kvm01")
    assert page.locator("text=Remove…").count() == 0
    assert stand.here.hosts() == ()
    assert "\n".join(anna.troubles) == ""
    anna.close()


def every_look(stand, browser, axe):
    (link,) = stand.agents.links()
    Integration(stand.database, stand.agents, stand.scans).add("kvm02.office.example")
    pages = {
        "overview": WAY,
        "place": f"{WAY}/place",
        "scan": f"{WAY}/scan",
        "hosts": f"{WAY}/hosts",
        "host": f"{WAY}/host/kvm02.office.example",
        "done": f"{WAY}/done",
        "hosts-page": "/hosts",
        "revoke": f"/hosts/agents/{link.id}/revoke",
        "remove": "/hosts/remove?host=north",
    }
    for look in LOOKS:
        visitor = Visitor(browser, stand.server.url, **LOOKS[look]).sign_in("anna")
        for name, path in pages.items():
            page = visitor.go(path)
            page.wait_for_timeout(250)
            page.screenshot(path=ARTIFACTS / f"{look}-integrate-{name}.png", full_page=True)
            assert visitor.too_wide() <= 0, (look, name)
            assert visitor.grave(axe) == [], (look, name)
        assert "\n".join(visitor.troubles) == "", look
        visitor.close()
