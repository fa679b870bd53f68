"""The database: opened, migrated, and asked in the language of the domain."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update
from sqlalchemy.orm import Session

from leeward.domain.errors import Refused
from leeward.domain.texts import clip
from leeward.state.clock import now, seconds_of
from leeward.state.drills import Drills
from leeward.state.engine import open_engine, reading
from leeward.state.evidence import Evidence
from leeward.state.lives import Lives
from leeward.state.plans import Plans
from leeward.state.runs import Runs
from leeward.state.seat import fence
from leeward.state.tables import Counter, Event, ProtectedVm, VmLife
from leeward.wire.messages import DesiredState, PolicyMessage, ProtectionMessage

# On whose behalf this thread or task works: a user, a token, "local" (the machine's root) or Leeward itself.
acting: ContextVar[str] = ContextVar("acting", default="leeward")

_GENERATION = "generation"
# Plain rows: objects of the ORM cost several times as much.
_ROWS = select(*(getattr(ProtectedVm, name).label(name) for name in ProtectedVm.__mapper__.columns.keys())).order_by(  # noqa: SIM118
    ProtectedVm.name, ProtectedVm.vm_id
)
_ROW = _ROWS.where(ProtectedVm.vm_id == bindparam("vm"))
# Asked at almost every question and change: see `leeward.state.runs`.
_COUNT = select(Counter.value).where(Counter.name == _GENERATION)
_COUNT_ON = update(Counter).where(Counter.name == _GENERATION).values(value=Counter.value + 1)


class FolderLock:
    """One daemon a state folder: two would both believe to be the VMs' writer. Freed by the kernel when we die."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        # QEMU's user finds sockets and scratch files below it; what is ours alone is private by the daemon's umask.
        folder.chmod(folder.stat().st_mode | 0o011)
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise Refused(
                "another Leeward daemon uses this state folder", subject=str(folder), hint="Stop it first"
            ) from None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class Database:
    """url: SQLAlchemy's, of SQLite or PostgreSQL. Migrates on opening. Thread-safe.

    seat: the number under which this console has the seat (see `leeward.state.seat`); nothing is kept that it writes
    once the seat has another one, and `lost` is called, which must not return.
    """

    def __init__(self, url: str, seat: int | None = None, lost: Callable[[], None] = lambda: None) -> None:
        self._engine = open_engine(url)
        if seat is not None:
            fence(self._engine, seat, lost)
        self._reading = reading(self._engine)
        self.drills = Drills(self._engine)
        self.evidence = Evidence(self._engine)
        self.lives = Lives(self._engine)
        self.runs = Runs(self._engine)
        self.plans = Plans(self._engine)
        self._known: DesiredState | None = None
        self._by_id: tuple[DesiredState, dict[str, ProtectionMessage]] | None = None
        self._messages: dict[str, tuple[Row[Any], ProtectionMessage]] = {}

    def close(self) -> None:
        self._engine.dispose()

    def session(self) -> Session:
        """For the modules beside this one that keep tables of their own."""
        return Session(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Reads that all see one instant."""
        with Session(self._reading) as session:
            yield session

    def looking(self) -> Connection:
        """As `reading`, for plain rows: takes a third of the time."""
        return self._reading.connect()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: kept as a whole when the block ends, dropped when it raises.

        On SQLite one at a time. On PostgreSQL others may write meanwhile: what is read to decide something has to be
        locked (`with_for_update`).
        """
        with Session(self._engine) as session, session.begin():
            yield session

    # --- protection ---------------------------------------------------------------------------------

    def desired(self) -> DesiredState:
        """Read anew only when it has changed: with thousands of VMs that takes longer than most questions may."""
        with self._reading.connect() as connection:
            known = self._known
            if known is None or known.generation != _generation(connection):
                self._known = known = self._desired(connection)
            return known

    def _desired(self, asked: Session | Connection) -> DesiredState:
        """Of a VM that has not changed the message is the same object as before: with ten thousand VMs making them
        anew, and comparing them, would take a second for each change of one."""
        found: dict[str, tuple[Row[Any], ProtectionMessage]] = {}
        for row in asked.execute(_ROWS):
            had = self._messages.get(row.vm_id)
            found[row.vm_id] = had if had is not None and had[0] == row else (row, _message(row))
        self._messages = found
        return DesiredState(
            generation=_generation(asked), protections=tuple(message for _, message in found.values())
        )

    def wishes(self) -> Mapping[str, ProtectionMessage]:
        """The same by VM id; not to be changed."""
        desired, known = self.desired(), self._by_id
        if known is None or known[0] is not desired:
            self._by_id = known = (desired, {wish.vm_id: wish for wish in desired.protections})
        return known[1]

    def wish(self, vm_id: str) -> ProtectionMessage | None:
        """What is wished for one VM; None: it is not protected."""
        with self._reading.connect() as connection:
            row = connection.execute(_ROW, {"vm": vm_id}).one_or_none()
        return _message(row) if row else None

    def protected_since(self) -> dict[str, float]:
        """VM id → when it was protected, UTC seconds."""
        with self.reading() as session:
            rows = session.execute(select(ProtectedVm.vm_id, ProtectedVm.created)).all()
            return {vm_id: seconds_of(created) for vm_id, created in rows}

    def protect(self, wish: ProtectionMessage) -> DesiredState:
        """Add one VM, or change its name, policy and pause; returns the new desired state.

        Where a VM that is known is replicated changes only by `move`: an operator who changes a policy during a
        failover must not put it back to where he read it from.
        """
        values: dict[str, Any] = {"name": wish.vm_name, "paused": wish.paused, **wish.policy.model_dump()}
        with self.writing() as session:
            _count(session)
            row = session.get(ProtectedVm, wish.vm_id)
            if row is None:
                values |= {"host": wish.host, "claim": wish.claim}
                session.add(ProtectedVm(vm_id=wish.vm_id, created=now(), **values))
            else:
                for name, value in values.items():
                    setattr(row, name, value)
            session.flush()
            known, generation = self._known, _generation(session)
            found = None
            # Only where nobody else has changed anything since.
            if row is not None and known is not None and known.generation == generation - 1:
                found = _with(known, _message(row), generation)
            found = found or self._desired(session)
        self._known = found
        return found

    def move(self, vm_id: str, host: str, claim: int) -> bool:
        """Replicate a protected VM from this host, following epoch `claim`. False: it is not protected."""
        with self.writing() as session:
            _count(session)
            row = session.get(ProtectedVm, vm_id)
            if row is None:
                return False
            row.host, row.claim = host, claim
            return True

    def follow(self, vm_id: str, host: str, claim: int) -> bool:
        """Replicate a protected VM from where it is replicated, following a newer epoch. False: nothing was changed,
        since it is replicated from another host meanwhile, or follows a newer one."""
        with self.writing() as session:
            row = session.get(ProtectedVm, vm_id)
            if row is None or row.host != host or row.claim >= claim:
                return False
            _count(session)
            row.claim = claim
            return True

    def rename(self, vm_id: str, name: str) -> None:
        """Change the name alone, here and where the VM's life is written down, whatever else is being changed at this
        moment."""
        with self.writing() as session:
            _count(session)
            row = session.get(ProtectedVm, vm_id)
            if row is not None:
                row.name = name
            life = session.get(VmLife, vm_id)
            if life is not None:
                life.vm_name = name

    def unprotect(self, vm_id: str) -> DesiredState:
        with self.writing() as session:
            known = select(ProtectedVm.vm_id).where(ProtectedVm.vm_id == vm_id)
            if session.scalar(known) is not None:
                _count(session)
                session.execute(delete(ProtectedVm).where(ProtectedVm.vm_id == vm_id))
            found = self._desired(session)
        self._known = found
        return found

    def count(self) -> None:
        """Something that agents must know has changed: the desired state gets a new generation."""
        with self.writing() as session:
            _count(session)

    def catch_up(self, generation: int) -> bool:
        """An agent has heard of this generation: ours must not be older. True when it was."""
        older = update(Counter).where(Counter.name == _GENERATION, Counter.value < generation)
        with self.writing() as session:
            return bool(session.execute(older.values(value=generation)).rowcount)  # type: ignore[attr-defined]

    # --- history ------------------------------------------------------------------------------------

    def record(self, what: str, subject: str, detail: str = "", who: str | None = None) -> None:
        """who: by default the one on whose behalf this is done."""
        values = {"what": clip(what, 64), "subject": clip(subject), "detail": clip(detail, 4000)}
        with self.writing() as session:
            session.add(Event(time=now(), who=clip(who or acting.get()), **values))

    def events(self, limit: int = 100) -> list[dict[str, str]]:
        """Newest first."""
        with self.reading() as session:
            rows = session.scalars(select(Event).order_by(Event.id.desc()).limit(limit)).all()
            return [
                {"time": r.time, "what": r.what, "subject": r.subject, "who": r.who, "detail": r.detail} for r in rows
            ]


def _with(known: DesiredState, wish: ProtectionMessage, generation: int) -> DesiredState | None:
    """The state after this one VM's policy has changed; None where more than that has. Pure."""
    before = next((had for had in known.protections if had.vm_id == wish.vm_id), None)
    if before is None or before.vm_name != wish.vm_name:  # it has another place in the order
        return None
    protections = tuple(wish if had.vm_id == wish.vm_id else had for had in known.protections)
    return DesiredState.model_construct(generation=generation, protections=protections)


def _generation(asked: Session | Connection) -> int:
    return asked.scalar(_COUNT) or 0


def _count(session: Session) -> None:
    """The next generation. Comes first in its transaction: by the row's lock, consoles change the state in turn."""
    session.connection().execute(_COUNT_ON)


def _message(row: ProtectedVm | Row[Any]) -> ProtectionMessage:
    policy = PolicyMessage.model_validate({name: getattr(row, name) for name in PolicyMessage.model_fields})
    return ProtectionMessage(
        vm_id=row.vm_id, vm_name=row.name, host=row.host, policy=policy, paused=row.paused, claim=row.claim
    )
