"""A real Chromium for the pages, and axe, which looks for what people with disabilities stumble over."""

import fcntl
import os
import shutil
import subprocess
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright
from tests.console.caller import PASSWORD
from tests.vault.stores.conftest import missing

AXE = "4.14.1"
ARTIFACTS = Path(__file__).parents[3] / "artifacts" / "dashboard"
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
LOOKS = {
    "light": {"color_scheme": "light", "viewport": DESK, "locale": "en-US"},
    "dark": {"color_scheme": "dark", "viewport": DESK, "locale": "en-US"},
    "phone": {"color_scheme": "light", "viewport": PHONE, "locale": "en-US", "is_mobile": True, "has_touch": True},
    "japanese": {"color_scheme": "light", "viewport": DESK, "locale": "ja-JP"},
}
# What axe counts as serious or critical is a finding; the rest is told.
GRAVE = ("serious", "critical")
# Axe must not be kept out by the pages' own policy: it is put in by the browser, not by the page.
_RUN_AXE = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


@contextmanager
def chromium():
    program = shutil.which("chromium")
    if program is None:
        missing("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def axe_source():
    """Of the pinned version, fetched from npm into the user's cache once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leeward"
    script = cache / f"axe-{AXE}.js"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "axe.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            command = ["npm", "pack", "--silent", "--pack-destination", str(cache), f"axe-core@{AXE}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=110)
            if done.returncode:
                missing(f"npm cannot fetch axe: {done.stderr[-300:]}")
            with tarfile.open(cache / f"axe-core-{AXE}.tgz") as archive:
                script.write_bytes(archive.extractfile("package/axe.min.js").read())
    return script.read_text()


class Visitor:
    """One browser session. troubles: what the browser's console complained of."""

    def __init__(self, browser, url, **look):
        self.url = url
        options = {**LOOKS["light"], **look}
        self.context = browser.new_context(ignore_https_errors=True, timezone_id="Europe/Berlin", **options)
        self.context.set_default_timeout(15_000)
        self.troubles = []
        self.page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))

    def _heard(self, message):
        # The browser itself notes each answer that is an error; those are looked at by the tests that provoke them.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.troubles.append(f"{self.page.url}: {message.text}")

    def go(self, path):
        self.page.goto(self.url + path)
        return self.page

    def sign_in(self, name):
        page = self.go("/sign-in")
        page.fill("#f-user", name)
        page.fill("#f-password", PASSWORD)
        page.press("#f-password", "Enter")
        page.wait_for_selector(".app")
        return self

    def keys(self, *names):
        for name in names:
            self.page.keyboard.press(name)

    def tab_to(self, selector, most=80):
        """By the tabulator key alone, as somebody without a mouse comes there."""
        for _ in range(most):
            if self.page.evaluate("s => document.activeElement?.matches(s) ?? false", selector):
                return
            self.keys("Tab")
        here = self.page.evaluate("document.activeElement.outerHTML.slice(0, 300)")
        raise AssertionError(f"{selector} cannot be reached by keyboard on {self.page.url}; at last at {here}")

    def until(self, expression, seconds=10.0):
        """Not the browser's own way of waiting, which needs what the pages' policy forbids."""
        ends = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < ends, expression
            self.page.wait_for_timeout(50)

    def grave(self, axe):
        """What axe found to be grave: (rule, where)."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(axe)
        return [
            (found["id"], node["target"], node["failureSummary"])
            for found in self.page.evaluate(_RUN_AXE)
            if found["impact"] in GRAVE
            for node in found["nodes"]
        ]

    def too_wide(self):
        """How many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def close(self):
        self.context.close()
