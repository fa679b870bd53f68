"""Choosing where the vault goes, with a look whether it works there; and new credentials for the place that there
is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, admin
from leeward.console.web.forms import Form, Posted
from leeward.console.web.kept_secrets import KeptSecrets
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import Quote
from leeward.console.web.place_form import (
    SECRET_FIELDS,
    field_of,
    filled,
    first,
    read,
    secrets_of,
    typed,
)
from leeward.domain.errors import LeewardError
from leeward.vault.place import CREDENTIALS
from leeward.vault.stores.opening import without_login


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    kept = KeptSecrets()
    _add_choosing(pages, parts, kept)
    _add_renewing(pages, parts, kept)
    return pages


def _add_choosing(pages: APIRouter, parts: Parts, kept: KeptSecrets) -> None:
    places = parts.places

    def place_page(request: Request, values: dict[str, str], status: int = 200, **more: object) -> Response:
        shown: dict[str, Any] = {"works": None, "kept": "", "held": (), **more}
        return parts.painter.page(request, "first_place.html", status, values=values, **shown)

    @pages.get("/first-steps/place", dependencies=admin)
    def first_place(request: Request) -> Response:
        if not places.choosable():
            return go(request, "/first-steps/vault")
        now = places.file.chosen()
        return place_page(request, filled(now) if now else first(places.file.url))

    @pages.post("/first-steps/place", dependencies=admin)
    def choose_vault_place(request: Request, form: Posted) -> Response:
        secrets = secrets_of(form, kept.take(form["kept"]))
        found = read(form, secrets)
        about(request, without_login(found.url)[:200], "check" if form["act"] == "check" else "")
        more: dict[str, Any] = {"kept": kept.keep(secrets), "held": _held(secrets)}
        if found.wrong:
            return place_page(request, typed(form), 422, trouble=wrong(found.wrong), **more)
        try:
            if form["act"] == "check":
                _, vault = places.check(found.url, found.options)
                works = "vault" if vault else "empty"
                return place_page(request, typed(form), works=works, **more)
            places.choose(found.url, found.options)
        except LeewardError as error:
            trouble, status = _beside(request, error, form)
            return place_page(request, typed(form), status, trouble=trouble, **more)
        kept.take(str(more["kept"]))
        parts.watch.forget_vault()
        return go(request, "/first-steps/vault")


def _add_renewing(pages: APIRouter, parts: Parts, kept: KeptSecrets) -> None:
    places = parts.places

    def credentials_page(request: Request, values: dict[str, str], status: int = 200, **more: object) -> Response:
        shown: dict[str, Any] = {"kept": "", "held": (), **more}
        shown |= {"values": values, "place": places.view()}
        return parts.painter.page(request, "vault_credentials.html", status, **shown)

    @pages.get("/vault/credentials", dependencies=admin)
    def vault_credentials(request: Request) -> Response:
        if places.handed() is None:
            return go(request, "/vault")
        return credentials_page(request, filled(places.file.current()))

    @pages.post("/vault/credentials", dependencies=admin)
    def renew_vault_credentials(request: Request, form: Posted) -> Response:
        about(request, places.file.url[:200])
        if places.handed() is None:
            return go(request, "/vault")
        # Where it is stays as it is, whatever a form says.
        now = filled(places.file.current())
        whole = Form([*[pair for pair in form.pairs() if pair[0] not in _where(now)], *_where(now).items()])
        secrets = secrets_of(whole, kept.take(form["kept"]))
        found = read(whole, secrets)
        more: dict[str, Any] = {"kept": kept.keep(secrets), "held": _held(secrets)}
        if found.wrong:
            return credentials_page(request, typed(whole), 422, trouble=wrong(found.wrong), **more)
        try:
            places.renew({name: value for name, value in found.options.items() if name in CREDENTIALS})
        except LeewardError as error:
            trouble, status = _beside(request, error, whole)
            return credentials_page(request, typed(whole), status, trouble=trouble, **more)
        kept.take(str(more["kept"]))
        parts.watch.forget_vault()
        return go(request, "/vault?renewed=1")


def _where(values: dict[str, str]) -> dict[str, str]:
    """All of the form but who signs in, and how."""
    signs = ("azure_sign", *SECRET_FIELDS, *(f"{kind}_{name}" for kind in ("s3", "azure") for name in CREDENTIALS))
    return {name: value for name, value in values.items() if name not in signs}


def _held(secrets: dict[str, str]) -> tuple[str, ...]:
    return tuple(name for name, value in secrets.items() if value)


def _beside(request: Request, error: LeewardError, form: Form) -> tuple[Trouble, int]:
    trouble, status = trouble_of(request, error)
    beside = field_of(error, form)
    return Trouble(trouble.message, trouble.hint, {beside: Quote(error.message)} if beside else {}), status
