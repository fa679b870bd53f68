"""Alerts and their settings in a real Chromium: pictures, accessibility, live rows, forms that lose nothing."""

import time

import pytest
from tests.console.alerts.receivers import Receiver
from tests.console.caller import PASSWORD
from tests.console.web.browser import ARTIFACTS, LOOKS, Visitor, axe_source, chromium
from tests.console.web.stand import Served, Stand

from leeward.console.alerts.settings import WEBHOOK, WebhookSettings
from leeward.domain.access import Role
from leeward.domain.alerts import AlertKind, Decision, Trouble

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]

HOST = Trouble(AlertKind.HOST, "kvm03", "kvm03", "its agent does not answer")
TROUBLES = (
    (Trouble(AlertKind.DRILL, "x", "dc01", host="kvm01"), 6 * 86_400.0),
    (Trouble(AlertKind.VAULT_FULL, "", "", "92 % in use, 160.4 GiB free"), 7200.0),
    (Trouble(AlertKind.PROTECTION, "y", "crm", "the vault cannot be read: no route to host", "kvm01"), 900.0),
    (Trouble(AlertKind.RPO, "z", "accounting-and-payroll", "retrying: no route to host", "kvm01", 600.0), 600.0),
    (Trouble(AlertKind.RUN, "r1", "mail", "the guest did not shut down within 60 s"), 300.0),
    (HOST, 120.0),
)


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("alerts"))
    made.identity.reception._tries.take = lambda *keys: 0
    for name, role in (("anna", "admin"), ("victor", "viewer")):
        made.identity.reception.add_user(name, PASSWORD, Role(role))
    now = time.time()
    book = made.alerts.book
    book.apply(Decision(TROUBLES, (), ()), now - 3600)
    book.apply(Decision(((Trouble(AlertKind.VAULT, "", "", ""), 70.0),), (), ()), now - 7200)
    book.apply(Decision((), (), ("vault:",)), now - 5400)
    book.acknowledge(book.find(kind=AlertKind.DRILL)[0].id, "anna", now - 60)
    made.server = Served(made)
    yield made
    made.server.close()
    made.close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser, office):
    made = []

    def come(name="anna", **look):
        made.append(Visitor(browser, office.server.url, **look))
        return made[-1].sign_in(name)

    yield come
    troubles = [trouble for visitor in made for trouble in visitor.troubles]
    for visitor in made:
        visitor.close()
    assert "\n".join(troubles) == ""


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_fits_its_window_and_is_accessible(office, visit, look):
    axe = axe_source()
    visitor = visit(**LOOKS[look])
    hook = WebhookSettings(enabled=True, url="https://example.com/hook")
    office.alerts.settings.save_channel(WEBHOOK, hook, "a secret of some length")
    office.alerts.book.failed(WEBHOOK, "the receiver answered with status 500", time.time() + 60, time.time())
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    pages = {"alerts": "/alerts", "alerts-past": "/alerts?show=past", "alert-settings": "/settings/alerts"}
    for name, path in pages.items():
        page = visitor.go(path)
        page.wait_for_timeout(300)
        page.screenshot(path=ARTIFACTS / f"{look}-{name}.png", full_page=True)
        assert page.locator(".app h1").count() == 1, name
        assert visitor.too_wide() <= 0, name
        assert visitor.grave(axe) == [], name


def test_a_new_alert_appears_and_an_old_one_goes_by_themselves(office, visit):
    visitor = visit("victor")
    page = visitor.go("/alerts")
    page.wait_for_selector("text=Host kvm03 cannot be reached.")
    count = int(page.inner_text("#alerts-open").split()[0])
    new = Trouble(AlertKind.HOST, "kvm09", "kvm09", "no route")
    other = Trouble(AlertKind.HOST, "kvm10", "kvm10", "no route")
    office.alerts.book.apply(Decision(((new, 60.0), (other, 60.0)), (), (HOST.key,)), time.time())
    page.wait_for_selector("text=Host kvm09 cannot be reached.")
    page.wait_for_selector("text=Host kvm03 cannot be reached.", state="detached")
    page.wait_for_selector(f"#alerts-open:has-text('{count + 1}')")
    assert page.locator("text=Acknowledge").count() == 0


def test_alerts_are_filtered_and_acknowledged(office, visit):
    visitor = visit()
    page = visitor.go("/alerts")
    page.select_option("#kind", "rpo")
    page.wait_for_selector("text=crm is not being replicated.", state="detached")
    assert page.url.endswith("/alerts?show=open&kind=rpo")
    page.click("text=Acknowledge")
    page.wait_for_selector("#alerts td:has-text('anna')")
    assert page.locator("#alerts tbody tr").count() == 1
    page.click("nav.tabs >> text=Over")
    page.wait_for_selector("text=No alert of this kind is over yet.")
    page.select_option("#kind", "")
    page.wait_for_selector("text=The vault cannot be reached.")


def test_a_webhook_is_set_up_and_tried(office, visit):
    receiver = Receiver()
    visitor = visit()
    page = visitor.go("/settings/alerts")
    page.fill("#f-url", "nonsense")
    page.fill("#f-secret", "a secret of some length")
    page.click("section[aria-labelledby=webhook-title] >> text=Save")
    page.wait_for_selector("#why-url")
    assert page.input_value("#f-url") == "nonsense"
    assert "Type it again" in page.inner_text("#why-secret")
    page.fill("#f-url", receiver.url)
    page.fill("#f-secret", "a secret of some length")
    page.click("section[aria-labelledby=webhook-title] >> text=Send a test message")
    page.wait_for_selector("text=The receiver has taken the test message.")
    assert len(receiver.posts) == 1
    assert office.alerts.settings.channel(WEBHOOK).settings.url != receiver.url
    page.fill("#f-secret", "a secret of some length")
    page.click("section[aria-labelledby=webhook-title] >> text=Save")
    page.wait_for_selector("text=The receiver has taken the test message.", state="detached")
    assert office.alerts.settings.channel(WEBHOOK).settings.url == receiver.url
    receiver.stop()
