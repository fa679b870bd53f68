"""The gate: tells who is asking, and whether he may."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from leeward.console.actor import Actor, Via, local, nobody
from leeward.console.keys import LOGIN, TOKEN, csrf_token, digest, same, unmasked
from leeward.domain.access import Role
from leeward.domain.errors import Forbidden, NotSignedIn
from leeward.state.credentials import Credentials

# The prefix binds the cookie to this very host, to TLS and to all paths: no neighbour can set or widen it.
COOKIE = "__Host-leeward"
CSRF_HEADER = "X-CSRF-Token"
# Set by the listener on the unix socket, and by nothing else.
LOCAL_SCOPE = "leeward.local"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# What a proxy adds. Behind the socket it would make root out of everybody.
_PROXIED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def changes(request: HTTPConnection) -> bool:
    return request.scope.get("method") not in _SAFE


def address_of(request: HTTPConnection) -> str:
    if request.scope.get(LOCAL_SCOPE):
        return "local"
    return request.client.host if request.client else ""


def is_local(request: HTTPConnection) -> bool:
    return bool(request.scope.get(LOCAL_SCOPE)) and not any(name in request.headers for name in _PROXIED)


class Gate:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def passer(self, request: HTTPConnection) -> Actor:
        """Who comes through a door that is open to all: no secret is looked at."""
        return local() if is_local(request) else nobody(address_of(request))

    def actor(self, request: HTTPConnection) -> Actor:
        """Raises NotSignedIn for credentials that do not hold; without any it is nobody, or local."""
        address = address_of(request)
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, secret = header.partition(" ")
            found = self._bearer(secret.strip(), address) if scheme.lower() == "bearer" else None
        elif COOKIE in request.cookies:
            found = self._cookie(request.cookies[COOKIE], address)
        else:
            return self.passer(request)
        if found is None:
            raise NotSignedIn(
                "this token or login is wrong or over", hint="Sign in again (`leeward login`), or get a new token"
            )
        return found

    def _bearer(self, secret: str, address: str) -> Actor | None:
        if secret.startswith(LOGIN):
            return self._login(secret, Via.CLI, address)
        if not secret.startswith(TOKEN):
            return None
        token = self._credentials.find_token(digest(secret))
        if token is None:
            return None
        who = f"{token.owner}, token {token.name}" if token.owner else f"token {token.name}"
        return Actor(who, Via.TOKEN, token.role, address, token.owner, digest(secret), expires=token.expires)

    def _cookie(self, secret: str, address: str) -> Actor | None:
        return self._login(secret, Via.BROWSER, address)

    def _login(self, secret: str, via: Via, address: str) -> Actor | None:
        """A login made for a browser is no token, and the other way round."""
        login = self._credentials.find_login(digest(secret))
        if login is None or login.kind != via:
            return None
        csrf = csrf_token(secret) if via is Via.BROWSER else ""
        return Actor(login.user, via, login.role, address, login.user, digest(secret), csrf, login.expires)


def _from_our_page(request: HTTPConnection, actor: Actor) -> bool:
    """As the API tells the token, or as pages do."""
    given = request.headers.get(CSRF_HEADER, "")
    return same(given, actor.csrf) or same(unmasked(given), actor.csrf)


def admit(actor: Actor, needed: Role, request: HTTPConnection) -> None:
    """Raises NotSignedIn or Forbidden."""
    if actor.role is None:
        raise NotSignedIn("sign in first", hint="`leeward login URL`, or send a token")
    if not actor.role.covers(needed):
        raise Forbidden(
            f"this needs the role {needed}, and {actor.who} is {actor.role}", hint="An admin can change the role"
        )
    # The cookie comes along with whatever a page makes the browser send; a header only when the page is ours.
    if actor.via is Via.BROWSER and changes(request) and not _from_our_page(request, actor):
        raise Forbidden(f"the {CSRF_HEADER} header is missing or wrong", hint="Load the page again")
