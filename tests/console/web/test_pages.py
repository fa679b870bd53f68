"""Pages to look at: the list, a VM, runs, plans, the vault, users, settings, the audit log."""

import hashlib
import re
import time
import uuid
from dataclasses import replace

import pytest
from tests.console.caller import PASSWORD
from tests.console.plan_world import DB
from tests.console.web.stand import Pages, Stand
from tests.console.web.test_moves import until

from leeward.console import listeners
from leeward.console.web.assets import Assets
from leeward.console.web.vm_pages import history_of
from leeward.domain.growth import Size
from leeward.domain.protection import ProtectionState
from leeward.domain.vm import Power
from leeward.state.vault_care import VaultBook
from leeward.wire.messages import ProtectionMessage

pytestmark = pytest.mark.usefixtures("quick")


def rows(page):
    return re.findall(r'<tr id="vm-[^"]*".*?<a href="/vms/[^"]*">(.*?)</a>', page, re.S)


def test_hosts_and_their_vms(shared):
    page = shared.as_role("viewer").get("/recovery").text
    assert rows(page) == ["app", "bare", "db", "front"]
    assert "Source site" in page
    assert "Enabled" in page
    assert "Choose one or more VMs in the list." in page


def test_what_is_chosen_is_kept_while_the_list_changes(shared):
    viewer = shared.as_role("operator")
    page = viewer.get(f"/recovery?vm={DB}").text
    assert f'value="{DB}" id="pick-{DB}" aria-label="Choose db" checked' in page
    assert f'href="/failover?vm={DB}"' in page
    hidden = viewer.get(f"/recovery?vm={DB}&q=front").text
    assert rows(hidden) == ["front"]
    assert f'<input type="hidden" name="vm" value="{DB}">' in hidden
    assert "1 row" not in hidden  # it says how many of all


def test_all_of_a_page_are_chosen_and_let_go_of(shared):
    viewer = shared.as_role("viewer")
    page = viewer.get("/recovery?every=true", headers={"HX-Request": "true"})
    assert page.text.count("checked") == 4
    address = page.headers["hx-replace-url"]
    assert address.count("vm=") == 4
    assert viewer.get(address + "&every=true").text.count(" checked") == 0


def test_another_search_begins_at_the_first_page(shared):
    viewer = shared.as_role("viewer")
    page = viewer.get("/recovery?q=db&page=3&last=other|", headers={"HX-Request": "true"})
    assert page.headers["hx-replace-url"] == "/recovery?q=db"


@pytest.mark.parametrize("query", ["page=-1", "page=99999999999", "sort=x", "show=x", "vm=x&vm=y", "q=%00%ff"])
def test_odd_addresses_do_no_harm(shared, query):
    assert shared.as_role("viewer").get(f"/recovery?{query}").status_code == 200


@pytest.mark.parametrize("query", ["page=x", "desc=maybe", "q=" + "x" * 999])
def test_what_cannot_be_read_is_a_page_that_says_so(shared, query):
    answer = shared.as_role("viewer").get(f"/recovery?{query}")
    assert answer.status_code == 422
    assert "That cannot be used" in answer.text


def test_nothing_that_a_guest_or_user_is_called_becomes_markup(stand):
    evil = '<img src=x onerror="alert(1)">'
    stand.world.office.hypervisor.add(str(uuid.uuid4()), evil, {"vda": bytes(65536)}, Power.RUNNING)
    stand.world.wait(lambda: evil in {vm.name for vm in stand.service.vms()[0]})
    viewer = stand.as_role("viewer")
    for path in ("/recovery", "/", f"/recovery?q={evil}"):
        page = viewer.get(path).text
        assert "<img" not in page
    assert "&lt;img" in viewer.get("/recovery").text


def test_what_a_copy_will_lack_stands_on_the_vms_page(stand):
    viewer = stand.as_role("viewer")
    assert "will lack" not in viewer.get(f"/vms/{DB}").text
    vm = stand.world.office.hypervisor._vms[DB]
    vm.facts = replace(vm.facts, lacks=("a host device passed through", "<b>a shared folder</b>"))
    stand.world.wait(lambda: next(each for each in stand.service.vms()[0] if each.id == DB).lacks)
    told = re.search(r"A copy of it will lack:(.*?)</p>", viewer.get(f"/vms/{DB}").text, re.S)[1]
    assert " ".join(told.split()) == "a host device passed through, &lt;b&gt;a shared folder&lt;/b&gt;"
    japanese = viewer.get(f"/vms/{DB}", headers={"Accept-Language": "ja"}).text
    assert "ホストのパススルーデバイス" in japanese


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """VMs of which every other one is protected. How long pages take is measured by `leeward bench console`."""
    made = Stand(tmp_path_factory.mktemp("thousand"))
    for number in range(1000):
        vm_id = str(uuid.UUID(int=number + 1))
        made.world.office.hypervisor.add(vm_id, f"vm{number:04}", {"vda": bytes(65536)})
        if number % 2:
            wish = ProtectionMessage(vm_id=vm_id, vm_name=f"vm{number:04}", host="office", paused=True)
            made.database.protect(wish)
    made.world.wait(lambda: len(made.service.vms()[0]) > 1000)
    yield made
    made.close()


def over_the_net(stand, browser):
    """The same browser, as it comes through the HTTPS listener, which packs what is sent."""
    found = Pages(listeners.public(stand.app), headers={"Accept-Encoding": "gzip"})
    found.cookies, found.csrf = browser.cookies, browser.csrf
    return found


def sent(answer):
    return int(answer.headers["content-length"])


@pytest.mark.slow
def test_pages_of_a_thousand_vms_are_light(thousand):
    viewer = over_the_net(thousand, thousand.as_role("viewer"))
    first = viewer.get("/")
    weight = sent(first)
    for address in re.findall(r'(?:src|href)="(/assets/[^"]*)"', first.text):
        weight += sent(viewer.get(address))
    assert 10_000 < weight < 60_000, weight
    for path in (
        "/recovery",
        "/recovery?q=vm07&sort=rpo",
        "/recovery?sort=state&page=12",
        "/vms/" + str(uuid.UUID(int=2)),
    ):
        page = viewer.get(path)
        assert page.headers["content-encoding"] == "gzip"
        assert 1000 < sent(page) < 10_000, path
    assert len(rows(viewer.get("/recovery").text)) == 50


@pytest.mark.slow
def test_a_picture_of_a_thousand_vms_asks_each_agent_once(thousand, monkeypatch):
    asked = []
    for link in thousand.world.links:
        monkeypatch.setattr(link, "report", lambda link=link, report=link.report: asked.append(link) or report())
    thousand.watch.fresh()
    assert sorted(map(id, asked)) == sorted(map(id, thousand.world.links))


def test_what_comes_over_the_net_is_packed_where_that_is_understood(shared):
    browser = shared.as_role("viewer")
    pages = over_the_net(shared, browser)
    packed = pages.get("/recovery")
    assert packed.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert sent(packed) < len(packed.content) / 3
    assert packed.headers["cache-control"] == "no-store"
    pages.headers["Accept-Encoding"] = "identity"
    plain = pages.get("/recovery")
    assert "content-encoding" not in plain.headers
    assert rows(plain.text) == rows(packed.text)


def test_what_pages_send_along_with_changes_looks_otherwise_on_each_of_them(shared):
    """Else the lengths of packed pages would tell it bit by bit to who makes a reader search for what he likes."""
    viewer = shared.as_role("viewer", "vera")
    tokens = {re.search(r'"X-CSRF-Token": "(\w+)"', viewer.get("/").text)[1] for _ in range(5)}
    assert len(tokens) == 5
    for token in tokens:
        viewer.csrf = token
        assert viewer.post("/settings/tokens", {"name": "", "role": "viewer"}).status_code == 422
    one = tokens.pop()
    for wrong in (one[:-2], one[:64] + "0" * 64, "0" * 128, one[64:], "x" * 128, ""):
        viewer.csrf = wrong
        assert viewer.post("/settings/tokens", {"name": "", "role": "viewer"}).status_code == 403, wrong


def test_a_vm_page_has_its_points_and_looks_closer_where_it_is_asked_to(shared):
    viewer = shared.as_role("viewer")
    points = shared.vault.log(DB).points()
    page = viewer.get(f"/vms/{DB}").text
    assert f'<th scope="row">{points[-1].id}</th>' in page
    assert "vda" in page
    begins, ends = points[0].time_ns / 1e9 - 1, points[0].time_ns / 1e9 + 0.0005
    closer = viewer.get(f"/vms/{DB}?begins={begins:.3f}&ends={ends:.4f}").text
    assert closer.count('<th scope="row">') < page.count('<th scope="row">') or len(points) == 1
    nothing = viewer.get(f"/vms/{DB}?begins=1000&ends=2000").text
    assert "No point in this time." in nothing
    for odd in ("begins=5&ends=1", "begins=-1&ends=nan", "span=century", "begins=inf&ends=inf"):
        assert viewer.get(f"/vms/{DB}?{odd}").status_code in (200, 422), odd


@pytest.mark.parametrize(("state", "warned"), [("paused", False), ("enabled", True)])
def test_a_missed_rpo_is_the_same_on_a_vms_page_as_in_the_list(shared, monkeypatch, state, warned):
    moment = shared.watch.fresh()
    old = [one.model_copy(update={"state": ProtectionState(state), "rpo_actual_s": 999.0}) for one in moment.statuses]
    monkeypatch.setattr(shared.watch, "look", lambda: replace(moment, statuses=tuple(old)))
    viewer = shared.as_role("viewer")
    facts = re.search(r'id="vm-facts".*?</section>', viewer.get(f"/vms/{DB}").text, re.S)[0]
    assert ('class="tile warn"' in facts) is warned
    assert (f'class="rpo is-late" id="rpo-{DB}"' in viewer.get("/recovery").text) is warned


def test_plans_are_shown_with_what_would_fail(stand):
    stand.world.protect_all()
    stand.world.create()
    viewer = stand.as_role("viewer")
    assert "Ready" in viewer.get("/plans").text
    page = viewer.get("/plans/shop").text
    assert page.index("database") < page.index("application")
    stand.service.unprotect("front")
    assert "front is not protected any more" in viewer.get("/plans/shop").text
    assert viewer.get("/plans/none").status_code == 404


def test_the_vault_tells_what_it_holds(shared):
    page = shared.as_role("viewer").get("/vault").text
    assert "Unlocked" in page
    for name in ("db", "app", "front"):
        assert f">{name}</a>" in page


def test_users_are_added_changed_and_removed(stand):
    admin = stand.as_role("admin", "root2")
    assert admin.post("/users", {"name": "Ben", "password": PASSWORD, "role": "viewer"}).status_code == 204
    weak = admin.post("/users", {"name": "carl", "password": "short", "role": "operator"})
    assert weak.status_code == 422
    assert "A password has 12 to 256 characters" in weak.text
    assert 'value="carl"' in weak.text
    assert admin.post("/users/ben/role", {"role": "operator"}).status_code == 204
    assert {user.name: user.role for user in stand.identity.reception.users()} == {
        "ben": "operator",
        "root2": "admin",
    }
    assert admin.post("/users/root2/remove").status_code == 409
    assert admin.post("/users/ben/remove").status_code == 204
    assert [user.name for user in stand.identity.reception.users()] == ["root2"]


def test_users_may_have_any_name(stand):
    admin = stand.as_role("admin", "root2")
    for name in ("request", "error"):
        known = {"name": name, "password": PASSWORD, "role": "viewer"}
        assert admin.post("/users", known).status_code == 204
        again = admin.post("/users", known)
        assert (again.status_code, "There is such a user already" in again.text) == (409, True)


def test_a_token_is_told_once_and_works(stand):
    anna = stand.as_role("operator", "anna")
    page = anna.post("/settings/tokens", {"name": "ci", "role": "viewer", "life": "24h"})
    token = re.search(r"lwt_[\w-]+", page.text)[0]
    assert token not in anna.get("/settings").text
    too_much = anna.post("/settings/tokens", {"name": "more", "role": "admin", "life": ""})
    assert too_much.status_code == 403
    ref = re.search(r"/settings/tokens/(\w+)/remove", anna.get("/settings").text)[1]
    assert anna.post(f"/settings/tokens/{ref}/remove").status_code == 204
    assert "lwt_" not in str(stand.audit())


def test_ones_own_password_needs_the_present_one(stand):
    anna = stand.as_role("viewer", "anna")
    form = {"current": "wrong", "password": "another long password", "again": "another long password"}
    answer = anna.post("/settings/password", form)
    assert answer.status_code == 403
    assert "The present password is wrong" in answer.text
    assert anna.post("/settings/password", {**form, "again": "x"}).status_code == 422
    assert anna.post("/settings/password", {**form, "current": PASSWORD}).status_code == 204
    answer = stand.pages().post("/sign-in", {"user": "anna", "password": "another long password"})
    assert answer.status_code == 204


def test_the_audit_log_is_read_page_by_page(stand):
    admin = stand.as_role("admin")
    for number in range(130):
        stand.identity.audit.add(who="anna", address="local", what=f"deed {number}", outcome="done", status=200)
    page = admin.get("/audit").text
    assert "deed 129" in page
    assert "deed 1<" not in page
    older = re.search(r'href="(/audit\?before=\d+)"', page)[1]
    assert "deed 1<" in admin.get(older).text
    for odd in (-1, 0, 1 << 31, 10**30):
        assert "deed 129" in admin.get(f"/audit?before={odd}").text, odd


def test_how_pages_look_is_the_readers_choice_and_kept_in_his_browser(shared):
    browser = shared.as_role("viewer")
    assert '<html lang="en">' in browser.get("/settings").text
    answer = browser.post("/preferences", {"language": "ja", "theme": "dark", "next": "/settings"})
    assert answer.headers["hx-redirect"] == "/settings"
    browser.cookies |= dict(answer.cookies)
    page = browser.get("/settings").text
    assert '<html lang="ja" data-theme="dark">' in page
    assert "設定" in page
    browser.cookies["leeward-language"], browser.cookies["leeward-theme"] = "xx", '"><script>'
    assert '<html lang="en">' in browser.get("/settings").text


def test_times_are_in_the_browsers_time_zone(shared):
    browser = shared.as_role("viewer")
    browser.cookies["leeward-zone"] = "Asia/Tokyo"
    there = re.search(r"<time title=\"([^\"]*)\"", browser.get(f"/vms/{DB}").text)[1]
    browser.cookies["leeward-zone"] = "../../etc/passwd"
    here = re.search(r"<time title=\"([^\"]*)\"", browser.get(f"/vms/{DB}").text)[1]
    assert there != here


def test_assets_are_kept_for_ever_under_an_address_that_changes_with_them(shared):
    version = Assets().version
    page = shared.pages().get("/sign-in").text
    found = re.findall(r'(?:src|href)="(/assets/[^"]*)"', page)
    assert len(found) == 6
    weight = len(page)
    for address in found:
        answer = shared.pages().get(address, headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert version in address
        weight += int(answer.headers["content-length"])
    assert weight < 150_000 / 3, weight
    assert shared.pages().get(f"/assets/{version}/README.md").status_code == 404
    assert shared.pages().get(f"/assets/{version}/..%2Fpainter.py").status_code == 404


def test_the_api_still_answers_in_json(shared):
    answer = shared.anyone.get("/nothing")
    assert answer.json()["error"]["code"] == "not-found"
    assert shared.anyone.get("/vms").json()["error"]["code"] == "not-signed-in"
    assert "<html" in shared.pages().get("/nothing").text


def test_a_bug_is_a_page_without_what_is_inside(shared, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(shared.watch, "look", fail)
    answer = shared.as_role("viewer").get("/recovery")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "secret" not in answer.text


def test_the_vault_is_checked_by_a_click(shared):
    operator = shared.as_role("operator")
    assert "It was not checked yet" in operator.get("/vault").text
    answer = operator.post("/vault/check", {"deep": "1"})
    assert answer.status_code == 204, answer.text
    until(lambda: shared.care.progress is None)
    page = operator.get("/vault").text
    assert "Sound" in page
    assert "the-operator" in page
    viewer = shared.as_role("viewer").get("/vault").text
    assert "Sound" in viewer
    assert "Check now" not in viewer


def test_how_the_vault_grows_is_told_once_it_is_known(shared):
    viewer = shared.as_role("viewer")
    assert "not known yet" in viewer.get("/vault").text
    book, now = VaultBook(shared.database), time.time()
    for hour in range(72, -1, -1):
        book.add_size(Size(now - hour * 3600, (200 - hour) << 20))
    page = viewer.get("/vault").text
    assert "grows by 24.0 MiB" in page
    assert "720 MiB more" in page
    assert "Size since" in page


def test_what_a_test_has_shown_is_on_the_vms_page_and_can_be_filed(stand):
    stand.world.protect_all()
    viewer = stand.as_role("viewer")
    assert "It has never been tested." in viewer.get(f"/vms/{DB}").text
    stand.service.start_test("db", "latest", "anna")
    stand.world.wait(lambda: stand.service.test("db").done)
    stand.service.cleanup_test("db", "anna")
    (test,) = stand.service.evidence.of(DB)
    page = viewer.get(f"/vms/{DB}").text
    assert f'<img src="/vms/{DB}/evidence/{test.run}/picture"' in page
    assert 'alt="Screen of db-test in the test of' in page
    report = viewer.get(f"/vms/{DB}/evidence/{test.run}").text
    for said in ("Passed", "guest agent", "target 1 sec", test.time, "anna", f"Run {test.run}", "data-print"):
        assert said in report, said
    picture = viewer.get(f"/vms/{DB}/evidence/{test.run}/picture")
    assert picture.headers["content-type"] == "image/png"
    assert hashlib.sha256(picture.content).hexdigest() in report
    assert viewer.get(f"/vms/{DB}/evidence/nope").status_code == 404
    assert stand.pages().get(f"/vms/{DB}/evidence/{test.run}/picture").status_code in (303, 401)


def test_a_vms_history_begins_with_its_name():
    """Before that another VM may have had it."""
    events = [
        {"subject": "db", "what": "protect"},
        {"subject": "till", "what": "renamed"},
        {"subject": "db", "what": "renamed"},
        {"subject": "db", "what": "unprotect"},
    ]
    assert history_of("db", events) == [events[0], events[2]]
    assert history_of("till", events) == [events[1]]
    assert len(history_of("db", events[:1] * 20)) == 10
