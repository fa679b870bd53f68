"""Taking hosts away over HTTP. It only translates."""

from __future__ import annotations

from fastapi import APIRouter

from leeward.console.access import GuardedRoute, admin
from leeward.console.host_removal import HostRemoval


def build_router(removal: HostRemoval) -> APIRouter:
    router = APIRouter(prefix="/api/v1/hosts", route_class=GuardedRoute)

    # Plain functions, not coroutines: they wait for the database, and FastAPI runs such in its thread pool.
    @router.delete("/{host}", dependencies=admin)
    def remove_host(host: str) -> dict[str, str]:
        removal.remove(host)
        return {"host": host, "state": "removed"}

    return router
