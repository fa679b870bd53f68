"""Users, and how the first one comes about."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leeward.domain.access import Role
from leeward.domain.errors import NotFound, NotSignedIn, Refused
from leeward.state.clock import stamp
from leeward.state.database import Database
from leeward.state.tables import Login, SetupCode, Token, User


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    role: Role
    created: str


class Accounts:
    """clock: UTC seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def all(self) -> list[Account]:
        with self._database.reading() as session:
            rows = session.scalars(select(User).order_by(User.name)).all()
            return [Account(row.name, Role(row.role), row.created) for row in rows]

    def exist(self) -> bool:
        with self._database.reading() as session:
            return _count(session) > 0

    def password(self, name: str) -> str | None:
        """The hash in PHC notation; None when there is no such user."""
        with self._database.reading() as session:
            return session.scalar(select(User.password).where(User.name == name))

    def add(self, name: str, password: str, role: Role) -> Account:
        """password: its hash. Raises Refused for a name that is taken."""
        account = Account(name, role, stamp(self._clock()))
        with self._database.writing() as session:
            session.add(User(name=name, password=password, role=role, created=account.created))
            try:
                session.flush()
            except IntegrityError:
                raise Refused("there is such a user already", subject=name) from None
            session.execute(delete(SetupCode))  # set-up is over once there is anybody
        return account

    def remove(self, name: str) -> None:
        """With the tokens and logins, which are also refused from now on."""
        with self._database.writing() as session:
            _keep_an_admin(session, name)
            _locked(session, name)
            session.execute(delete(User).where(User.name == name))
            session.execute(delete(Token).where(Token.owner == name))
            session.execute(delete(Login).where(Login.user == name))

    def set_role(self, name: str, role: Role) -> Account:
        with self._database.writing() as session:
            if role is not Role.ADMIN:
                _keep_an_admin(session, name)
            row = _locked(session, name)
            row.role = role
            return Account(row.name, role, row.created)

    def set_password(self, name: str, password: str, keep: str | None = None) -> None:
        """Ends the user's logins, since somebody else may have known the old password; `keep`: digest of one not."""
        with self._database.writing() as session:
            _locked(session, name).password = password
            session.execute(delete(Login).where(Login.user == name, Login.digest != (keep or "")))

    # --- the first user -----------------------------------------------------------------------------

    def offer_setup(self, digest: str, expires: float) -> None:
        """Let who knows the code make the first user; earlier codes are over. Raises Refused once there are users."""
        with self._database.writing() as session:
            _refuse_when_set_up(session)
            session.execute(delete(SetupCode))
            session.add(SetupCode(digest=digest, expires=stamp(expires)))

    def set_up(self, digest: str, name: str, password: str) -> Account:
        """Make the first user, an admin, and use the code up. Raises NotSignedIn for a code that does not hold."""
        account = Account(name, Role.ADMIN, stamp(self._clock()))
        with self._database.writing() as session:
            _refuse_when_set_up(session)
            holds = (SetupCode.digest == digest) & (SetupCode.expires > stamp(self._clock()))
            # The deletion decides: of two who come with the same code at once, one finds nothing to delete.
            if session.execute(delete(SetupCode).where(holds).returning(SetupCode.digest)).first() is None:
                raise NotSignedIn(
                    "this set-up code is wrong or over", hint="Get a new one with `leeward user setup-code` there"
                )
            session.add(User(name=name, password=password, role=Role.ADMIN, created=account.created))
        return account


def _count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(User)) or 0


def _refuse_when_set_up(session: Session) -> None:
    if _count(session):
        raise Refused("there are users already", hint="Add others with `leeward user add` on the console's machine")


def _locked(session: Session, name: str) -> User:
    row = session.get(User, name, with_for_update=True)
    if row is None:
        raise NotFound("there is no such user", subject=name)
    return row


def _keep_an_admin(session: Session, name: str) -> None:
    """All admins are locked, always in the same order: two who remove each other come one after the other."""
    admins = session.scalars(select(User.name).where(User.role == Role.ADMIN).order_by(User.name).with_for_update())
    if set(admins) == {name}:
        raise Refused("this is the last admin", subject=name, hint="Make another user admin first")
