"""Agents in the operator's HTTP API."""

from __future__ import annotations

from fastapi import APIRouter

from leeward.console.access import GuardedRoute, admin, viewer
from leeward.console.agent_views import AgentView, TokenRequest, TokenView
from leeward.console.agents import Agents


def agents_router(agents: Agents) -> APIRouter:
    router = APIRouter(prefix="/api/v1/agents", route_class=GuardedRoute)

    # Plain functions, not coroutines: they wait for the database, and FastAPI runs such in its thread pool.
    @router.get("", dependencies=viewer)
    def listed() -> list[AgentView]:
        return agents.views()

    @router.post("/tokens", status_code=201, dependencies=admin)
    def token(request: TokenRequest) -> TokenView:
        return agents.new_token(request)

    @router.post("/{agent}/revoke", dependencies=admin)
    def revoke(agent: str) -> AgentView:
        return agents.revoke(agent)

    return router
