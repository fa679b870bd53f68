"""The dashboard in a real Chromium: the main job by keyboard alone, live pages, accessibility, pictures of pages."""

import re
import time

import pytest
from tests.console.caller import PASSWORD
from tests.console.web.browser import ARTIFACTS, LOOKS, Visitor, axe_source, chromium
from tests.console.web.showing import OfficeWorld, vm_id
from tests.console.web.stand import UNNOTED, KeyFolder, Served, Stand
from tests.vault.conftest import CHEAP

from leeward.console.views import DrillRequest
from leeward.console.web.vault_door import VaultDoor, VaultState
from leeward.domain.access import Role
from leeward.domain.growth import Size
from leeward.state.vault_care import VaultBook
from leeward.vault.stores.memory import MemoryStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]

CRM, MAIL, ACCOUNTING, DC = vm_id("crm"), vm_id("mail"), vm_id("accounting"), vm_id("dc01")


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("office"), OfficeWorld)
    made.world.settle()
    for name, role in (("anna", "admin"), ("victor", "viewer")):
        made.identity.reception.add_user(name, PASSWORD, Role(role))
    # Walks of this module sign in more often than a person would.
    made.identity.reception._tries.take = lambda *keys: 0
    look_after_vault(made)
    made.service.drills.put_plan(
        "shop", DrillRequest(every_s=90 * 86_400.0, mode="run", window="22:00-04:00"), "anna"
    )
    made.server = Served(made)
    yield made
    made.server.close()
    made.close()


def look_after_vault(made):
    """It has been measured for some days, and was checked."""
    now, size = time.time(), made.care.inventory()[0].bytes
    for hour in range(200):
        grown = size * (0.3 + 0.7 * (1 - hour / 200)) + (hour % 7) * size / 100
        VaultBook(made.database).add_size(Size(now - hour * 3600, int(grown)))
    made.care.begin(deep=True, by="anna")
    made.world.wait(lambda: made.care.progress is None)


@pytest.fixture
def visit(browser, office):
    made = []

    def come(name="anna", url=None, **look):
        visitor = Visitor(browser, url or office.server.url, **look)
        made.append(visitor)
        return visitor.sign_in(name) if name else visitor

    yield come
    troubles = [trouble for visitor in made for trouble in visitor.troubles]
    for visitor in made:
        visitor.close()
    assert "\n".join(troubles) == ""


def pages(office):
    run = office.service.runs(MAIL, 1)[0]
    return {
        "home": "/",
        "services": "/services",
        "integrate": "/services/recovery",
        "recovery": "/recovery",
        "recovery-chosen": f"/recovery?vm={CRM}",
        "vm": f"/vms/{CRM}",
        "vm-away": f"/vms/{MAIL}",
        "evidence": f"/vms/{CRM}/evidence/{office.service.evidence.of(CRM)[0].run}",
        "enable": f"/enable?vm={vm_id('printserver')}",
        "policy": f"/enable?vm={ACCOUNTING}",
        "failover": f"/failover?vm={ACCOUNTING}",
        "failover-unplanned": f"/failover?vm={ACCOUNTING}&type=unplanned",
        "failover-test": f"/failover?vm={ACCOUNTING}&type=test",
        "commit": f"/do/commit?vm={MAIL}",
        "runs": "/runs",
        "run": f"/runs/{run.id}",
        "plans": "/plans",
        "plan": "/plans/shop",
        "plan-drill": "/plans/shop/drill",
        "plan-new": "/new-plan",
        "plan-edit": "/plans/shop/edit",
        "plan-import": "/import-plan",
        "vault": "/vault",
        "audit": "/audit",
        "users": "/users",
        "settings": "/settings",
    }


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_fits_its_window_and_is_accessible(office, visit, look):
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    axe = axe_source()
    visitor = visit(None, **LOOKS[look])
    visitor.go("/sign-in").screenshot(path=ARTIFACTS / f"{look}-sign-in.png")
    assert visitor.grave(axe) == []
    visitor.sign_in("anna")
    visitor.go("/")  # in the browser's own time zone from here on
    for name, path in pages(office).items():
        page = visitor.go(path)
        page.wait_for_timeout(700 if "vm" in name else 250)  # the streams' first pieces
        page.screenshot(path=ARTIFACTS / f"{look}-{name}.png", full_page=True)
        assert visitor.too_wide() <= 0, name
        assert visitor.grave(axe) == [], name


@pytest.mark.parametrize("width", [1024, 1208, 1280, 1366, 1920])
def test_the_list_of_vms_is_whole_in_windows_of_all_widths(office, visit, width):
    visitor = visit(viewport={"width": width, "height": 800})
    page = visitor.go("/recovery")
    page.wait_for_selector(".spark")
    page.screenshot(path=ARTIFACTS / f"width-{width}.png")
    assert page.evaluate("(box => box.scrollWidth - box.clientWidth)(document.getElementById('list'))") <= 0


@pytest.mark.parametrize("look", ["light", "phone"])
def test_a_name_of_63_letters_pushes_nothing_out_of_its_page(office, visit, look):
    name, hypervisor = "W" * 63, office.world.office.hypervisor
    hypervisor.add(vm_id(name), name, {"vda": bytes(1 << 16)})
    try:
        office.world.wait(lambda: name in {vm.name for vm in office.service.vms()[0]})
        office.watch.fresh()
        visitor = visit(**LOOKS[look])
        for path in (
            "/",
            "/recovery",
            f"/vms/{vm_id(name)}",
            f"/enable?vm={vm_id(name)}",
            f"/failover?vm={vm_id(name)}",
        ):
            page = visitor.go(path)
            page.wait_for_selector(f"text={name}" if path != "/" else "#tiles")
            assert visitor.too_wide() <= 0, path
            boxes = "[...document.querySelectorAll('.table-box')].map(box => box.scrollWidth - box.clientWidth)"
            assert max(page.evaluate(boxes), default=0) <= 0, path
    finally:
        hypervisor.remove(vm_id(name))


def test_the_first_page_is_light(office, browser):
    visitor = Visitor(browser, office.server.url)
    weights = []
    session = visitor.context.new_cdp_session(visitor.page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: weights.append(event["encodedDataLength"]))
    visitor.sign_in("anna")
    visitor.page.wait_for_timeout(500)
    visitor.close()
    assert 10_000 < sum(weights) < 150_000


def test_what_happens_is_seen_within_a_second_without_reloading(office, visit):
    visitor = visit("victor")
    page = visitor.go("/recovery?q=dc01")
    page.wait_for_selector(f"#vm-{DC} .badge.good")
    page.evaluate("window.stillTheSame = true")
    office.service.set_paused("dc01", True)
    office.world.wait(lambda: office.service.status("dc01")[0].state == "paused")
    began = time.monotonic()
    page.wait_for_selector(f"#vm-{DC} .badge.warn")
    took = time.monotonic() - began
    office.service.set_paused("dc01", False)
    page.wait_for_selector(f"#vm-{DC} .badge.good")
    assert page.evaluate("window.stillTheSame") is True
    assert took < 1.0


def test_searching_keeps_the_focus_and_the_selection(office, visit):
    visitor = visit()
    page = visitor.go("/recovery")
    page.check(f"#pick-{CRM}")
    page.wait_for_selector("#tasks strong >> text=crm")
    page.click("#q")
    page.keyboard.type("dc0", delay=40)
    visitor.until("document.querySelectorAll('tr.row').length === 1")
    page.keyboard.type("1")
    assert page.input_value("#q") == "dc01"
    assert page.evaluate("document.activeElement.id") == "q"
    page.wait_for_timeout(1500)  # what comes by the stream now is of what is chosen and looked for
    assert "crm" in page.inner_text("#tasks")
    assert page.locator("tr.row").count() == 1
    visitor.until("location.search.includes('q=dc01')")
    page.fill("#q", "nothing like it")
    page.wait_for_selector("text=Nothing fits")


def test_a_vm_is_moved_and_brought_home_by_keyboard_alone(office, visit):
    visitor = visit()
    page = visitor.go("/recovery?q=accounting")
    visitor.tab_to(f"#pick-{ACCOUNTING}")
    visitor.keys("Space")
    page.wait_for_selector("#tasks strong >> text=accounting")
    page.wait_for_selector('a.task[href^="/failover"]')
    visitor.tab_to('a.task[href^="/failover"]:not([href*="type=test"])')
    visitor.keys("Enter")
    page.wait_for_selector("text=What will happen")
    visitor.tab_to("#f-confirm")
    page.keyboard.type("wrong")
    visitor.keys("Enter")
    page.wait_for_selector("#why-confirm")
    assert page.evaluate("document.activeElement.id") == "f-confirm"
    page.keyboard.press("Control+a")
    page.keyboard.type("accounting")
    visitor.keys("Enter")
    page.wait_for_selector(".badge.good >> text=Done")
    assert page.locator("#run-steps .step.done").count() == 10
    other = visit("victor").go(page.url.removeprefix(office.server.url))
    assert other.locator("#run-steps .step.done").count() == 10
    assert other.locator("button.danger").count() == 0
    decide(visitor, '#run-tasks a[href^="/do/commit"]', "settled")
    office.world.wait(lambda: office.service.status("accounting")[0].state == "enabled")
    decide(visitor, '#run-tasks a[href^="/do/failback"]', "back")
    decide(visitor, '#run-tasks a[href^="/do/commit"]', "home")


def decide(visitor, link, phase):
    """From a run's page to the next decision, and through it."""
    page = visitor.page
    page.wait_for_selector(link)
    visitor.tab_to(link)
    visitor.keys("Enter")
    page.wait_for_selector("#sheet form")
    visitor.tab_to("#sheet .actions button")
    visitor.keys("Enter")
    page.wait_for_selector(".badge.good >> text=Done")


def test_another_kind_of_failover_shows_another_plan_at_once(office, visit):
    page = visit().go(f"/failover?vm={DC}")
    page.fill("#f-confirm", "dc0")
    page.check('input[value="unplanned"]')
    page.wait_for_selector("text=Stop the VM at home, if home can be reached")
    assert page.input_value("#f-confirm") == "dc0"
    page.check('input[value="test"]')
    page.wait_for_selector("text=Start the test")
    assert page.locator("#f-confirm").count() == 0


@pytest.mark.parametrize("look", LOOKS)
def test_the_price_of_an_rpo_follows_what_is_typed(office, visit, monkeypatch, look):
    monkeypatch.setattr(office.place, "given", "s3://office/leeward")
    visitor = visit(**LOOKS[look])
    page = visitor.go(f"/enable?vm={ACCOUNTING}")
    page.wait_for_selector("text=$158")
    page.screenshot(path=ARTIFACTS / f"{look}-policy-price.png", full_page=True)
    page.fill("#f-rpo_s", "")
    page.type("#f-rpo_s", "10s")
    page.wait_for_selector("text=$16 ")
    assert page.evaluate("document.activeElement.id") == "f-rpo_s"
    assert visitor.too_wide() <= 0
    assert visitor.grave(axe_source()) == []
    page.fill("#f-rpo_s", "10")
    page.type("#f-rpo_s", "x")
    page.wait_for_selector("text=$16 ", state="detached")


def test_a_timeline_is_looked_at_closer_and_closer(office, visit):
    page = visit().go(f"/vms/{CRM}")
    before = page.locator("#timeline svg a").count()
    page.locator("#timeline svg a").last.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("begins="))
    assert page.locator("#timeline tbody tr").count() >= 1
    assert page.locator("#timeline svg a").count() <= before + 60


def test_language_and_colours_are_switched_and_stay(office, visit):
    page = visit().go("/settings")
    page.select_option("#f-language", "ja")
    page.select_option("#f-theme", "dark")
    page.click("text=Save")
    page.wait_for_selector("h1 >> text=設定")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.goto(page.url.replace("/settings", "/"))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground == "rgb(16, 22, 24)"


def test_a_console_that_is_away_is_told_and_the_page_goes_on_when_it_is_back(office, visit):
    visitor = visit("victor")
    page = visitor.go("/")
    page.wait_for_timeout(800)
    port = int(office.server.url.rsplit(":", 1)[1])
    office.server.close()
    page.wait_for_selector("#notice >> text=The console does not answer")
    office.server = Served(office, port)
    visitor.until("document.getElementById('notice').textContent === ''", 20)
    visitor.troubles[:] = [text for text in visitor.troubles if "network error" not in text and "fetch" not in text]


def test_the_first_steps_of_a_fresh_console(tmp_path, browser):
    store, key = MemoryStore(), KeyFolder()
    door = VaultDoor(
        lambda: "file:///var/lib/leeward/vault", lambda create: store, key.load, key.save, *UNNOTED, CHEAP
    )
    fresh = Stand(tmp_path, make_door=lambda: door)
    server = Served(fresh)
    code, _ = fresh.identity.reception.offer_setup()
    visitor = Visitor(browser, server.url)
    axe = axe_source()
    try:
        page = visitor.go("/")
        page.wait_for_url(re.compile("/first-steps$"))
        page.screenshot(path=ARTIFACTS / "first-1-administrator.png", full_page=True)
        assert visitor.grave(axe) == []
        visitor.go("/first-steps")  # axe leaves marks behind, which the page's policy would not let htmx carry over
        page.fill("#f-code", code)
        page.fill("#f-user", "anna")
        page.fill("#f-password", "short")
        page.fill("#f-again", "short")
        page.keyboard.press("Enter")
        page.wait_for_selector('[role="alert"]')
        assert page.input_value("#f-code") == code
        page.fill("#f-password", PASSWORD)
        page.fill("#f-again", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Create the vault")
        page.screenshot(path=ARTIFACTS / "first-2-vault.png", full_page=True)
        page.fill("#f-passphrase", "an unforgettable passphrase")
        page.fill("#f-again", "an unforgettable passphrase")
        page.keyboard.press("Enter")
        page.wait_for_selector("#recovery-key")
        page.screenshot(path=ARTIFACTS / "first-3-key.png", full_page=True)
        assert "\n".join(visitor.troubles) == ""
        assert visitor.grave(axe) == []
        recovery = "-".join(page.locator("#recovery-key span").all_inner_texts())
        page.fill("#f-key", "not the key")
        page.keyboard.press("Enter")
        page.wait_for_selector("#why-key")
        assert page.locator("#recovery-key").count() == 1  # still there to be written down
        page.fill("#f-key", recovery)
        page.keyboard.press("Enter")
        page.wait_for_selector("#tiles")
        assert door.state() is VaultState.OPEN
    finally:
        visitor.close()
        server.close()
        fresh.close()


def test_a_plan_is_written_by_keyboard_alone(office, visit):
    axe = axe_source()
    visitor = visit()
    page = visitor.go("/plans")
    visitor.tab_to('a[href="/new-plan"]')
    visitor.keys("Enter")
    page.wait_for_selector("#plan-form")

    def focused(where):
        visitor.until(f"document.activeElement.id === '{where}'")

    def press(button, then):
        visitor.tab_to(f'[id="{button}"]')
        visitor.keys("Enter")
        focused(then)

    focused("f-name")
    page.keyboard.type("by hand")
    visitor.tab_to('[id="f-groups.0.name"]')
    page.keyboard.type("front")
    visitor.tab_to('[id="f-groups.0.add"]')
    page.keyboard.type("crm")
    visitor.tab_to('[id="vm-add:0"]')
    visitor.keys("Enter")
    page.wait_for_selector(".vm-list >> text=crm")
    focused("f-groups.0.add")
    press("group-add", "f-groups.1.name")
    page.keyboard.type("database")
    visitor.tab_to('[id="f-groups.1.add"]')
    page.keyboard.type("acc")
    visitor.tab_to('[id="vm-add:1"]')
    visitor.keys("Enter")
    page.wait_for_selector(".vm-list >> text=accounting")
    visitor.keys("Shift+Tab")
    press("group-up:1", "group-down:0")
    assert page.inner_text("#said") == "Group database is now number 1 of 2."
    visitor.tab_to("details.more summary")
    visitor.keys("Enter")
    press("check-add:0", "f-groups.0.checks.0.vm")
    visitor.tab_to('[id="f-groups.0.checks.0.kind"]')
    page.keyboard.type("a TCP")
    page.wait_for_selector('[id="f-groups.0.checks.0.port"]')
    focused("f-groups.0.checks.0.kind")
    assert visitor.grave(axe) == []
    # Saved too early: the port is missing, and nothing else is lost.
    visitor.keys("Tab")
    visitor.keys("Enter")
    page.wait_for_selector('[id="why-groups.0.checks.0.port"]')
    focused("f-groups.0.checks.0.port")
    assert visitor.grave(axe) == []
    page.screenshot(path=ARTIFACTS / "light-plan-mistake.png", full_page=True)
    page.keyboard.type("5432")
    visitor.keys("Enter")
    page.wait_for_url("**/plans/by%20hand")
    groups = office.world.plans.get("by hand").document["groups"]
    assert [(group["name"], group["vms"]) for group in groups] == [("database", ["accounting"]), ("front", ["crm"])]
    assert groups[0]["checks"][0]["port"] == 5432
    visitor.tab_to('a[href$="/edit"]')
    visitor.keys("Enter")
    page.wait_for_selector("#delete-plan")
    page.once("dialog", lambda dialog: dialog.accept())
    visitor.tab_to("#delete-plan")
    visitor.keys("Enter")
    page.wait_for_url("**/plans")
    assert "by hand" not in [plan.name for plan in office.world.plans.all()]


def test_a_plans_file_is_read_by_the_page(office, visit, tmp_path):
    file = tmp_path / "night.yaml"
    file.write_text("name: night\ngroups:\n  - name: all\n    vms: [crm, dc01]\n")
    visitor = visit()
    page = visitor.go("/import-plan")
    page.set_input_files("#f-file", str(file))
    visitor.until("document.getElementById('f-text').value.includes('night')")
    page.click("button.primary")
    page.wait_for_selector("#plan-form")
    assert page.input_value("#f-name") == "night"
    assert "dc01" in page.inner_text(".vm-list")
