"""The reception: signing in and out, the first user, other users, tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from leeward.console.actor import Actor, Via
from leeward.console.keys import (
    LOGIN,
    TOKEN,
    csrf_token,
    digest,
    new_id,
    new_secret,
    new_setup_code,
    setup_code_digest,
)
from leeward.console.limiter import Limiter, Rule, network
from leeward.console.passwords import Passwords
from leeward.domain.access import Role, new_password, password_bytes, token_name, tried_name, user_name
from leeward.domain.errors import BadInput, Forbidden, NotFound, NotSignedIn, Refused, TooManyAttempts
from leeward.state.accounts import Account, Accounts
from leeward.state.clock import stamp
from leeward.state.credentials import Credentials, TokenRecord

_HOUR, _DAY = 3600.0, 86_400.0
# How long a login may rest, and how long it may live at most.
IDLE_S = {Via.BROWSER.value: 12 * _HOUR, Via.CLI.value: 7 * _DAY}
_LIFE_S = {Via.BROWSER: 7 * _DAY, Via.CLI: 30 * _DAY}
_SETUP_S = _HOUR
# By user and address: a person who mistypes. By address: one machine that tries many users. By user: many machines
# that try one; wide, since it is also what lets them keep the user out (never on the console's own machine).
_TRIES = (Rule(5, 30.0), Rule(20, 10.0), Rule(100, 10.0))


@dataclass(frozen=True, slots=True)
class SignedIn:
    """secret: the cookie's or the bearer's. csrf: "" but for browsers."""

    user: str
    role: Role
    secret: str
    csrf: str
    expires: str
    life_s: float


class Reception:
    """clock: UTC seconds."""

    def __init__(
        self,
        accounts: Accounts,
        credentials: Credentials,
        passwords: Passwords,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._credentials = credentials
        self._passwords = passwords
        self._clock = clock
        self._tries = Limiter(_TRIES)

    # --- signing in ---------------------------------------------------------------------------------

    def sign_in(self, user: str, password: str, via: Via, asking: Actor) -> SignedIn:
        """Raises NotSignedIn, the same and after the same time whether the user or the password is wrong."""
        name = user.strip().lower()[:64]
        keys = self._try(name, asking)
        known = self._accounts.password(name)
        if not self._passwords.match(password_bytes(password), known):
            raise NotSignedIn("user name or password is wrong", subject=name)
        self._tries.give_back(*keys)
        secret = new_secret(LOGIN)
        expires = self._clock() + _LIFE_S[via]
        self._credentials.add_login(digest(secret), name, via, asking.address, expires)
        login = self._credentials.find_login(digest(secret))
        if login is None:  # removed in this very moment
            raise NotSignedIn("user name or password is wrong", subject=name)
        csrf = csrf_token(secret) if via is Via.BROWSER else ""
        return SignedIn(name, login.role, secret, csrf, login.expires, _LIFE_S[via])

    def tried(self, user: str) -> str:
        """The name with which somebody tries to sign in, for notes."""
        name = user.strip().lower()[:64]
        return name if self._accounts.password(name) is not None else tried_name(user)

    def sign_out(self, asking: Actor) -> None:
        if asking.via not in (Via.BROWSER, Via.CLI):
            raise Refused("this is no login", hint="Tokens end with `leeward token revoke`")
        self._credentials.remove_login(asking.digest)

    def _try(self, name: str, asking: Actor) -> tuple[str, str, str]:
        place = network(asking.address)
        keys = (f"{name} {place}", place, name)
        if asking.via is not Via.LOCAL:
            wait = self._tries.take(*keys)
            if wait:
                raise TooManyAttempts("too many attempts to sign in", wait_s=wait, hint=f"Try again in {wait} s")
        return keys

    # --- the first user -----------------------------------------------------------------------------

    def offer_setup(self) -> tuple[str, str]:
        """(code, until when it holds)."""
        code = new_setup_code()
        expires = self._clock() + _SETUP_S
        self._accounts.offer_setup(setup_code_digest(code), expires)
        return code, stamp(expires)

    def set_up(self, code: str, user: str, password: str, asking: Actor) -> Account:
        self._try("", asking)
        name = user_name(user)
        hashed = self._passwords.hash(new_password(password, name))
        return self._accounts.set_up(setup_code_digest(code), name, hashed)

    # --- users --------------------------------------------------------------------------------------

    def users(self) -> list[Account]:
        return self._accounts.all()

    def users_exist(self) -> bool:
        return self._accounts.exist()

    def add_user(self, user: str, password: str, role: Role) -> Account:
        name = user_name(user)
        return self._accounts.add(name, self._passwords.hash(new_password(password, name)), role)

    def remove_user(self, user: str) -> None:
        self._accounts.remove(user.lower())

    def set_role(self, user: str, role: Role) -> Account:
        return self._accounts.set_role(user.lower(), role)

    def set_password(self, user: str, password: str, current: str | None, asking: Actor) -> None:
        """One's own with the present one; another's as admin. Other logins of the user end."""
        name = user.lower()
        if asking.user == name:
            self._check_current(name, current, asking)
        elif asking.role is not Role.ADMIN:
            raise Forbidden("only an admin changes another's password", subject=name)
        hashed = self._passwords.hash(new_password(password, name))
        self._accounts.set_password(name, hashed, keep=asking.digest)

    def _check_current(self, name: str, current: str | None, asking: Actor) -> None:
        """An unlocked screen or a stolen token is not enough to take the account over."""
        if asking.via is Via.TOKEN:
            raise Forbidden("a token cannot change its owner's password", subject=name, hint="Sign in")
        if current is None:
            raise BadInput("current: the present password is needed to change one's own", subject="current")
        keys = self._try(name, asking)
        if not self._passwords.match(password_bytes(current), self._accounts.password(name)):
            raise Forbidden("the present password is wrong", subject=name)
        self._tries.give_back(*keys)

    # --- tokens -------------------------------------------------------------------------------------

    def tokens(self, asking: Actor) -> list[TokenRecord]:
        """One's own; all for an admin."""
        every = self._credentials.tokens()
        return every if asking.role is Role.ADMIN else [token for token in every if token.owner == asking.user]

    def add_token(self, name: str, role: Role, life_s: float | None, asking: Actor) -> tuple[str, TokenRecord]:
        """(secret, record). life_s: None for no end."""
        if asking.via is Via.TOKEN:
            raise Forbidden("a token cannot make tokens", hint="Else it would outlive its own end. Sign in")
        token_name(name)
        if asking.role is None or not asking.role.covers(role):
            raise Forbidden(f"{asking.who} is {asking.role} and cannot give the role {role}")
        if any(token.name == name for token in self._credentials.tokens() if token.owner == asking.user):
            raise Refused("there is such a token already", subject=name, hint="Revoke it, or take another name")
        secret = new_secret(TOKEN)
        expires = self._clock() + life_s if life_s is not None else None
        record = self._credentials.add_token(new_id(), digest(secret), name, role, asking.user, expires)
        return secret, record

    def remove_token(self, ref: str, asking: Actor) -> TokenRecord:
        """By id or name, among those that `asking` sees."""
        seen = self.tokens(asking)
        found = [token for token in seen if token.id == ref] or [token for token in seen if token.name == ref]
        if len(found) > 1:
            ids = ", ".join(token.id for token in found)
            raise BadInput(f"{len(found)} tokens have this name: {ids}", subject=ref, hint="Use the id")
        if not found:
            raise NotFound("there is no such token", subject=ref)
        self._credentials.remove_token(found[0].id)
        return found[0]
