"""The consoles of one database in the HTTP API."""

from __future__ import annotations

from fastapi import APIRouter

from leeward.console.access import GuardedRoute, admin, viewer
from leeward.console.consoles import Consoles, ConsoleView


def build_router(consoles: Consoles) -> APIRouter:
    router = APIRouter(prefix="/api/v1/consoles", route_class=GuardedRoute)

    # Plain functions, not coroutines: they wait for the database, and FastAPI runs such in its thread pool.
    @router.get("", dependencies=viewer)
    def listed() -> list[ConsoleView]:
        return consoles.views()

    @router.delete("/{console}", dependencies=admin)
    def forget(console: str) -> list[ConsoleView]:
        return consoles.forget(console)

    return router
