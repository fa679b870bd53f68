"""The vault's place over HTTP, and how the vault comes about there. It only translates; secrets go in and never come
out, but for the recovery key, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from leeward.console.access import GuardedRoute, about, admin
from leeward.console.vault_place import PlaceView, VaultPlaces
from leeward.console.web.vault_door import VaultDoor
from leeward.vault.stores.opening import without_login


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlaceRequest(_Request):
    """url: a folder (/folder, file:///folder), s3://bucket/prefix or azure://container/prefix. Options of S3:
    endpoint, region, access_key_id, secret_access_key, session_token; of Azure: account, endpoint, and account_key,
    sas_token, or tenant_id, client_id and client_secret; of both: ca (PEM), allow_http."""

    url: str = Field(min_length=1, max_length=2000)
    options: dict[str, StrictStr | StrictBool] = Field(default_factory=dict, max_length=20, repr=False)


class CredentialsRequest(_Request):
    """credentials: those among the options of a place."""

    credentials: dict[str, StrictStr] = Field(min_length=1, max_length=20, repr=False)


class CreateRequest(_Request):
    passphrase: str = Field(max_length=1000, repr=False)


class UnlockRequest(_Request):
    """secret: passphrase or recovery key."""

    secret: str = Field(max_length=1000, repr=False)


class Tried(BaseModel):
    """vault: id of the one that is there already, null without."""

    url: str
    works: bool = True
    vault: str | None


class Created(BaseModel):
    """recovery_key: told this once."""

    url: str
    fingerprint: str
    recovery_key: str


def build_router(places: VaultPlaces, door: VaultDoor, changed: Callable[[], None]) -> APIRouter:
    """changed: called when the vault may be another one."""
    router = APIRouter(prefix="/api/v1/vault", route_class=GuardedRoute)

    # Plain functions, not coroutines: they wait for the store, and FastAPI runs such in its thread pool.
    @router.get("/place", dependencies=admin)
    def vault_place() -> PlaceView:
        return places.view()

    @router.post("/place/check", dependencies=admin)
    def check_vault_place(request: Request, wanted: PlaceRequest) -> Tried:
        about(request, without_login(wanted.url)[:200])
        place, found = places.check(wanted.url, wanted.options)
        return Tried(url=place.url, vault=str(found) if found else None)

    @router.put("/place", dependencies=admin)
    def choose_vault_place(request: Request, wanted: PlaceRequest) -> PlaceView:
        about(request, without_login(wanted.url)[:200])
        places.choose(wanted.url, wanted.options)
        changed()
        return places.view()

    @router.put("/place/credentials", dependencies=admin)
    def renew_vault_credentials(request: Request, wanted: CredentialsRequest) -> PlaceView:
        about(request, places.file.url[:200])
        places.renew(wanted.credentials)
        changed()
        return places.view()

    @router.post("", dependencies=admin)
    def create_vault(request: Request, wanted: CreateRequest) -> Created:
        about(request, door.url[:200])
        key, fingerprint = door.create(wanted.passphrase)
        changed()
        return Created(url=door.url, fingerprint=fingerprint, recovery_key=key)

    @router.post("/unlock", dependencies=admin)
    def unlock_vault(request: Request, wanted: UnlockRequest) -> dict[str, Any]:
        about(request, door.url[:200])
        fingerprint = door.unlock(wanted.secret)
        changed()
        return {"url": door.url, "fingerprint": fingerprint}

    return router
