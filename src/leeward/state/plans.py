"""Recovery plans and their runs in the database. See `leeward.orchestrator.plan_conductor.PlanBook`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leeward.domain.errors import NotFound, Refused, Unavailable
from leeward.domain.plan_asks import gave_way
from leeward.domain.plan_runs import PlanRun, PlanState
from leeward.domain.plans import Plan
from leeward.state.clock import now
from leeward.state.engine import reading
from leeward.state.tables import PlanRow, PlanRunRow

_TRIES = 50
_PLAN = TypeAdapter(Plan)
_RUN = TypeAdapter(PlanRun)


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """created, changed: UTC, ISO 8601. version: see `leeward.state.tables.PlanRow`."""

    plan: Plan
    created: str
    changed: str
    version: int


class Plans:
    """Thread-safe, and safe beside other consoles on the same database: a change that met another is made anew."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- plans ----------------------------------------------------------------------------------------

    def all(self) -> list[KeptPlan]:
        """By name."""
        with Session(reading(self._engine)) as session:
            return [_kept(row) for row in session.scalars(select(PlanRow).order_by(PlanRow.name))]

    def plan(self, name: str) -> KeptPlan:
        """Raises NotFound."""
        with Session(reading(self._engine)) as session:
            row = session.get(PlanRow, name)
            if row is None:
                names = ", ".join(session.scalars(select(PlanRow.name).order_by(PlanRow.name))) or "none"
                raise NotFound("there is no such plan", subject=name, hint=f"Known: {names}")
            return _kept(row)

    def add(self, plan: Plan) -> KeptPlan:
        """Raises Refused when there is a plan of this name."""
        with Session(self._engine) as session:
            row = PlanRow(name=plan.name, document=_document(plan), created=now(), changed=now(), version=1)
            session.add(row)
            try:
                session.commit()
            except IntegrityError:
                raise Refused(
                    "a plan of this name exists", subject=plan.name, hint="Replace it with `--replace`"
                ) from None
            return _kept(row)

    def replace_plan(self, plan: Plan) -> KeptPlan:
        """Raises NotFound."""
        with Session(self._engine) as session:
            done = session.execute(
                update(PlanRow)
                .where(PlanRow.name == plan.name)
                .values(document=_document(plan), changed=now(), version=PlanRow.version + 1)
            )
            session.commit()
            if not done.rowcount:  # type: ignore[attr-defined]
                raise NotFound("there is no such plan", subject=plan.name)
        return self.plan(plan.name)

    def remove(self, name: str) -> None:
        """Its runs stay, as history."""
        with Session(self._engine) as session:
            session.execute(delete(PlanRow).where(PlanRow.name == name))
            session.commit()

    # --- runs -----------------------------------------------------------------------------------------

    def begin(self, seen: KeptPlan, run: PlanRun, other: PlanRun | None = None) -> None:
        """Write a new run down, of a plan as it was seen. other: ends here, as it was seen; the new run takes over.
        Raises Refused when the plan was changed, or run, since then, or the other run was."""
        with Session(self._engine) as session:
            done = session.execute(
                update(PlanRow)
                .where(PlanRow.name == run.plan.name, PlanRow.version == seen.version)
                .values(version=seen.version + 1)
            )
            if not done.rowcount:  # type: ignore[attr-defined]
                raise Refused("somebody else changes or runs it at this moment", subject=run.plan.name)
            if other is not None:
                _end(session, other, run)
            session.add(PlanRunRow(id=run.id, plan=run.plan.name, created=run.created, version=1, **_columns(run)))
            session.commit()

    def plan_run(self, run_id: str) -> PlanRun:
        """Raises NotFound."""
        return self._read(run_id)[0]

    def find(
        self, *, plan: str | None = None, states: Collection[PlanState] | None = None, limit: int = 100
    ) -> list[PlanRun]:
        """Newest first."""
        query = select(PlanRunRow).order_by(PlanRunRow.created.desc(), PlanRunRow.id).limit(limit)
        if plan is not None:
            query = query.where(PlanRunRow.plan == plan)
        if states is not None:
            query = query.where(PlanRunRow.state.in_([state.value for state in states]))
        with Session(reading(self._engine)) as session:
            return [_RUN.validate_json(row.document) for row in session.scalars(query)]

    def replace(self, run_id: str, change: Callable[[PlanRun], PlanRun]) -> PlanRun:
        """Read, change, write, as one; the run as it is from then on."""
        for _ in range(_TRIES):
            before, version = self._read(run_id)
            after = change(before)
            if after == before:
                return before
            with Session(self._engine) as session:
                done = session.execute(
                    update(PlanRunRow)
                    .where(PlanRunRow.id == run_id, PlanRunRow.version == version)
                    .values(version=version + 1, **_columns(after))
                )
                session.commit()
                if done.rowcount:  # type: ignore[attr-defined]
                    return after
        raise Unavailable("the run is being changed by somebody else all the time", subject=run_id)

    def _read(self, run_id: str) -> tuple[PlanRun, int]:
        with Session(reading(self._engine)) as session:
            row = session.get(PlanRunRow, run_id)
            if row is None:
                raise NotFound("there is no such run of a plan", subject=run_id)
            return _RUN.validate_json(row.document), row.version


def _end(session: Session, other: PlanRun, by: PlanRun) -> None:
    row = session.get(PlanRunRow, other.id)
    now = _RUN.validate_json(row.document) if row else None
    # The new run has the rides that the other one had when it was seen: one begun since then would be nobody's.
    if row is None or now is None or (now.rides, now.over) != (other.rides, False):
        raise Refused("its run is just going on", subject=other.plan.name, hint="Ask once more")
    done = session.execute(
        update(PlanRunRow)
        .where(PlanRunRow.id == other.id, PlanRunRow.version == row.version)
        .values(version=row.version + 1, **_columns(gave_way(now, by)))
        .execution_options(synchronize_session=False)
    )
    if not done.rowcount:  # type: ignore[attr-defined]
        raise Refused("its run is just going on", subject=other.plan.name, hint="Ask once more")


def _columns(run: PlanRun) -> dict[str, Any]:
    return {"kind": run.kind.value, "state": run.state.value, "document": _RUN.dump_json(run).decode()}


def _document(plan: Plan) -> str:
    return _PLAN.dump_json(plan).decode()


def _kept(row: PlanRow) -> KeptPlan:
    return KeptPlan(_PLAN.validate_json(row.document), row.created, row.changed, row.version)
