"""Roles are enforced on the server: every page and every endpoint of the dashboard, as each role and as nobody."""

import re

import pytest
from fastapi.routing import iter_route_contexts
from tests.console.plan_world import DB

from leeward.console.access import GuardedRoute, Needs
from leeward.console.web.acts import ACTS
from leeward.console.web.errors import FOR_PROGRAMS
from leeward.domain.access import Role

OPEN = {
    ("GET", "/assets/{version}/{name}"),
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("GET", "/first-steps"),
    ("POST", "/first-steps"),
    ("POST", "/preferences"),
}


def doors(app):
    """(method, path with its places, least role)."""
    for context in iter_route_contexts(app.routes):
        if context.path.startswith(FOR_PROGRAMS):
            continue
        assert isinstance(context.original_route, GuardedRoute), context.path
        dependencies = context.original_route.dependencies
        (needed,) = [one.dependency.role for one in dependencies if isinstance(one.dependency, Needs)]
        for method in sorted(context.methods):
            yield method, context.path_format, needed


def address(path):
    """With something in every place: a VM that is there, a deed that exists, else a name that leads nowhere."""
    path = path.replace("{vm_id}", DB).replace("{act}", "pause")
    path = re.sub(r"{\w+}", "nothing-of-this-name", path)
    return f"{path}?vm={DB}" if path.startswith(("/enable", "/failover", "/do/")) else path


def test_only_these_are_open_to_everybody(shared):
    assert {(method, path) for method, path, needed in doors(shared.app) if needed is None} == OPEN


def test_what_changes_vms_needs_an_operator_and_what_changes_the_console_an_admin(shared):
    least = {(method, path): needed for method, path, needed in doors(shared.app)}
    for path in (
        "/enable",
        "/failover",
        "/do/{act}",
        "/runs/{run_id}/retry",
        "/plans/{plan}/ask/{ask}",
        "/alerts/{number}/acknowledge",
    ):
        assert least["POST", path] is Role.OPERATOR, path
    admins = {path for (method, path), needed in least.items() if method == "POST" and needed is Role.ADMIN}
    assert admins == {
        "/first-steps/place",
        "/first-steps/vault",
        "/first-steps/vault/unlock",
        "/first-steps/key",
        "/vault/credentials",
        "/users",
        "/users/{name}/role",
        "/users/{name}/remove",
        "/settings/alerts/rules",
        "/settings/alerts/{channel}",
        "/settings/alerts/{channel}/test",
        "/services/recovery/place",
        "/services/recovery/scan",
        "/services/recovery/scan/cancel",
        "/services/recovery/scan/pick",
        "/services/recovery/scan/add",
        "/services/recovery/hosts/here",
        "/services/recovery/host/{address}/token",
        "/services/recovery/host/{address}/drop",
        "/services/recovery/host/{address}/key",
        "/services/recovery/host/{address}/install",
        "/hosts/agents/{agent_id}/revoke",
        "/hosts/remove",
    }
    own = {path for (method, path), needed in least.items() if method == "POST" and needed is Role.VIEWER}
    assert own == {"/sign-out", "/settings/password", "/settings/tokens", "/settings/tokens/{ref}/remove"}


def test_nobody_gets_through_with_less_than_the_declared_role(shared):
    browsers = {role: shared.as_role(role) for role in Role}
    nobody = shared.pages()
    tried = 0
    for method, path, needed in doors(shared.app):
        if path.endswith("/live") or path == "/sign-out" or (method, path) == ("POST", "/sign-in"):
            continue  # these do not end, end the login, or refuse everybody who has no password; tried elsewhere
        for role, browser in {None: nobody, **browsers}.items():
            answer = browser.ask(method, address(path), {} if method == "POST" else None)
            tried += 1
            if needed is None or (role is not None and role.covers(needed)):
                assert answer.status_code not in (401, 403, 500), (method, path, role, answer.text[-400:])
            elif role is not None:
                assert answer.status_code == 403, (method, path, role, answer.status_code)
            elif method == "GET":
                assert (answer.status_code, answer.headers["location"][:9]) == (303, "/sign-in?"), path
            else:
                assert answer.status_code == 401, (method, path)
    assert tried > 100


def test_live_streams_are_for_those_who_may_see_the_page(shared):
    for path in ("/live", "/recovery/live", f"/vms/{DB}/live", "/runs/live"):
        answer = shared.pages().get(path)
        assert answer.status_code == 303, path
        told = shared.pages().get(
            path, headers={"HX-Request": "true", "HX-Current-URL": "https://console/recovery?q=a"}
        )
        assert (told.status_code, told.headers["hx-redirect"]) == (401, "/sign-in?next=/recovery%3Fq%3Da")


@pytest.mark.parametrize("path", ["/enable", "/failover", "/do/pause", "/settings/tokens", "/sign-out"])
def test_a_foreign_page_cannot_make_the_browser_change_anything(shared, path):
    browser = shared.as_role("admin")
    browser.csrf = "wrong"
    assert browser.post(path, {"vm": DB}).status_code == 403


@pytest.mark.parametrize("path", ["/sign-in", "/first-steps", "/preferences"])
def test_nor_can_it_use_the_doors_that_are_open_to_everybody(shared, path):
    """It can make a browser send a form, but not this header."""
    browser = shared.pages()
    form = {"user": "a", "password": "b"}
    assert browser.post(path, form).status_code != 403
    assert browser.post(path, form, bare=True).status_code == 403


def test_what_a_viewer_sees_offers_nothing_that_he_may_not_do(shared):
    viewer, operator = shared.as_role("viewer"), shared.as_role("operator")
    assert "an operator may do this" in viewer.get(f"/recovery?vm={DB}").text
    assert 'href="/failover?vm=' not in viewer.get(f"/vms/{DB}").text
    assert 'href="/failover?vm=' in operator.get(f"/vms/{DB}").text
    for path in ("/audit", "/users"):
        assert f'href="{path}"' not in operator.get("/").text


def test_a_role_that_is_taken_away_counts_at_once(stand):
    browser = stand.as_role("operator", "anna")
    assert browser.get(f"/enable?vm={DB}").status_code == 200
    stand.identity.reception.set_role("anna", Role.VIEWER)
    assert browser.get(f"/enable?vm={DB}").status_code == 403
    assert browser.post("/enable", {"vm": DB}).status_code == 403
    assert stand.database.desired().protections == ()


def test_the_audit_log_has_words_for_everything_that_can_be_done(shared):
    done = set()
    for context in iter_route_contexts(shared.app.routes):
        route = context.original_route
        if isinstance(route, GuardedRoute) and set(context.methods) - {"GET", "HEAD"}:
            needed = next(one.dependency for one in route.dependencies if isinstance(one.dependency, Needs))
            if needed.keeps:
                done.add(route.name.replace("_", " "))
    assert done == set(ACTS)
