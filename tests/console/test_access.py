"""Every endpoint has a role, and nobody with less gets through."""

import re

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from tests.console.caller import Caller, Console
from tests.console.plan_world import PlanWorld

from leeward.agent.config import AgentConfig
from leeward.agent.here import LibvirtHere
from leeward.agent.wiring import build_agent
from leeward.console.access import GuardedRoute, Needs, guard, operator, unguarded, viewer
from leeward.console.agents import Agents
from leeward.console.alerts.center import AlertCenter
from leeward.console.authority import Authority
from leeward.console.consoles import Consoles
from leeward.console.errors import install
from leeward.console.host_removal import HostRemoval
from leeward.console.routers import all_routers
from leeward.console.web.alert_letters import From
from leeward.domain.access import Role
from leeward.state.seat import Member

NAME = "web"  # in every place of a path
RANKS = [None, Role.VIEWER, Role.OPERATOR, Role.ADMIN]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A console with everything that the daemon offers."""

    def routers(console):
        authority = Authority.open(console.folder / "authority")
        agents = Agents(console.database, authority, "")
        alerts = AlertCenter(console.database, authority, From("here", ""))
        world = console.world
        own = build_agent(AgentConfig("here", (), "file:///vault", console.folder / "own"))
        removal = HostRemoval(console.database, world.fleet, world.desk, LibvirtHere(own, console.folder / "own"))
        return all_routers(agents, world.plans, Consoles(None, Member("here", "1")), alerts, removal)

    made = Console(tmp_path_factory.mktemp("whole"), PlanWorld, routers)
    yield made
    made.close()


def endpoints(app):
    """(method, path without the prefix, least role) of each."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        assert isinstance(route, GuardedRoute), context.path
        (declared,) = [one.dependency.role for one in route.dependencies if isinstance(one.dependency, Needs)]
        for method in sorted(context.methods):
            yield method, re.sub(r"{\w+}", NAME, context.path_format.removeprefix("/api/v1")), declared


def test_nobody_gets_through_with_less_than_the_declared_role(whole):
    """Bodies are empty: whoever is let in meets 2xx, 404, 409 or 422, but neither 401 nor 403."""
    callers = {None: whole.anyone}
    for role in Role:
        callers[role] = whole.user(f"u-{role}", role)
    tried = 0
    for method, path, needed in endpoints(whole.app):
        if (method, path) == ("DELETE", "/session"):
            continue  # ends the very login it is called with; tried below
        for role, caller in callers.items():
            answer = caller.ask(method, path, None if method in ("GET", "DELETE") else {})
            tried += 1
            if needed is None or (role is not None and role.covers(needed)):
                assert answer.status_code not in (401, 403, 500), (method, path, role, answer.text)
            else:
                assert answer.status_code == (401 if role is None else 403), (method, path, role, answer.text)
                assert answer.json()["error"]["code"] == ("not-signed-in" if role is None else "forbidden")
    assert tried > 100


def test_only_these_are_open_to_everybody(whole):
    opened = {(method, path) for method, path, needed in endpoints(whole.app) if needed is None}
    assert opened == {("GET", "/health"), ("GET", "/ca"), ("POST", "/login"), ("POST", "/setup")}


def test_changes_are_never_for_viewers_only_but_for_their_own_things(whole):
    own = {
        ("DELETE", "/session"),
        ("PUT", f"/users/{NAME}/password"),
        ("POST", "/tokens"),
        ("DELETE", f"/tokens/{NAME}"),
    }
    changes = {
        (method, path) for method, path, needed in endpoints(whole.app) if method != "GET" and needed is Role.VIEWER
    }
    assert changes == own


def nothing():
    return {}


def app_with(gate, trail):
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install(app)
    guard(app, gate, trail)
    return app


def test_an_endpoint_without_a_role_cannot_be_made(shared):
    app = app_with(shared.identity.gate, shared.identity.trail)
    with pytest.raises(RuntimeError, match="/naked"):
        app.get("/naked")(nothing)
    with pytest.raises(RuntimeError, match="/both"):
        app.get("/both", dependencies=viewer + operator)(nothing)


def test_routes_of_another_class_are_found_and_closed_all_the_same(shared):
    app = app_with(shared.identity.gate, shared.identity.trail)
    foreign = APIRouter(route_class=APIRoute)
    foreign.get("/naked")(lambda: {"secret": 1})
    foreign.get("/api/v1/declared", dependencies=viewer)(lambda: {"secret": 1})
    app.include_router(foreign)
    app.mount("/files", lambda *_: None)
    assert unguarded(app) == ["/naked", "/api/v1/declared", "/files"]
    assert unguarded(app, public=["/files"]) == ["/naked", "/api/v1/declared"]
    assert Caller(app, local=True).get("/declared").status_code == 401


def test_included_routers_are_guarded(shared):
    app = app_with(shared.identity.gate, shared.identity.trail)
    router = APIRouter(route_class=GuardedRoute)
    router.get("/x", dependencies=viewer)(lambda: {"secret": 1})
    app.include_router(router, prefix="/api/v1/more")
    assert unguarded(app) == []
    assert Caller(app).get("/more/x").status_code == 401
    assert Caller(app, local=True).get("/more/x").json() == {"secret": 1}


def test_roles_are_checked_before_the_body_is_read(shared):
    answer = shared.anyone.ask("PUT", "/vms/web/protection", content=b"{not json")
    assert answer.status_code == 401
    assert shared.local.ask("PUT", "/vms/web/protection", content=b"{not json").status_code == 422


def test_a_role_taken_away_counts_at_once(console):
    caller = console.user("anna", "operator")
    assert caller.post("/vms/web/pause").status_code == 409
    console.local.put("/users/anna/role", {"role": "viewer"})
    assert caller.post("/vms/web/pause").status_code == 403
    assert caller.get("/vms").status_code == 200
    console.user("root", "admin")
    console.local.delete("/users/anna")
    assert caller.get("/vms").status_code == 401
