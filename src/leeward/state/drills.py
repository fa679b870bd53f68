"""Schedules of drills, and what became of the last drill of each VM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from leeward.domain.drills import Mode, Schedule
from leeward.state.engine import reading
from leeward.state.tables import DrillRow


@dataclass(frozen=True, slots=True)
class KeptDrill:
    """run_id, tried: of its last drill, "" and None before there was one. outcome: how that ended, "" while it has
    not. cleaned: when its copy's removal was last asked for. Times: UTC seconds."""

    schedule: Schedule
    run_id: str
    tried: float | None
    outcome: str
    cleaned: float | None


class Drills:
    """Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[KeptDrill]:
        with Session(reading(self._engine)) as session:
            return [_kept(row) for row in session.scalars(select(DrillRow).order_by(DrillRow.vm_id))]

    def put(self, schedule: Schedule) -> None:
        """A VM that has one keeps when it was made; also of one that is off, what became of its last drill."""
        values = {"every_s": schedule.every_s, "mode": schedule.mode.value, "keep_s": schedule.keep_s}
        values |= {"begins": schedule.begins, "ends": schedule.ends}
        with Session(self._engine) as session, session.begin():
            row = session.get(DrillRow, schedule.vm_id)
            if row is None:
                session.add(DrillRow(vm_id=schedule.vm_id, since=schedule.since, run_id="", outcome="", **values))
                return
            if row.mode == Mode.OFF.value:
                row.since = schedule.since
            for name, value in values.items():
                setattr(row, name, value)

    def end(self, vm_id: str) -> None:
        """From now on it is off."""
        self.note(vm_id, mode=Mode.OFF.value)

    def forget(self, vm_id: str) -> None:
        """Nothing when it has been put again meanwhile."""
        off = (DrillRow.vm_id == vm_id, DrillRow.mode == Mode.OFF.value)
        with Session(self._engine) as session, session.begin():
            session.execute(delete(DrillRow).where(*off))

    def note(self, vm_id: str, **changes: Any) -> None:
        """run_id, tried, outcome, cleaned; nothing when there is no schedule any more."""
        with Session(self._engine) as session, session.begin():
            session.execute(update(DrillRow).where(DrillRow.vm_id == vm_id).values(**changes))


def _kept(row: DrillRow) -> KeptDrill:
    schedule = Schedule(row.vm_id, row.every_s, Mode(row.mode), row.begins, row.ends, row.keep_s, row.since)
    return KeptDrill(schedule, row.run_id, row.tried, row.outcome, row.cleaned)
