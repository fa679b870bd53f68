"""The first steps in a real Chromium, with the vault in a real S3 server on this machine."""

import re

import pytest
from tests.console.caller import PASSWORD
from tests.console.web.browser import ARTIFACTS, LOOKS, Visitor, axe_source, chromium
from tests.console.web.stand import Served, Stand
from tests.vault.stores.conftest import s3_server

from leeward.console.web.vault_door import VaultState

__all__ = ["s3_server"]
pytestmark = [pytest.mark.slow, pytest.mark.cloudstore, pytest.mark.timeout(170)]
SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.mark.parametrize("look", LOOKS)
def test_from_nothing_to_a_vault_in_s3_by_clicks(tmp_path, browser, s3_server, look):
    fresh = Stand(tmp_path, place=None)
    server = Served(fresh)
    code, _ = fresh.identity.reception.offer_setup()
    visitor = Visitor(browser, server.url, **LOOKS[look])
    axe = axe_source()

    def picture(name):
        # Hiding the caret leaves marks behind, as axe does, which htmx would carry over against the policy.
        path = ARTIFACTS / f"place-{look}-{name}.png"
        visitor.page.screenshot(path=path, full_page=True, caret="initial")
        assert visitor.too_wide() == 0

    try:
        page = visitor.go("/first-steps")
        for name, value in (("code", code), ("user", "anna"), ("password", PASSWORD), ("again", PASSWORD)):
            page.fill(f"#f-{name}", value)
        page.keyboard.press("Enter")
        page.wait_for_selector("#place-s3")
        picture("1-folder")
        page.click("label:has(#place-azure)")
        picture("2-azure")
        assert visitor.grave(axe) == []
        visitor.go(
            "/first-steps/place"
        )  # axe leaves marks behind, which the page's policy would not let htmx carry over
        page.click("label:has(#place-s3)")
        page.fill("#f-s3_bucket", "no-such-bucket")
        page.fill("#f-s3_prefix", f"walk-{look}")
        page.fill("#f-s3_endpoint", s3_server.options["endpoint"])
        page.fill("#f-s3_access_key_id", "AKIDEXAMPLE")
        page.fill("#f-s3_secret_access_key", SECRET)
        page.click("button[value=check]")
        page.wait_for_selector("#why-s3_bucket")
        picture("3-wrong")
        assert SECRET not in page.content()
        page.fill("#f-s3_bucket", s3_server.url.removeprefix("s3://"))  # and nothing else has to be typed again
        page.click("button[value=check]")
        page.wait_for_selector(".alert.good")
        picture("4-works")
        page.click("button[value=use]")
        page.wait_for_selector("#f-passphrase")
        picture("5-passphrase")
        page.fill("#f-passphrase", "an unforgettable passphrase")
        page.fill("#f-again", "an unforgettable passphrase")
        page.keyboard.press("Enter")
        page.wait_for_selector("#recovery-key")
        assert fresh.door.state() is VaultState.OPEN
        visitor.go("/vault")
        page.wait_for_selector('a[href="/vault/credentials"]')
        picture("6-vault")
        assert visitor.grave(axe) == []
        page = visitor.go("/vault/credentials")
        picture("7-credentials")
        page.fill("#f-s3_access_key_id", "OTHER")
        page.fill("#f-s3_secret_access_key", "renewed")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("renewed=1"))
        assert fresh.place.chosen().options["access_key_id"] == "OTHER"
        assert "\n".join(visitor.troubles) == ""
    finally:
        visitor.close()
        server.close()
        fresh.close()
