"""Schedules of drills, and what became of the last drill of each VM and plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from leeward.domain.drills import Mode, Schedule, plan_of, subject_of
from leeward.domain.errors import NotFound, Refused
from leeward.state.engine import reading
from leeward.state.tables import DrillRow, PlanRow


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
        self._reading = reading(engine)

    def all(self) -> list[KeptDrill]:
        with Session(self._reading) as session:
            return [_kept(row) for row in session.scalars(select(DrillRow).order_by(DrillRow.subject))]

    def schedule(self, subject: str) -> Schedule | None:
        with Session(self._reading) as session:
            row = session.get(DrillRow, subject)
            return _kept(row).schedule if row else None

    def put(self, schedule: Schedule) -> None:
        """Who has one keeps when it was made; also of one that is off, what became of its last drill. Raises NotFound
        for a plan that is gone: it could not take its schedule with it any more."""
        values = {"every_s": schedule.every_s, "mode": schedule.mode.value, "keep_s": schedule.keep_s}
        values |= {"begins": schedule.begins, "ends": schedule.ends}
        with Session(self._engine) as session, session.begin():
            plan = plan_of(schedule.subject)
            # Kept from going, and from another name, until this is written.
            if plan is not None and session.get(PlanRow, plan, with_for_update=True) is None:
                raise NotFound("there is no such plan", subject=plan)
            row = session.get(DrillRow, schedule.subject)
            if row is None:
                session.add(DrillRow(subject=schedule.subject, since=schedule.since, run_id="", outcome="", **values))
                return
            if row.mode == Mode.OFF.value:
                row.since = schedule.since
            for name, value in values.items():
                setattr(row, name, value)

    def end(self, subject: str) -> None:
        """From now on it is off."""
        self.note(subject, mode=Mode.OFF.value)

    def forget(self, subject: str) -> None:
        """Nothing when it has been put again meanwhile."""
        off = (DrillRow.subject == subject, DrillRow.mode == Mode.OFF.value)
        with Session(self._engine) as session, session.begin():
            session.execute(delete(DrillRow).where(*off))

    def note(self, subject: str, **changes: Any) -> None:
        """run_id, tried, outcome, cleaned; nothing when there is no schedule any more."""
        with Session(self._engine) as session, session.begin():
            session.execute(update(DrillRow).where(DrillRow.subject == subject).values(**changes))


def end_of_plan(session: Session, plan: str) -> None:
    """A plan goes, and its schedule with it, but for what its last drill has left (see `Mode.OFF`)."""
    session.execute(update(DrillRow).where(DrillRow.subject == subject_of(plan)).values(mode=Mode.OFF.value))


def rename_plan(session: Session, name: str, new: str) -> None:
    """Raises Refused when a drill of a plan that had the new name has not been cleaned up yet."""
    if session.get(DrillRow, subject_of(name)) is None:
        return
    if session.get(DrillRow, subject_of(new)) is not None:
        why = "a drill of the plan that had this name is still being cleaned up"
        raise Refused(why, subject=new, hint="Try again in a while")
    session.execute(update(DrillRow).where(DrillRow.subject == subject_of(name)).values(subject=subject_of(new)))


def _kept(row: DrillRow) -> KeptDrill:
    schedule = Schedule(row.subject, row.every_s, Mode(row.mode), row.begins, row.ends, row.keep_s, row.since)
    return KeptDrill(schedule, row.run_id, row.tried, row.outcome, row.cleaned)
