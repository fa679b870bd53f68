"""The database: opened, migrated, and asked in the language of the domain."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from leeward.domain.errors import LeewardError, Refused
from leeward.state.clock import now
from leeward.state.lives import Lives
from leeward.state.runs import Runs
from leeward.state.tables import Counter, Event, ProtectedVm
from leeward.wire.messages import DesiredState, PolicyMessage, ProtectionMessage

_GENERATION = "generation"
# Alembic keeps what it works on in its module: one at a time in a process.
_migrating = threading.Lock()


class FolderLock:
    """One daemon a state folder: two would both believe to be the VMs' writer. Freed by the kernel when we die."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
    """url: SQLAlchemy's. Migrates on opening. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        if url.startswith("sqlite"):
            event.listen(self._engine, "connect", _tune_sqlite)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with _migrating, self._engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except SQLAlchemyError as error:
            raise LeewardError(
                f"the database cannot be opened: {error.__cause__ or error}",
                subject=url,
                hint="See whether its folder is writable and its disk has room",
            ) from error

        self.lives = Lives(self._engine)
        self.runs = Runs(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    # --- protection ---------------------------------------------------------------------------------

    def desired(self) -> DesiredState:
        with Session(self._engine) as session:
            # The number first: under an old number new wishes do no harm, old wishes under a new one would stay.
            counter = session.get(Counter, _GENERATION)
            rows = session.scalars(select(ProtectedVm).order_by(ProtectedVm.name, ProtectedVm.vm_id)).all()
            return DesiredState(
                generation=counter.value if counter else 0, protections=tuple(_message(row) for row in rows)
            )

    def protect(self, wish: ProtectionMessage) -> DesiredState:
        """Add one VM, or change its name, policy and pause; returns the new desired state.

        Where a VM that is known is replicated changes only by `move`: an operator who changes a policy during a
        failover must not put it back to where he read it from.
        """
        with Session(self._engine) as session:
            row = session.get(ProtectedVm, wish.vm_id)
            values: dict[str, Any] = {
                "name": wish.vm_name,
                "paused": wish.paused,
                **wish.policy.model_dump(),
            }
            if row is None:
                values |= {"host": wish.host, "claim": wish.claim}
                session.add(ProtectedVm(vm_id=wish.vm_id, created=now(), **values))
            else:
                for name, value in values.items():
                    setattr(row, name, value)
            _count(session)
            session.commit()
        return self.desired()

    def move(self, vm_id: str, host: str, claim: int) -> bool:
        """Replicate a protected VM from this host, following epoch `claim`. False: it is not protected."""
        with Session(self._engine) as session:
            row = session.get(ProtectedVm, vm_id)
            if row is None:
                return False
            row.host, row.claim = host, claim
            _count(session)
            session.commit()
            return True

    def unprotect(self, vm_id: str) -> DesiredState:
        with Session(self._engine) as session:
            row = session.get(ProtectedVm, vm_id)
            if row is not None:
                session.delete(row)
                _count(session)
                session.commit()
        return self.desired()

    def count(self) -> None:
        """Something that agents must know has changed: the desired state gets a new generation."""
        with Session(self._engine) as session:
            _count(session)
            session.commit()

    def catch_up(self, generation: int) -> bool:
        """An agent has heard of this generation: ours must not be older. True when it was."""
        with Session(self._engine) as session:
            counter = session.get(Counter, _GENERATION)
            if generation <= (counter.value if counter else 0):
                return False
            if counter is None:
                session.add(Counter(name=_GENERATION, value=generation))
            else:
                counter.value = generation
            session.commit()
            return True

    # --- history ------------------------------------------------------------------------------------

    def record(self, what: str, subject: str, detail: str = "", who: str = "operator") -> None:
        with Session(self._engine) as session:
            session.add(Event(time=now(), what=what, subject=subject, who=who, detail=detail))
            session.commit()

    def events(self, limit: int = 100) -> list[dict[str, str]]:
        """Newest first."""
        with Session(self._engine) as session:
            rows = session.scalars(select(Event).order_by(Event.id.desc()).limit(limit)).all()
            return [
                {"time": r.time, "what": r.what, "subject": r.subject, "who": r.who, "detail": r.detail} for r in rows
            ]


def _tune_sqlite(connection: Any, _: Any) -> None:
    """WAL lets readers and the one writer work together; full sync so that what was told survives a power cut."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _count(session: Session) -> None:
    """Counted by the database: two that change something at once must not end up with the same number."""
    counting = update(Counter).where(Counter.name == _GENERATION).values(value=Counter.value + 1)
    if not session.execute(counting).rowcount:  # type: ignore[attr-defined]
        session.add(Counter(name=_GENERATION, value=1))


def _message(row: ProtectedVm) -> ProtectionMessage:
    policy = PolicyMessage.model_validate({name: getattr(row, name) for name in PolicyMessage.model_fields})
    return ProtectionMessage(
        vm_id=row.vm_id, vm_name=row.name, host=row.host, policy=policy, paused=row.paused, claim=row.claim
    )
