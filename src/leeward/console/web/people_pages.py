"""Users, the audit log, and one's own settings: language, colours, password, tokens."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, actor_of, admin, viewer
from leeward.console.actor import Via
from leeward.console.web.audit_rows import entry
from leeward.console.web.forms import Form, Posted, required, span_field
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.access import Role
from leeward.domain.errors import LeewardError

_PAGE = 100


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_audit(pages, parts)
    _add_users(pages, parts)
    _add_settings(pages, parts)
    return pages


def _add_audit(pages: APIRouter, parts: Parts) -> None:
    @pages.get("/audit", dependencies=admin)
    def audit_log(request: Request, before: int | None = None) -> Response:
        before = before if before is not None and 0 < before < 1 << 31 else None
        entries = [entry(row) for row in parts.identity.audit.entries(_PAGE + 1, before)]
        return parts.painter.page(
            request, "audit.html", entries=entries[:_PAGE], more=len(entries) > _PAGE, before=before
        )


def _add_users(pages: APIRouter, parts: Parts) -> None:
    paint, reception = parts.painter.page, parts.identity.reception

    def users_page(
        request: Request, status: int = 200, trouble: Trouble | None = None, values: Form | None = None
    ) -> Response:
        known = reception.users()
        return paint(request, "users.html", status, trouble=trouble, users=known, values=values or Form([]))

    def asked(request: Request, form: Form, ask: Callable[[], object]) -> Response:
        try:
            ask()
        except LeewardError as error:
            trouble, status = trouble_of(request, error, **{form["name"]: "name"})
            return users_page(request, status, trouble, form)
        return go(request, "/users")

    @pages.get("/users", dependencies=admin)
    def users(request: Request) -> Response:
        return users_page(request)

    @pages.post("/users", dependencies=admin)
    def add_user(request: Request, form: Posted) -> Response:
        about(request, form["name"][:64], f"role {form['role'][:16]}")
        bad = required(form, "name", "password")
        if form["role"] not in set(Role):
            bad["role"] = phrase(N_("Choose a role."))
        if bad:
            return users_page(request, 422, wrong(bad), form)
        return asked(request, form, lambda: reception.add_user(form["name"], form["password"], Role(form["role"])))

    @pages.post("/users/{name}/role", dependencies=admin)
    def set_role(request: Request, name: str, form: Posted) -> Response:
        about(request, name, f"role {form['role'][:16]}")
        if form["role"] not in set(Role):
            return users_page(request, 422, wrong({"role": phrase(N_("Choose a role."))}))
        return asked(request, Form([]), lambda: reception.set_role(name, Role(form["role"])))

    @pages.post("/users/{name}/remove", dependencies=admin)
    def remove_user(request: Request, name: str) -> Response:
        return asked(request, Form([]), lambda: reception.remove_user(name))


def _add_settings(pages: APIRouter, parts: Parts) -> None:
    paint, reception = parts.painter.page, parts.identity.reception

    def settings_page(
        request: Request,
        status: int = 200,
        trouble: Trouble | None = None,
        values: Form | None = None,
        token: str = "",
        form: str = "",
    ) -> Response:
        """form: which of the page's forms the trouble is of."""
        actor = actor_of(request)
        return paint(
            request,
            "settings.html",
            status,
            trouble=trouble,
            of=form,
            tokens=reception.tokens(actor),
            own=actor.via is Via.BROWSER,
            values=values or Form([]),
            token=token,
            authority=parts.identity.authority,
        )

    @pages.get("/settings", dependencies=viewer)
    def settings(request: Request) -> Response:
        return settings_page(request)

    @pages.post("/settings/password", dependencies=viewer)
    def set_password(request: Request, form: Posted) -> Response:
        actor = actor_of(request)
        about(request, actor.user or "")
        bad = required(form, "current", "password")
        if form["password"] != form["again"]:
            bad["again"] = phrase(N_("Both must be the same."))
        if bad:
            return settings_page(request, 422, wrong(bad), form="password")
        try:
            reception.set_password(actor.user or "", form["password"], form["current"], actor)
        except LeewardError as error:
            field = "current" if error.code == "forbidden" else "password"
            trouble, status = trouble_of(request, error, **{error.subject: field})
            return settings_page(request, status, trouble, form="password")
        return go(request, "/settings")

    @pages.post("/settings/tokens", dependencies=viewer)
    def add_token(request: Request, form: Posted) -> Response:
        """The token is told on this one page, and nowhere again."""
        bad: dict[str, Phrase] = required(form, "name")
        if form["role"] not in set(Role):
            bad["role"] = phrase(N_("Choose a role."))
        life = span_field(form, "life", bad)
        about(request, form["name"][:64], f"role {form['role'][:16]}")
        if bad:
            return settings_page(request, 422, wrong(bad), form, form="token")
        try:
            secret, _ = reception.add_token(form["name"], Role(form["role"]), life, actor_of(request))
        except LeewardError as error:
            trouble, status = trouble_of(request, error, **{form["name"]: "name"})
            return settings_page(request, status, trouble, form, form="token")
        return settings_page(request, token=secret)

    @pages.post("/settings/tokens/{ref}/remove", dependencies=viewer)
    def remove_token(request: Request, ref: str) -> Response:
        try:
            token = reception.remove_token(ref, actor_of(request))
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return settings_page(request, status, trouble, form="token")
        about(request, ref, f"token {token.name}")
        return go(request, "/settings")
