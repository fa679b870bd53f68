"""Endpoints for signing in, users, tokens and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from leeward.console.access import about, actor_of, admin, everybody, signed_in, viewer
from leeward.console.actor import Via
from leeward.console.gate import COOKIE
from leeward.console.reception import Reception
from leeward.domain.access import Role
from leeward.domain.errors import NotFound
from leeward.state.audit import AuditLog
from leeward.state.credentials import TokenRecord
from leeward.state.tables import TOO_LARGE_ID

_TEN_YEARS_S = 10 * 365 * 86_400


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


Text = Annotated[str, Field(min_length=1, max_length=256)]


class LoginRequest(_Request):
    """kind: a browser gets a cookie, the command line a bearer secret."""

    user: Text
    password: Text
    kind: Literal["browser", "cli"] = "browser"


class SetupRequest(_Request):
    code: Text
    user: Text
    password: Text


class UserRequest(_Request):
    name: Text
    password: Text
    role: Role = Role.VIEWER


class RoleRequest(_Request):
    role: Role


class PasswordRequest(_Request):
    """current: one's present password, to change one's own."""

    password: Text
    current: Text | None = None


class TokenRequest(_Request):
    """expires_s: how long it holds; None for ever."""

    name: Text
    role: Role = Role.VIEWER
    expires_s: float | None = Field(default=90 * 86_400, gt=0, le=_TEN_YEARS_S)


class UserView(BaseModel):
    name: str
    role: Role
    created: str


class TokenView(BaseModel):
    """expires: None for never; last_used: to the minute, None for never."""

    id: str
    name: str
    role: Role
    owner: str | None
    created: str
    expires: str | None
    last_used: str | None


class NewTokenView(TokenView):
    """token: the secret. It is told this once."""

    token: str


class SessionView(BaseModel):
    """csrf: what a browser sends as X-CSRF-Token with every change."""

    who: str
    user: str | None
    role: Role
    via: Via
    expires: str | None
    csrf: str | None


class LoginView(BaseModel):
    """token: only for the command line; csrf: only for browsers."""

    user: str
    role: Role
    expires: str
    token: str | None
    csrf: str | None


class AuditView(BaseModel):
    id: int
    time: str
    who: str
    address: str
    what: str
    subject: str
    outcome: Literal["begun", "done", "refused", "failed"]
    status: int
    detail: str


def add_users_api(app: FastAPI, reception: Reception, audit: AuditLog, authority: tuple[str, str] | None) -> None:
    """authority: (certificate as PEM, fingerprint) of the console's own CA; None when it uses a given certificate."""
    _add_sessions(app, reception, authority)
    _add_users(app, reception)
    _add_tokens(app, reception)

    @app.get("/api/v1/audit", dependencies=admin)
    def audit_log(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
        before: Annotated[int | None, Query(ge=1, lt=TOO_LARGE_ID)] = None,
    ) -> list[AuditView]:
        return [AuditView.model_validate(entry) for entry in audit.entries(limit, before)]


def _add_sessions(app: FastAPI, reception: Reception, authority: tuple[str, str] | None) -> None:
    @app.get("/api/v1/ca", dependencies=everybody)
    def ca() -> dict[str, str]:
        if authority is None:
            raise NotFound("this console has no certificate authority of its own")
        return {"certificate": authority[0], "fingerprint": authority[1]}

    @app.post("/api/v1/login", dependencies=everybody)
    def login(wanted: LoginRequest, request: Request, response: Response) -> LoginView:
        about(request, reception.tried(wanted.user))
        done = reception.sign_in(wanted.user, wanted.password, Via(wanted.kind), actor_of(request))
        signed_in(request, done.user)
        browser = wanted.kind == "browser"
        if browser:
            set_login_cookie(response, done.secret, int(done.life_s))
        return LoginView(
            user=done.user,
            role=done.role,
            expires=done.expires,
            token=None if browser else done.secret,
            csrf=done.csrf or None,
        )

    @app.get("/api/v1/session", dependencies=viewer)
    def session(request: Request) -> SessionView:
        who = actor_of(request)
        return SessionView.model_validate(
            {
                "who": who.who,
                "user": who.user,
                "role": who.role,
                "via": who.via,
                "expires": who.expires,
                "csrf": who.csrf or None,
            }
        )

    @app.delete("/api/v1/session", dependencies=viewer)
    def logout(request: Request, response: Response) -> dict[str, str]:
        reception.sign_out(actor_of(request))
        set_login_cookie(response, "", 0)
        return {"who": actor_of(request).who, "state": "signed out"}

    @app.post("/api/v1/setup-code", dependencies=admin)
    def offer_setup() -> dict[str, str]:
        code, expires = reception.offer_setup()
        return {"code": code, "expires": expires}

    @app.post("/api/v1/setup", dependencies=everybody, status_code=201)
    def set_up(wanted: SetupRequest, request: Request) -> UserView:
        made = reception.set_up(wanted.code, wanted.user, wanted.password, actor_of(request))
        about(request, made.name)
        signed_in(request, made.name)
        return UserView(name=made.name, role=made.role, created=made.created)


def set_login_cookie(response: Response, secret: str, life_s: int) -> None:
    response.set_cookie(COOKIE, secret, max_age=life_s, path="/", secure=True, httponly=True, samesite="strict")


def _add_users(app: FastAPI, reception: Reception) -> None:
    @app.get("/api/v1/users", dependencies=admin)
    def users() -> list[UserView]:
        return [UserView(name=user.name, role=user.role, created=user.created) for user in reception.users()]

    @app.post("/api/v1/users", dependencies=admin, status_code=201)
    def add_user(wanted: UserRequest, request: Request) -> UserView:
        about(request, wanted.name, f"role {wanted.role}")
        made = reception.add_user(wanted.name, wanted.password, wanted.role)
        return UserView(name=made.name, role=made.role, created=made.created)

    @app.delete("/api/v1/users/{name}", dependencies=admin)
    def remove_user(name: str) -> dict[str, str]:
        reception.remove_user(name)
        return {"name": name.lower(), "state": "removed"}

    @app.put("/api/v1/users/{name}/role", dependencies=admin)
    def set_role(name: str, wanted: RoleRequest, request: Request) -> UserView:
        about(request, name, f"role {wanted.role}")
        user = reception.set_role(name, wanted.role)
        return UserView(name=user.name, role=user.role, created=user.created)

    # Everybody his own; another's is refused inside to all but admins.
    @app.put("/api/v1/users/{name}/password", dependencies=viewer)
    def set_password(name: str, wanted: PasswordRequest, request: Request) -> dict[str, str]:
        reception.set_password(name, wanted.password, wanted.current, actor_of(request))
        return {"name": name.lower(), "state": "changed"}


def _add_tokens(app: FastAPI, reception: Reception) -> None:
    @app.get("/api/v1/tokens", dependencies=viewer)
    def tokens(request: Request) -> list[TokenView]:
        return [_token_view(token) for token in reception.tokens(actor_of(request))]

    @app.post("/api/v1/tokens", dependencies=viewer, status_code=201)
    def add_token(wanted: TokenRequest, request: Request) -> NewTokenView:
        about(request, wanted.name, f"role {wanted.role}")
        secret, token = reception.add_token(wanted.name, wanted.role, wanted.expires_s, actor_of(request))
        return NewTokenView(token=secret, **_token_view(token).model_dump())

    @app.delete("/api/v1/tokens/{ref}", dependencies=viewer)
    def remove_token(ref: str, request: Request) -> TokenView:
        token = reception.remove_token(ref, actor_of(request))
        about(request, ref, f"token {token.name} of {token.owner or 'local'}")
        return _token_view(token)


def _token_view(token: TokenRecord) -> TokenView:
    values: dict[str, Any] = {name: getattr(token, name) for name in TokenView.model_fields}
    return TokenView(**values)
