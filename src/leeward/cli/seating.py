"""A console's place among those on one database: who it is, what it must have alike, whether it may work now."""

from __future__ import annotations

import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from leeward import __version__
from leeward.agent.keys import key_path, load_keys
from leeward.cli.config import Settings
from leeward.console.agents_server import split_listen as split_agents_listen
from leeward.console.authority import Authority
from leeward.console.listeners import split_listen
from leeward.console.seat import Attendant, depose
from leeward.domain.errors import LeewardError, NotFound, Refused, Unavailable
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.seat import Member, SeatBook
from leeward.vault.crypto import VaultKeys
from leeward.wire.tokens import split_address

_DATABASE_AGAIN_S = 2.0
_T = TypeVar("_T")


class Seating:
    """The one console of a SQLite database: it always may work. The folder's lock sees to that."""

    book: SeatBook | None = None
    executor = "console"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = settings.daemon.state
        self.me = whoami(settings)

    def join(self) -> Authority:
        """Be one of the consoles of this database. Raises Refused where that cannot be."""
        return Authority.open(self._state / "authority")

    def holds(self) -> bool:
        return True

    def may_act(self) -> None:
        """Does not return when this console is no longer the one that works."""

    def opened(self, keys: VaultKeys) -> None:
        """The vault could be opened with these."""

    def active(self) -> tuple[str, str]:
        """(name, address for people) of the console that works."""
        return self.me.name, self.me.address

    def agents_addresses(self) -> tuple[str, ...]:
        """What agents are told about where consoles are: nothing, since they have found the only one."""
        return ()

    @property
    def engine_url(self) -> str:
        return f"sqlite:///{self._state / 'workflows.db'}"

    def open_database(self) -> Database:
        return Database(self._settings.database)

    def take(self) -> bool:
        """The seat, if it is free at this moment."""
        return True

    def attend(self, taken: Callable[[], None]) -> None:
        """From now on see to the seat; `taken` is called, in a thread of its own, when it was not taken before."""

    def stop(self) -> None:
        """Let another console have the seat. After everything that needs it has ended."""


class SharedSeating(Seating):
    """One of several consoles, or the only one for now, on a PostgreSQL database."""

    book: SeatBook

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.executor = self.me.name
        self._stopped = threading.Event()
        self.book = _patiently(lambda: SeatBook(settings.database))
        self._attendant = Attendant(self.book, self.me, self._trouble)

    def join(self) -> Authority:
        _patiently(self._attendant.join)
        try:
            return self._fit()
        except BaseException:
            with suppress(LeewardError):
                self.book.withdraw(self.me)
            raise

    def _fit(self) -> Authority:
        """What all consoles have alike. Raises Refused when this one has it not."""
        authority = _patiently(self._same_authority)
        if trouble := _patiently(self._trouble):
            raise Refused(
                trouble,
                subject=str(key_path(self._state)),
                hint="Run `leeward vault unlock` here, or copy this file from the other console",
            )
        return authority

    def holds(self) -> bool:
        return self._attendant.seat.holds()

    def may_act(self) -> None:
        if not self.holds():
            self._lost("its seat has run out")

    def _lost(self, why: str) -> None:
        """Does not return. A walk that comes to its end after the seat was given up waits for the process's."""
        if self._stopped.is_set():
            threading.Event().wait()
        depose(why)

    def active(self) -> tuple[str, str]:
        return self._attendant.active()

    def agents_addresses(self) -> tuple[str, ...]:
        return self._attendant.agents()

    @property
    def engine_url(self) -> str:
        return self._settings.database

    def open_database(self) -> Database:
        return Database(
            self._settings.database,
            self._attendant.seat.number,
            lambda: self._lost("another console has taken its place, told by the database"),
        )

    def take(self) -> bool:
        return _patiently(self._attendant.seat.take)

    def attend(self, taken: Callable[[], None]) -> None:
        self._attendant.start(taken)

    def stop(self) -> None:
        self._stopped.set()
        self._attendant.stop()
        self.book.close()

    # --- what all consoles have alike -----------------------------------------------------------------

    def _same_authority(self) -> Authority:
        """Agents and people believe one authority: two consoles with different ones would each lose them to the
        other."""
        folder = self._state / "authority"
        known = self.book.common("authority")
        made = (folder / "authority.pem").exists()
        if known is None or made or not self._others():
            authority = Authority.open(folder)
            if self.book.agree("authority", authority.fingerprint, self.me) == authority.fingerprint:
                return authority
        what = "the consoles of this database have another authority" if made else "this console has no authority yet"
        raise Refused(
            what,
            subject=str(folder),
            hint=f"Copy authority.pem into this folder from the same one of {self._others()}; a console that is gone "
            "for good is forgotten with `leeward console forget NAME` (--database, where none works)",
        )

    def _others(self) -> str:
        return ", ".join(known.member.name for known in self.book.all() if known.member.name != self.me.name)

    def opened(self, keys: VaultKeys) -> None:
        try:
            self.book.agree("vault", str(keys.vault_id), self.me)
        except LeewardError as error:
            log.warning("which vault this is could not be noted for the other consoles", error=str(error))

    def _trouble(self) -> str:
        """Why this console could not work with the vault that the others work with, "" when it could."""
        known = self.book.common("vault")
        if known is None or not self._others():
            return ""
        try:
            keys = load_keys(self._state)
        except NotFound:
            return "this console does not hold the vault's key, which the others have"
        except LeewardError as error:
            return error.message
        return "" if str(keys.vault_id) == known else "this console holds the key of another vault than the others"


def is_shared(settings: Settings) -> bool:
    """Whether other consoles may use the same database."""
    return settings.database.startswith("postgresql")


def whoami(settings: Settings) -> Member:
    """This process as one of the consoles. Raises BadInput for addresses that are none."""
    wanted = settings.console
    address, agents = wanted.address, wanted.agents_address if wanted.agents_listen else ""
    if not address and wanted.listen:
        address = f"https://{platform.node()}:{split_listen(wanted.listen)[1]}"
    if not agents and wanted.agents_listen:
        agents = f"https://{platform.node()}:{split_agents_listen(wanted.agents_listen)[1]}"
    for given in (address, agents):
        if given:
            split_address(given)
    return Member(
        settings.console_name,
        secrets.token_hex(8),
        address,
        agents,
        alone=bool(settings.hosts),
        software=__version__,
    )


def _patiently(ask: Callable[[], _T]) -> _T:
    """A database server may come up after us. The agent works meanwhile, by the wishes that it holds itself."""
    told = ""
    while True:
        try:
            return ask()
        except Unavailable as error:
            if error.message != told:
                log.warning("waiting for the database", error=str(error))
            told = error.message
            time.sleep(_DATABASE_AGAIN_S)
