"""Tokens and logins. Both are secrets that the client holds; here lie only their digests.

A digest is SHA-256 of 256 random bits: nobody can guess his way back, so it needs no salt and no slow hash, and can
be looked up directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from leeward.domain.access import Role, lesser
from leeward.domain.errors import NotFound
from leeward.domain.texts import clip
from leeward.state.clock import stamp
from leeward.state.database import Database
from leeward.state.tables import Login, Token, User

# "Last used" is told to the minute: a row written for every request would cost more than most requests.
_TOUCH_S = 60.0
# Of one user; the oldest go. Nobody needs more, and what signs in without end must not fill the disk.
_MOST_LOGINS = 50


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """role: what it may do now, which is never more than its owner may. expires, last_used: None for never."""

    id: str
    name: str
    role: Role
    owner: str | None
    created: str
    expires: str | None
    last_used: str | None


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """kind: browser or cli."""

    user: str
    role: Role
    kind: str
    expires: str


class Credentials:
    """clock: UTC seconds. idle_s: for how long each kind of login may rest unused."""

    def __init__(self, database: Database, idle_s: dict[str, float], clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._idle_s = idle_s
        self._clock = clock

    # --- tokens -------------------------------------------------------------------------------------

    def add_token(
        self, token_id: str, digest: str, name: str, role: Role, owner: str | None, expires: float | None
    ) -> TokenRecord:
        created = stamp(self._clock())
        ends = stamp(expires) if expires is not None else None
        with self._database.writing() as session:
            # Locked, so that an owner who is being removed cannot leave a token behind.
            if owner is not None and session.get(User, owner, with_for_update=True) is None:
                raise NotFound("there is no such user", subject=owner)
            row = Token(id=token_id, digest=digest, name=clip(name, 64), role=role, owner=owner, created=created)
            row.expires = ends
            session.add(row)
        return TokenRecord(token_id, clip(name, 64), role, owner, created, ends, None)

    def tokens(self) -> list[TokenRecord]:
        """All, also those that are over."""
        with self._database.reading() as session:
            rows = session.execute(_with_owner().order_by(Token.created, Token.id)).all()
            return [_token(token, owner) for token, owner in rows]

    def remove_token(self, token_id: str) -> None:
        with self._database.writing() as session:
            session.execute(delete(Token).where(Token.id == token_id))

    def find_token(self, digest: str) -> TokenRecord | None:
        """The token with this digest, if it holds."""
        now = self._clock()
        with self._database.reading() as session:
            found = session.execute(_with_owner().where(Token.digest == digest)).first()
        if found is None:
            return None
        token, owner = found
        if (token.expires is not None and token.expires <= stamp(now)) or (token.owner and owner is None):
            return None
        if token.last_used is None or token.last_used < stamp(now - _TOUCH_S):
            with self._database.writing() as session:
                session.execute(update(Token).where(Token.digest == digest).values(last_used=stamp(now)))
        return _token(token, owner)

    # --- logins -------------------------------------------------------------------------------------

    def add_login(self, digest: str, user: str, kind: str, address: str, expires: float) -> None:
        now = self._clock()
        with self._database.writing() as session:
            if session.get(User, user, with_for_update=True) is None:
                raise NotFound("there is no such user", subject=user)
            self._sweep(session, user, now)
            session.add(
                Login(
                    digest=digest,
                    user=user,
                    kind=kind,
                    address=clip(address, 64),
                    created=stamp(now),
                    last_used=stamp(now),
                    expires=stamp(expires),
                )
            )

    def _sweep(self, session: Session, user: str, now: float) -> None:
        session.execute(delete(Login).where(Login.expires <= stamp(now)))
        kept = (
            select(Login.digest).where(Login.user == user).order_by(Login.last_used.desc()).offset(_MOST_LOGINS - 1)
        )
        session.execute(delete(Login).where(Login.digest.in_(session.scalars(kept).all())))

    def find_login(self, digest: str) -> LoginRecord | None:
        """The login with this digest, if it holds."""
        now = self._clock()
        with self._database.reading() as session:
            with_role = select(Login, User.role).join(User, User.name == Login.user)
            found = session.execute(with_role.where(Login.digest == digest)).first()
        if found is None:
            return None
        login, role = found
        if login.expires <= stamp(now) or login.last_used <= stamp(now - self._idle_s[login.kind]):
            return None
        if login.last_used < stamp(now - _TOUCH_S):
            with self._database.writing() as session:
                session.execute(update(Login).where(Login.digest == digest).values(last_used=stamp(now)))
        return LoginRecord(login.user, Role(role), login.kind, login.expires)

    def remove_login(self, digest: str) -> None:
        with self._database.writing() as session:
            session.execute(delete(Login).where(Login.digest == digest))


def _with_owner() -> Select[Token, str]:
    return select(Token, User.role).outerjoin(User, User.name == Token.owner)


def _token(row: Token, owner: str | None) -> TokenRecord:
    role = Role(row.role)
    return TokenRecord(
        id=row.id,
        name=row.name,
        role=lesser(role, Role(owner)) if owner else role,
        owner=row.owner,
        created=row.created,
        expires=row.expires,
        last_used=row.last_used,
    )
