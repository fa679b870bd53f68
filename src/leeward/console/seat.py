"""Having the seat, and knowing it: of several consoles on one database one works, the others stand by.

The lease is the database's (`leeward.state.seat`). Here is the other half: the holder believes in it only until it
must have run out, counted by its own clock from before it asked, and a margin less. A holder that has come to that
point ends its process at once, since whatever it did from then on another console may be doing as well.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn, Protocol

from leeward.console.plan_scripts import none_running
from leeward.domain.errors import LeewardError, Refused
from leeward.logs import log
from leeward.state.seat import Known, Member

LASTS_S = 15.0
# Clocks do not run at quite the same pace, and what was begun just before the end needs a moment to be over.
MARGIN_S = 1.5
_RENEW_S = 3.0
_AGAIN_S = 1.0
_LOOK_S = 0.5
_WATCH_S = 0.1
_NAMESAKE_S = 1.0
_LAST_WORDS_S = 0.5
# EX_TEMPFAIL of sysexits.h: to be started again, and then to stand by.
DEPOSED = 75


def since_boot() -> float:
    """Seconds; goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Book(Protocol):
    """See `leeward.state.seat.SeatBook`. All raise Unavailable while the database does not answer."""

    def join(self, me: Member) -> float | None: ...
    def beat(self, me: Member) -> bool: ...
    def leave(self, me: Member) -> None: ...
    def all(self) -> list[Known]: ...
    def take(self, me: Member, lasts_s: float) -> int | None: ...
    def renew(self, number: int, lasts_s: float) -> bool: ...
    def give_up(self, number: int) -> None: ...


class Seat:
    """One console's hold on the seat. clock: seconds that never go back.

    A console that is alone (see `Member`) does not let go because time has passed: nobody may take its place, and its
    agent's replication must not end because a database is away. It loses the seat only when it is told so.
    """

    def __init__(self, book: Book, me: Member, clock: Callable[[], float] = since_boot) -> None:
        self._book = book
        self._me = me
        self._clock = clock
        self._number: int | None = None
        self._until = float("-inf")

    @property
    def number(self) -> int | None:
        """None: this console never had the seat."""
        return self._number

    def holds(self) -> bool:
        """Whether this console may act. Cheap, and asks nobody."""
        return self._number is not None and (self._me.alone or self._clock() < self._until)

    def take(self) -> bool:
        """Raises LeewardError when the database does not say."""
        asked = self._clock()
        number = self._book.take(self._me, LASTS_S)
        if number is None:
            return False
        self._number, self._until = number, asked + LASTS_S - MARGIN_S
        return True

    def renew(self) -> bool:
        """False: somebody else has it. Raises LeewardError when the database does not say."""
        assert self._number is not None
        asked = self._clock()
        if not self._book.renew(self._number, LASTS_S):
            self._until = float("-inf")
            return False
        self._until = asked + LASTS_S - MARGIN_S
        return True

    def give_up(self) -> None:
        if self._number is not None:
            self._until = float("-inf")
            self._book.give_up(self._number)


def depose(why: str) -> NoReturn:
    """End this process now, and the scripts that it runs; whatever starts it again starts a standby. The log's reader
    may hang: nobody waits for him."""
    told = threading.Thread(
        target=log.error, args=("this console stops at once",), kwargs={"reason": why}, daemon=True
    )
    told.start()
    with none_running():
        told.join(_LAST_WORDS_S)
        os._exit(DEPOSED)


class Attendant:
    """Sees to the seat in threads of its own: takes it when it is free, renews it, ends the process when it is lost.

    trouble: why this console could not work if it had the seat, "" for nothing; told to the others.
    """

    def __init__(
        self, book: Book, me: Member, trouble: Callable[[], str] = lambda: "", seat: Seat | None = None
    ) -> None:
        self.seat = seat or Seat(book, me)
        self._book = book
        self._me = me
        self._trouble = trouble
        self._over = threading.Event()
        self._told = ""
        self._known: list[Known] = []
        self._threads: list[threading.Thread] = []

    def join(self) -> None:
        """Be one of the consoles of this database. Waits for a killed one of the same name.

        Raises Refused when such a one lives, or where one with hosts of its own is to be one of several.
        """
        heard = first = self._book.join(self._me)
        while heard is not None:
            if heard != first:
                raise Refused(
                    "another console of this name works with this database",
                    subject=self._me.name,
                    hint="Give each its own name: `[console] name` in leeward.toml",
                )
            time.sleep(_NAMESAKE_S)
            heard = self._book.join(self._me)
        self._known = self._book.all()

    def active(self) -> tuple[str, str]:
        """(name, address for people) of the console that works, as last heard; ("", "") when none does."""
        for known in self._known:
            if known.active:
                return known.member.name, known.member.address
        return "", ""

    def agents(self) -> tuple[str, ...]:
        """Where agents may find a console that works, now or later; of all consoles, this one first."""
        others = (known.member.agents for known in self._known)
        return tuple(dict.fromkeys(address for address in (self._me.agents, *others) if address))

    def start(self, taken: Callable[[], None]) -> None:
        """taken: called in a thread of its own as soon as this console has the seat, unless it has it already."""
        for work in (lambda: self._attend(taken), self._watch):
            self._threads.append(threading.Thread(target=work, name="seat", daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Let another console have the seat at once. After everything that needs it has ended."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * LASTS_S)
        try:
            self.seat.give_up()
            self._book.leave(self._me)
        except LeewardError as error:
            log.warning("the seat could not be given up; it runs out by itself", error=str(error))

    def _attend(self, taken: Callable[[], None]) -> None:
        pause, beaten = 0.0, float("-inf")
        while not self._over.wait(pause):
            had = self.seat.number is not None
            try:
                if had and not self.seat.renew():
                    depose("another console has taken its place")
                if time.monotonic() - beaten >= _RENEW_S:
                    self._beat()
                    beaten = time.monotonic()
                if not had and self.seat.take():
                    threading.Thread(target=taken, name="take over", daemon=True).start()
                self._told, pause = "", _RENEW_S if had else _LOOK_S
            except LeewardError as error:
                if error.message != self._told:
                    log.warning("the seat cannot be seen to", error=str(error))
                self._told, pause = error.message, _AGAIN_S

    def _beat(self) -> None:
        self._known = self._book.all()
        if not self._book.beat(replace(self._me, trouble=self._trouble())):
            depose(f"it was forgotten, or another console has its name, {self._me.name}")

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_S):
            if self.seat.number is not None and not self.seat.holds():
                depose("it could not renew its seat in time: the database did not answer, or this process was frozen")
