"""The database: opened, migrated, and asked in the language of the domain."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from leeward.domain.errors import LeewardError, Refused
from leeward.state.clock import now
from leeward.state.lives import Lives
from leeward.state.plans import Plans
from leeward.state.runs import Runs
from leeward.state.tables import Counter, Event, ProtectedVm
from leeward.wire.messages import DesiredState, PolicyMessage, ProtectionMessage

_GENERATION = "generation"


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
            with self._engine.begin() as connection:
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
        self.plans = Plans(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    # --- protection ---------------------------------------------------------------------------------

    def desired(self) -> DesiredState:
        with Session(self._engine) as session:
            rows = session.scalars(select(ProtectedVm).order_by(ProtectedVm.name, ProtectedVm.vm_id)).all()
            counter = session.get(Counter, _GENERATION)
            return DesiredState(
                generation=counter.value if counter else 0, protections=tuple(_message(row) for row in rows)
            )

    def protect(self, wish: ProtectionMessage) -> DesiredState:
        """Add or change one VM; returns the new desired state."""
        with Session(self._engine) as session:
            row = session.get(ProtectedVm, wish.vm_id)
            values: dict[str, Any] = {
                "name": wish.vm_name,
                "host": wish.host,
                "paused": wish.paused,
                "claim": wish.claim,
                **wish.policy.model_dump(),
            }
            if row is None:
                session.add(ProtectedVm(vm_id=wish.vm_id, created=now(), **values))
            else:
                for name, value in values.items():
                    setattr(row, name, value)
            _count(session)
            session.commit()
        return self.desired()

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
    counter = session.get(Counter, _GENERATION)
    if counter is None:
        session.add(Counter(name=_GENERATION, value=1))
    else:
        counter.value += 1


def _message(row: ProtectedVm) -> ProtectionMessage:
    policy = PolicyMessage.model_validate({name: getattr(row, name) for name in PolicyMessage.model_fields})
    return ProtectionMessage(
        vm_id=row.vm_id, vm_name=row.name, host=row.host, policy=policy, paused=row.paused, claim=row.claim
    )
