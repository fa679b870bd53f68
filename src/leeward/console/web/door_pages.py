"""Signing in and out, and the first steps of a console that has no users or no vault yet."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, actor_of, admin, browsing, everybody, signed_in, viewer
from leeward.console.actor import Via
from leeward.console.users_api import set_login_cookie
from leeward.console.web.forms import Form, Posted, required
from leeward.console.web.language import LANGUAGES
from leeward.console.web.painter import (
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    THEMES,
    go,
    must_be_ours,
    safe_target,
    trouble_of,
    wrong,
)
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.vault_door import LEAST, VaultState, suggested_passphrase
from leeward.domain.errors import LeewardError, WrongKey

_YEAR_S = 365 * 86_400


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_signing(pages, parts)
    _add_first_admin(pages, parts)
    _add_first_vault(pages, parts)
    return pages


def _add_signing(pages: APIRouter, parts: Parts) -> None:
    paint, reception = parts.painter.page, parts.identity.reception

    @pages.get("/sign-in", dependencies=everybody)
    def sign_in_page(request: Request, next: str = "/") -> Response:
        if not reception.users_exist():
            return go(request, "/first-steps")
        return paint(request, "sign_in.html", next=safe_target(next), user="")

    @pages.post("/sign-in", dependencies=everybody)
    def sign_in(request: Request, form: Posted) -> Response:
        must_be_ours(request)
        about(request, reception.tried(form["user"]))
        try:
            done = reception.sign_in(form["user"], form["password"], Via.BROWSER, actor_of(request))
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return paint(
                request, "sign_in.html", status, trouble=trouble, next=safe_target(form["next"]), user=form["user"]
            )
        signed_in(request, done.user)
        response = go(request, safe_target(form["next"]))
        set_login_cookie(response, done.secret, int(done.life_s))
        return response

    @pages.post("/sign-out", dependencies=viewer)
    def sign_out(request: Request) -> Response:
        reception.sign_out(actor_of(request))
        response = go(request, "/sign-in")
        set_login_cookie(response, "", 0)
        return response

    @pages.post("/preferences", dependencies=browsing)
    def preferences(request: Request, form: Posted) -> Response:
        """How pages look in this browser; kept in the browser."""
        must_be_ours(request)
        response = go(request, safe_target(form["next"]))
        for name, known, cookie in (
            ("language", LANGUAGES, LANGUAGE_COOKIE),
            ("theme", THEMES, THEME_COOKIE),
        ):
            if form[name] in known:
                response.set_cookie(
                    cookie, form[name], max_age=_YEAR_S, path="/", secure=True, httponly=True, samesite="strict"
                )
        return response


def _add_first_admin(pages: APIRouter, parts: Parts) -> None:
    paint, reception = parts.painter.page, parts.identity.reception

    @pages.get("/first-steps", dependencies=everybody)
    def first_steps(request: Request) -> Response:
        if reception.users_exist():
            return go(request, "/first-steps/vault")
        return paint(request, "first_admin.html", stage=1, values=Form([]))

    @pages.post("/first-steps", dependencies=everybody)
    def set_up(request: Request, form: Posted) -> Response:
        must_be_ours(request)
        bad = required(form, "code", "user", "password") or _twice(form, "password")
        if bad:
            return paint(request, "first_admin.html", 422, trouble=wrong(bad), stage=1, values=form)
        asking = actor_of(request)
        try:
            made = reception.set_up(form["code"], form["user"], form["password"], asking)
            about(request, made.name)
            signed_in(request, made.name)
            done = reception.sign_in(made.name, form["password"], Via.BROWSER, asking)
        except LeewardError as error:
            trouble, status = trouble_of(request, error, **{"not-signed-in": "code", form["user"]: "user"})
            return paint(request, "first_admin.html", status, trouble=trouble, stage=1, values=form)
        response = go(request, "/first-steps/vault")
        set_login_cookie(response, done.secret, int(done.life_s))
        return response


def _add_first_vault(pages: APIRouter, parts: Parts) -> None:
    paint, door = parts.painter.page, parts.door

    def vault_page(request: Request, status: int = 200, **values: object) -> Response:
        state = door.state()
        return paint(
            request,
            "first_vault.html",
            status,
            state=state.value,
            url=door.url,
            given=parts.places.given,
            choosable=parts.places.choosable(),
            suggestion=suggested_passphrase(),
            **values,  # type: ignore[arg-type]
        )

    @pages.get("/first-steps/vault", dependencies=admin)
    def first_vault(request: Request) -> Response:
        if parts.places.choosable() and parts.places.file.chosen() is None:
            return go(request, "/first-steps/place")
        return vault_page(request)

    @pages.post("/first-steps/vault", dependencies=admin)
    def create_vault(request: Request, form: Posted) -> Response:
        about(request, door.url)
        bad = required(form, "passphrase") or _twice(form, "passphrase")
        if len(form["passphrase"]) < LEAST and "passphrase" not in bad:
            bad["passphrase"] = phrase(N_("At least {least} characters."), least=LEAST)
        if bad:
            return vault_page(request, 422, trouble=wrong(bad))
        try:
            key, fingerprint = door.create(form["passphrase"])
        except LeewardError as error:
            trouble, status = trouble_of(request, error, passphrase="passphrase")
            return vault_page(request, status, trouble=trouble)
        parts.watch.forget_vault()
        return paint(request, "first_key.html", stage=3, key=key, fingerprint=fingerprint, values=Form([]))

    @pages.post("/first-steps/vault/unlock", dependencies=admin)
    def unlock_vault(request: Request, form: Posted) -> Response:
        about(request, door.url)
        bad = required(form, "secret")
        if bad:
            return vault_page(request, 422, trouble=wrong(bad))
        try:
            door.unlock(form["secret"])
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return vault_page(request, 422 if isinstance(error, WrongKey) else status, trouble=trouble)
        parts.watch.forget_vault()
        return go(request, "/")

    @pages.post("/first-steps/key", dependencies=admin)
    def confirm_key(request: Request, form: Posted) -> Response:
        """The key is not shown again: the page that has it stays, only the form's answer is replaced."""
        about(request, door.url)
        bad = required(form, "key")
        if not bad:
            try:
                door.prove(form["key"])
            except LeewardError:
                bad["key"] = phrase(N_("This key does not open the vault: compare it group by group."))
        if bad:
            return paint(
                request, "first_key.html", 422, trouble=wrong(bad), stage=3, key="", fingerprint="", values=form
            )
        parts.database.record("recovery key confirmed", door.url)
        return go(request, "/" if door.state() is VaultState.OPEN else "/first-steps/vault")


def _twice(form: Form, name: str) -> dict[str, Phrase]:
    return {} if form[name] == form["again"] else {"again": phrase(N_("Both must be the same."))}
