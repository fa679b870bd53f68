"""The progress of integrations in the database."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from leeward.domain.errors import Unavailable
from leeward.state.clock import now
from leeward.state.database import Database
from leeward.state.tables import IntegrationRow

_TRIES = 50


class Integrations:
    """Thread-safe, and safe beside other consoles on the same database: a change that met another is made anew."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def document(self, service: str) -> str:
        """As last kept; "" when nothing was."""
        with self._database.reading() as session:
            row = session.get(IntegrationRow, service)
            return row.document if row else ""

    def change(self, service: str, change: Callable[[str], str]) -> str:
        """change: from the kept document to the next one; called once more when somebody else was faster. Durable
        when it returns what is kept now. Raises what `change` raises, and keeps nothing then."""
        for _ in range(_TRIES):
            with self._database.reading() as session:
                row = session.execute(
                    select(IntegrationRow.document, IntegrationRow.version).where(IntegrationRow.service == service)
                ).first()
            document, version = (row.document, row.version) if row else ("", 0)
            following = change(document)
            if following == document or self._put(service, following, version):
                return following
        raise Unavailable("others change this all the time", subject=service, hint="Try again")

    def _put(self, service: str, document: str, version: int) -> bool:
        values = {"document": document, "changed": now(), "version": version + 1}
        with self._database.session() as session:
            if version:
                kept = (IntegrationRow.service == service) & (IntegrationRow.version == version)
                done = session.execute(update(IntegrationRow).where(kept).values(**values))
                session.commit()
                return bool(done.rowcount)  # type: ignore[attr-defined]
            try:
                session.execute(insert(IntegrationRow).values(service=service, **values))
                session.commit()
                return True
            except IntegrityError:
                return False
