"""By keyboard through every screen in a real Chromium: in the order in which it is read, the focus in sight, without
traps, and with a place to go on from after something was done."""

import pytest
from tests.console.web.browser import LOOKS
from tests.console.web.keyboard import Stop, disorder, here, reachable, walk
from tests.console.web.test_browser import ACCOUNTING, CRM, MAIL, browser, office, visit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

__all__ = ["browser", "office", "visit"]


def screens(office):
    run = office.service.runs(MAIL, 1)[0]
    return {
        "home": "/",
        "services": "/services",
        "wizard": "/services/recovery",
        "wizard-place": "/services/recovery/place",
        "wizard-scan": "/services/recovery/scan",
        "wizard-hosts": "/services/recovery/hosts",
        "wizard-done": "/services/recovery/done",
        "recovery": f"/recovery?vm={CRM}",
        "recovery-nothing": "/recovery?q=nothing",
        "vm": f"/vms/{CRM}",
        "vm-away": f"/vms/{MAIL}",
        "failover": f"/failover?vm={ACCOUNTING}",
        "commit": f"/do/commit?vm={MAIL}",
        "policy": f"/enable?vm={ACCOUNTING}",
        "policies": f"/enable?vm={ACCOUNTING}&vm={CRM}",
        "run": f"/runs/{run.id}",
        "plan": "/plans/shop",
        "plan-edit": "/plans/shop/edit",
        "vault": "/vault",
        "hosts": "/hosts",
        "alerts": "/alerts",
        "alert-settings": "/settings/alerts",
        "settings": "/settings",
        "users": "/users",
        "audit": "/audit",
    }


def place(left, top, width=80, height=20):
    return Stop(0, "", left, left + width, top, top + height, True, True, False)


@pytest.mark.parametrize(
    ("one", "other", "wrong"),
    [
        (place(0, 0), place(0, 30), False),  # down
        (place(0, 0), place(100, 0), False),  # on in the row
        (place(300, 0), place(0, 30), False),  # the next row
        (place(0, 500), place(100, 0), False),  # the next column
        (place(100, 0), place(0, 0), True),
        (place(0, 500), place(0, 0), True),
        (place(200, 500), place(100, 10), True),
    ],
)
def test_what_counts_as_reading_order(one, other, wrong):
    assert bool(disorder([one, other])) is wrong


@pytest.mark.parametrize("look", ["light", "phone"])
def test_each_screen_is_gone_through_in_the_order_in_which_it_is_read(office, visit, look):
    visitor, wrong = visit(**LOOKS[look]), []
    for name, path in screens(office).items():
        page = visitor.go(path)
        page.wait_for_timeout(300)  # the streams' first pieces
        page.focus(".skip")  # the page's first, wherever it has put the focus itself
        stops = [here(page), *walk(visitor)]
        told = [f"skipped: {len(stops)} of {reachable(page)}"] if len(stops) < reachable(page) else []
        told += [f"no focus to be seen: {stop.what}" for stop in stops if not stop.shown]
        told += [f"out of the window: {stop.what}" for stop in stops if not stop.inside]
        told += [f"covered: {stop.what}" for stop in stops if stop.covered]
        told += [f"order: {one.what} → {other.what}" for one, other in disorder(stops[1:])]
        back = walk(visitor, "Shift+Tab")
        if [stop.number for stop in back] != [stop.number for stop in stops[::-1]]:
            told.append(f"back is another way: {len(back)} and {len(stops)} steps")
        wrong += [f"{look} {name}: {text}" for text in told]
    assert not wrong, "\n".join(wrong)


def test_the_first_stop_leads_past_the_menu(office, visit):
    visitor = visit()
    page = visitor.go("/recovery")
    visitor.keys("Tab")
    assert "skip" in here(page).what
    visitor.keys("Enter", "Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def focused(visitor):
    return visitor.page.evaluate("document.activeElement?.id || document.activeElement?.tagName")


def test_after_an_answer_the_focus_is_kept_or_where_one_goes_on(office, visit):
    visitor = visit()
    page = visitor.go("/recovery")
    visitor.tab_to(f"#pick-{CRM}")
    visitor.keys("Space")
    page.wait_for_selector("#tasks strong >> text=crm")
    page.wait_for_timeout(1200)  # rows come anew by the stream
    assert focused(visitor) == f"pick-{CRM}"
    # A button that is gone with the answer: its row, or what went wrong.
    page = visitor.go("/users")
    visitor.tab_to('form[action="/users/anna/remove"] button')
    page.once("dialog", lambda dialog: dialog.accept())
    visitor.keys("Enter")
    page.wait_for_selector('[role="alert"]')
    assert page.evaluate("document.activeElement.getAttribute('role')") == "alert"
    # A field that is wrong is where it is put right.
    page = visitor.go(f"/enable?vm={ACCOUNTING}")
    page.fill("#f-retain_s", "soon")
    visitor.tab_to("#sheet button.primary")
    visitor.keys("Enter")
    page.wait_for_selector("#why-retain_s")
    visitor.until("document.activeElement.id === 'f-retain_s'")


def test_a_question_gives_the_focus_back(office, visit):
    visitor = visit()
    page = visitor.go("/users")
    visitor.tab_to('form[action="/users/victor/remove"] button')
    page.once("dialog", lambda dialog: dialog.dismiss())
    visitor.keys("Enter")
    page.wait_for_timeout(300)
    assert page.evaluate("document.activeElement.closest('form').getAttribute('action')") == "/users/victor/remove"
    assert "victor" in {user.name for user in office.identity.reception.users()}


def test_the_name_of_a_group_is_asked_for_only_where_one_is_wanted(office, visit):
    """Of several VMs, by keyboard alone."""
    visitor = visit()
    page = visitor.go(f"/enable?vm={ACCOUNTING}&vm={CRM}")
    if not page.evaluate("document.querySelector('details.more').open"):
        visitor.tab_to("details.more summary")
        visitor.keys("Enter")
    visitor.tab_to("#f-grouping")
    assert not page.is_visible("#f-group")
    page.keyboard.type("This")
    visitor.until("document.querySelector('#f-group').checkVisibility()")
    visitor.keys("Tab")
    assert focused(visitor) == "f-group"
