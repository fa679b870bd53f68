"""The main job by clicks alone, on real guests: first steps, protection, a test, there and home again.

The pictures of docs/tour.md are made here: `make tour` takes them over.
"""

import json
import re
import time
from pathlib import Path

import pytest
from tests.console.caller import PASSWORD
from tests.console.web.browser import ARTIFACTS, Visitor, chromium
from tests.installation import Installation, empty_recovery_site, records
from tests.loopback import free_port

pytestmark = [pytest.mark.lab, pytest.mark.timeout(500)]
TOUR = ARTIFACTS.with_name("tour")
IP = "10.77.0.85"
WINDOW = {"viewport": {"width": 1280, "height": 800}}


@pytest.fixture
def office(lab, guest_factory):
    """An installation that nobody has used yet, and its address. web is the VM that will move."""
    empty_recovery_site(lab)
    guest_factory("office", "web", disks=(64, 32), ip=IP)
    guest_factory("office", "files", disks=(64,), ip="10.77.0.86")
    with Installation(lab, "walk") as leeward:
        address = f"127.0.0.1:{free_port()}"
        with leeward.config.open("a") as file:
            file.write(f'\n[console]\nlisten = "{address}"\n')
        leeward.url = f"https://{address}"
        yield leeward
        leeward.end()
        empty_recovery_site(lab)


class Walker:
    """Somebody at a desk. Each look at something worth showing is kept as a picture, in the order of the walk."""

    def __init__(self, browser, url):
        self.visitor = Visitor(browser, url, **WINDOW)
        self.page = self.visitor.page
        self.page.set_default_timeout(60_000)
        TOUR.mkdir(parents=True, exist_ok=True)
        for old in TOUR.glob("*.png"):
            old.unlink()

    def picture(self, name, full=False):
        number = len(list(TOUR.glob("*.png"))) + 1
        self.page.screenshot(path=TOUR / f"{number:02d}-{name}.png", full_page=full)

    def begin(self, setup_code):
        page = self.visitor.go("/")
        page.wait_for_url(re.compile("/first-steps$"))
        page.fill("#f-code", setup_code)
        page.fill("#f-user", "anna")
        page.fill("#f-password", PASSWORD)
        page.fill("#f-again", PASSWORD)
        self.picture("first-steps")
        page.click("button.primary")
        page.wait_for_selector("text=Create the vault")
        page.fill("#f-passphrase", "an unforgettable passphrase")
        page.fill("#f-again", "an unforgettable passphrase")
        page.click("button.primary")
        page.wait_for_selector("#recovery-key")
        key = "-".join(page.locator("#recovery-key span").all_inner_texts())
        page.fill("#f-key", key)
        page.click("button.primary")
        page.wait_for_selector("#tiles")

    def choose(self, name, task):
        """On the recovery page: the VM of this name, and what to do with it."""
        page = self.visitor.go("/recovery")
        page.click(f'tr.row:has(th a:text-is("{name}")) input[type=checkbox]')
        page.wait_for_selector(f'#tasks strong:text-is("{name}")')
        link = page.locator("a.task", has_text=re.compile(rf"^\s*{task}"))
        link.wait_for()
        return link

    def protect(self, name):
        self.choose(name, "Enable replication").click()
        self.page.fill("#f-rpo_s", "1s")
        self.picture("enable")
        self.page.click("#sheet button.primary")
        self.page.wait_for_selector("#main .badge.good >> text=Enabled")

    def run(self, button, picture=None):
        """Press it, and see the run through to its end."""
        self.page.click(button)
        self.page.wait_for_selector("#run-steps .step.done")
        if picture:
            self.picture(picture)
        self.page.wait_for_selector("#run-head .badge.good >> text=Done")

    def next(self, link):
        """From a run's page to what is to be decided next."""
        self.page.click(link)
        self.page.wait_for_selector("#sheet form")

    def until(self, name, words):
        """Until the VM's row on the recovery page says so, without loading it again."""
        self.visitor.go("/recovery")
        self.page.wait_for_selector(f'tr.row:has(th a:text-is("{name}")) >> text={words}')


@pytest.fixture
def walker(office):
    code = json.loads(office.call("user", "setup-code", "--json").stdout)["code"]
    with chromium() as browser:
        walker = Walker(browser, office.url)
        walker.begin(code)
        yield walker
        troubles = [text for text in walker.visitor.troubles if "network error" not in text]
        walker.visitor.close()
    assert troubles == []


def test_a_real_vm_is_tested_moved_and_brought_home_by_clicks(office, walker, lab):
    page = walker.page
    walker.picture("home-before")
    walker.protect("web")
    link = walker.choose("web", "Test failover")
    walker.picture("recovery")
    link.click()
    page.wait_for_selector("text=What will happen")
    walker.picture("failover-test")
    before = lab.http("office", IP)["seq"]
    time.sleep(2)  # so that a point holds what was told
    walker.run("#sheet button.primary")
    walker.picture("test-done")
    (test,) = office("failover", "list")
    with lab.probe("recovery", test["network"], "10.77.0.3/24") as client:
        assert records(client.wait(IP))[0] >= before
    assert lab.http("office", IP)["seq"] > before
    walker.next('#run-tasks a[href^="/do/cleanup"]')
    walker.run("#sheet button.primary")
    assert office("failover", "list") == []

    walker.choose("web", "Failover").click()
    page.wait_for_selector("text=What will happen")
    page.fill("#f-confirm", "web")
    walker.picture("failover-planned", full=True)
    before = lab.http("office", IP)["seq"]
    walker.run("#sheet button.danger", "failover-runs")
    walker.picture("failover-done", full=True)
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        assert records(client.wait(IP))[0] >= before
        walker.next('#run-tasks a[href^="/do/commit"]')
        walker.run("#sheet button.primary")
        walker.until("web", "Running at recovery")
        office.until("web", lambda row: row["state"] == "enabled")
        walker.picture("away")
        walker.choose("web", "Failback").click()
        page.wait_for_selector("text=What will happen")
        walker.picture("failback")
        away = client.wait(IP)["seq"]
        walker.run("#sheet button.danger")
    assert records(lab.wait_http("office", IP))[0] >= away
    walker.next('#run-tasks a[href^="/do/commit"]')
    walker.run("#sheet button.primary")
    walker.until("web", "Enabled")
    page.click('tr.row th a:text-is("web")')
    page.wait_for_selector("#timeline svg")
    page.locator("a.screen img").scroll_into_view_if_needed()  # the browser fetches it when it is looked at
    walker.visitor.until("document.querySelector('a.screen img').naturalWidth >= 300")
    page.evaluate("scrollTo(0, 0)")
    walker.picture("vm", full=True)
    walker.visitor.go("/runs")
    page.wait_for_selector("#runs tbody tr >> nth=5")
    walker.picture("runs")
    walker.visitor.go("/vault")
    walker.picture("vault", full=True)
    walker.visitor.go("/")
    page.wait_for_selector("#tiles")
    walker.picture("home")
    assert office("vault", "check", "--deep")["sound"] is True
    assert len(list(Path(TOUR).glob("*.png"))) >= 14
