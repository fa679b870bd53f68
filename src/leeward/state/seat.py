"""The seat of the console: of several consoles on one PostgreSQL the one that holds it works, the others stand by.

A lease in one row. Only the database's clock says when it is over, so that no two consoles' clocks are ever compared;
a holder works out by its own clock until when it may believe that it still has the seat (see `leeward.console.seat`).
The number grows with each change of holder, and `fence` lets the database itself refuse what a former holder writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, event, func, insert, select, text, update

from leeward.domain.errors import NotFound, Refused
from leeward.state.engine import READ_ONLY, is_postgresql, open_plainly
from leeward.state.tables import Common, ConsoleRow, SeatRow

# A console that was killed is not waited for longer than this by one of the same name.
NAMESAKE_S = 8.0
# Until then a console may only be slow, and is not forgotten.
FORGET_S = 60.0
_SEAT = "console"
# Renewals come every few seconds: one that hangs must give way to the next.
_OPTIONS = "-c lock_timeout=3000 -c statement_timeout=4000 -c idle_in_transaction_session_timeout=4000"
_NOW = func.date_part("epoch", func.clock_timestamp())


@dataclass(frozen=True, slots=True)
class Member:
    """A console as it tells of itself; see `leeward.state.tables.ConsoleRow`."""

    name: str
    instance: str
    address: str = ""
    agents: str = ""
    alone: bool = False
    software: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A console as the others see it. silent_s: since it was last heard of."""

    member: Member
    active: bool
    silent_s: float


class SeatBook:
    """The tables of the seat on a database that has them. Works without the rest of the console's memory, since a
    standby must neither write there nor migrate it under a console that works. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._engine = open_plainly(url, _OPTIONS)

    def close(self) -> None:
        self._engine.dispose()

    # --- the consoles -------------------------------------------------------------------------------

    def join(self, me: Member) -> float | None:
        """Enter this console. Returns None when that is done; else another process has the name and was heard of just
        now: when (by the database's clock), so that one can see whether it lives.

        Raises Refused where one of several consoles has hosts of its own.
        """
        with self._engine.begin() as connection:
            connection.execute(select(SeatRow.number).where(SeatRow.name == _SEAT).with_for_update())  # one at a time
            rows = connection.execute(select(ConsoleRow.__table__, _NOW.label("now"))).all()
            for row in rows:
                if row.name != me.name and (row.alone or me.alone):
                    raise _not_alone(me, row.name, its=row.alone)
            namesake = next((row for row in rows if row.name == me.name), None)
            foreign = namesake is not None and namesake.instance not in ("", me.instance)
            if namesake is not None and foreign and namesake.now - namesake.heard < NAMESAKE_S:
                return float(namesake.heard)
            values = _values(me)
            if namesake is None:
                connection.execute(insert(ConsoleRow).values(name=me.name, heard=_NOW, **values))
            else:
                connection.execute(update(ConsoleRow).where(ConsoleRow.name == me.name).values(heard=_NOW, **values))
        return None

    def beat(self, me: Member) -> bool:
        """Tell the others that this console lives. False: it was forgotten, or another process has its name now."""
        with self._engine.begin() as connection:
            mine = (ConsoleRow.name == me.name) & (ConsoleRow.instance == me.instance)
            done = connection.execute(update(ConsoleRow).where(mine).values(heard=_NOW, **_values(me)))
            return done.rowcount == 1

    def leave(self, me: Member) -> None:
        """This console was stopped in good order; who has its name need not wait."""
        with self._engine.begin() as connection:
            mine = (ConsoleRow.name == me.name) & (ConsoleRow.instance == me.instance)
            connection.execute(update(ConsoleRow).where(mine).values(instance=""))

    def withdraw(self, me: Member) -> None:
        """This console was entered and cannot work: the others need not know of it."""
        with self._engine.begin() as connection:
            mine = (ConsoleRow.name == me.name) & (ConsoleRow.instance == me.instance)
            connection.execute(delete(ConsoleRow).where(mine))

    def all(self) -> list[Known]:
        """By name."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(ConsoleRow.__table__, _NOW.label("now")).order_by(ConsoleRow.name)).all()
            seat = connection.execute(select(SeatRow.__table__).where(SeatRow.name == _SEAT)).one()
        return [
            Known(
                Member(row.name, row.instance, row.address, row.agents, row.alone, row.software, row.trouble),
                active=row.name == seat.holder and seat.instance == row.instance != "" and row.now < seat.expires,
                silent_s=max(row.now - row.heard, 0.0),
            )
            for row in rows
        ]

    def forget(self, name: str) -> None:
        """A console that is gone for good. Raises NotFound, and Refused for one that lives."""
        with self._engine.begin() as connection:
            row = connection.execute(
                select(ConsoleRow.__table__, _NOW.label("now")).where(ConsoleRow.name == name)
            ).first()
            if row is None:
                raise NotFound("there is no such console", subject=name)
            if row.instance and row.now - row.heard < FORGET_S:
                raise Refused(
                    "it was heard of within the last minute", subject=name, hint="Stop it first, then wait a minute"
                )
            connection.execute(delete(ConsoleRow).where(ConsoleRow.name == name))

    # --- the seat -----------------------------------------------------------------------------------

    def take(self, me: Member, lasts_s: float) -> int | None:
        """The seat's new number, when nobody has it. None: somebody has."""
        with self._engine.begin() as connection:
            # The lock waits for what the last holder is just writing down; the fence keeps it from writing more.
            seat = connection.execute(
                select(SeatRow.number, SeatRow.expires, _NOW.label("now"))
                .where(SeatRow.name == _SEAT, SeatRow.expires <= _NOW)
                .with_for_update()
            ).first()
            if seat is None:
                return None
            number = int(seat.number) + 1
            connection.execute(
                update(SeatRow)
                .where(SeatRow.name == _SEAT)
                .values(holder=me.name, instance=me.instance, number=number, expires=_NOW + lasts_s)
            )
            return number

    def renew(self, number: int, lasts_s: float) -> bool:
        """False: somebody else has taken the seat. One that ran out and that nobody took goes on."""
        return self._set(number, _NOW + lasts_s)

    def give_up(self, number: int) -> None:
        """Another console may take the seat at once."""
        self._set(number, 0.0)

    def _set(self, number: int, expires: object) -> bool:
        with self._engine.begin() as connection:
            mine = (SeatRow.name == _SEAT) & (SeatRow.number == number)
            return connection.execute(update(SeatRow).where(mine).values(expires=expires)).rowcount == 1

    # --- what all must have alike ---------------------------------------------------------------------

    def common(self, name: str) -> str | None:
        with self._engine.connect() as connection:
            return connection.scalar(select(Common.value).where(Common.name == name))

    def agree(self, name: str, value: str, me: Member) -> str:
        """What all consoles have from now on: this value, when there is none yet or no other console, else the one
        that was there before."""
        with self._engine.begin() as connection:
            connection.execute(select(SeatRow.number).where(SeatRow.name == _SEAT).with_for_update())  # one at a time
            known = connection.scalar(select(Common.value).where(Common.name == name))
            others = connection.scalar(select(func.count()).where(ConsoleRow.name != me.name))
            if known is None:
                connection.execute(insert(Common).values(name=name, value=value))
            elif known != value and others:
                return str(known)
            elif known != value:
                connection.execute(update(Common).where(Common.name == name).values(value=value))
        return value


def fence(engine: Engine, number: int, lost: Callable[[], None]) -> None:
    """From now on nothing is kept that this engine's transactions write unless the seat still has this number;
    `lost`, which must not return, is called instead.

    The row is read under a lock that lasts until the transaction has ended and that `SeatBook.take` waits for, so
    that there is no moment between looking and writing. Renewals do not wait for it.
    """
    if not is_postgresql(engine.url):
        return
    look = text("SELECT number FROM seat WHERE name = :name FOR KEY SHARE").bindparams(name=_SEAT)

    @event.listens_for(engine, "commit")
    def check(connection: Connection) -> None:
        if connection.get_execution_options().get(READ_ONLY):
            return
        if connection.scalar(look) != number:
            connection.connection.rollback()
            lost()
            raise Refused("another console works now", hint="See `leeward console list`")


def _values(me: Member) -> dict[str, object]:
    return {
        "instance": me.instance,
        "address": me.address,
        "agents": me.agents,
        "alone": me.alone,
        "software": me.software[:64],
        "trouble": me.trouble[:255],
    }


def _not_alone(me: Member, other: str, *, its: bool) -> Refused:
    whose = f"console {other}" if its else "this console"
    return Refused(
        f"{whose} has hosts of its own ([[host]] in leeward.toml), which no other console could reach in its place",
        subject=me.name,
        hint="Take them out there and enrol their agents (`leeward agents token`); or, if it is gone for good, "
        f"`leeward console forget {other}` (--database, where no console works)",
    )
