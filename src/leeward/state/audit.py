"""The audit log: rows are added, and told how they ended; nothing else ever changes one."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import select, update

from leeward.domain.texts import clip
from leeward.state.clock import stamp
from leeward.state.database import Database
from leeward.state.tables import AuditEntry

BEGUN = "begun"


class AuditLog:
    """clock: UTC seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        *,
        who: str,
        address: str,
        what: str,
        subject: str = "",
        outcome: str = BEGUN,
        status: int = 0,
        detail: str = "",
    ) -> int:
        """The new row's number."""
        row = AuditEntry(
            time=stamp(self._clock()),
            who=clip(who),
            address=clip(address, 64),
            what=clip(what, 64),
            subject=clip(subject),
            outcome=outcome,
            status=status,
            detail=clip(detail, 1000),
        )
        with self._database.writing() as session:
            session.add(row)
            session.flush()
            return row.id

    def end(self, number: int, *, outcome: str, status: int, subject: str, detail: str) -> None:
        """Only a row that is still open; the first end stays."""
        values = {"outcome": outcome, "status": status, "subject": clip(subject), "detail": clip(detail, 1000)}
        with self._database.writing() as session:
            still_open = (AuditEntry.id == number) & (AuditEntry.outcome == BEGUN)
            session.execute(update(AuditEntry).where(still_open).values(values))

    def entries(self, limit: int, before: int | None = None) -> list[dict[str, str | int]]:
        """Newest first; before: only those with a smaller number."""
        newest = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
        with self._database.reading() as session:
            rows = session.scalars(newest if before is None else newest.where(AuditEntry.id < before)).all()
            return [
                {
                    "id": row.id,
                    "time": row.time,
                    "who": row.who,
                    "address": row.address,
                    "what": row.what,
                    "subject": row.subject,
                    "outcome": row.outcome,
                    "status": row.status,
                    "detail": row.detail,
                }
                for row in rows
            ]
