"""Where VMs stand between their sites, in the database."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine, Row, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leeward.domain.errors import Refused
from leeward.domain.lifecycle import Event, Phase, Refusal, after
from leeward.state.clock import now
from leeward.state.engine import reading
from leeward.state.tables import VmLife


@dataclass(frozen=True, slots=True)
class Life:
    """See `leeward.state.tables.VmLife`."""

    vm_id: str
    vm_name: str
    phase: Phase
    home: str
    away: str = ""
    definition: str = ""
    run_id: str = ""
    changed: str = ""
    version: int = 0


# Plain rows: objects of the ORM cost several times as much.
_ROWS = select(*(getattr(VmLife, name) for name in VmLife.__mapper__.columns.keys()))  # noqa: SIM118
_ROW = _ROWS.where(VmLife.vm_id == bindparam("vm"))


class Lives:
    """A VM without a row is at home; `home` must then be given."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def get(self, vm_id: str) -> Life | None:
        with self._reading.connect() as connection:
            row = connection.execute(_ROW, {"vm": vm_id}).one_or_none()
        return _life(row) if row else None

    def all(self) -> dict[str, Life]:
        with self._reading.connect() as connection:
            return {row.vm_id: _life(row) for row in connection.execute(_ROWS)}

    def phases(self, vm_ids: Collection[str]) -> dict[str, Phase]:
        """Of these VMs; of one that never moved there is none."""
        query = select(VmLife.vm_id, VmLife.phase).where(VmLife.vm_id.in_(vm_ids))
        with self._reading.connect() as connection:
            return {vm_id: Phase(phase) for vm_id, phase in connection.execute(query)}

    def put(self, life: Life) -> None:
        """Write down what is known from elsewhere (the vault), whatever stood here."""
        try:
            self._put(life)
        except IntegrityError:  # another console has just written the first row of this VM
            self._put(life)

    def _put(self, life: Life) -> None:
        with Session(self._engine) as session:
            row = session.get(VmLife, life.vm_id)
            if row is None:
                session.add(VmLife(vm_id=life.vm_id, version=1, **_values(life)))
            else:
                for name, value in _values(life).items():
                    setattr(row, name, value)
                row.version += 1
            session.commit()

    def move(self, before: Life, event: Event, **changes: Any) -> Life:
        """On to the phase that follows. Raises Refused when there is none, or somebody else was quicker."""
        following = after(before.phase, event, before.vm_name)
        if isinstance(following, Refusal):
            raise Refused(following.reason, subject=before.vm_name, hint=following.hint)
        moved = replace(before, phase=following, **changes)
        with Session(self._engine) as session:
            if before.version == 0:
                session.add(VmLife(vm_id=before.vm_id, version=1, **_values(moved)))
                changed = True
            else:
                done = session.execute(
                    update(VmLife)
                    .where(VmLife.vm_id == before.vm_id, VmLife.version == before.version)
                    .values(version=before.version + 1, **_values(moved))
                )
                changed = bool(done.rowcount)  # type: ignore[attr-defined]
            try:
                session.commit()
            except IntegrityError:
                changed = False
        if not changed:
            raise Refused("somebody else is moving it at this moment", subject=before.vm_name, hint="Look again")
        return replace(moved, version=before.version + 1)

    def forget(self, vm_id: str) -> None:
        with Session(self._engine) as session:
            session.execute(delete(VmLife).where(VmLife.vm_id == vm_id))
            session.commit()


def _values(life: Life) -> dict[str, Any]:
    return {
        "vm_name": life.vm_name,
        "phase": life.phase.value,
        "home": life.home,
        "away": life.away,
        "definition": life.definition,
        "run_id": life.run_id,
        "changed": now(),
    }


def _life(row: Row[Any]) -> Life:
    return Life(
        row.vm_id,
        row.vm_name,
        Phase(row.phase),
        row.home,
        row.away,
        row.definition,
        row.run_id,
        row.changed,
        row.version,
    )
