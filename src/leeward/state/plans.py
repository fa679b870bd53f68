"""Recovery plans and their runs in the database. See `leeward.orchestrator.plan_conductor.PlanBook`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Engine, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leeward.domain.errors import NotFound, Refused, Unavailable
from leeward.domain.plan_asks import gave_way
from leeward.domain.plan_runs import PlanRun, PlanState
from leeward.domain.plans import Plan, PlanKind
from leeward.state.clock import now
from leeward.state.drills import end_of_plan, rename_plan
from leeward.state.engine import reading
from leeward.state.tables import PlanRow, PlanRunRow

_TRIES = 50
_PLAN = TypeAdapter(Plan)
_RUN = TypeAdapter(PlanRun)
# See `leeward.state.runs`.
_READ = select(PlanRunRow.document, PlanRunRow.version).where(PlanRunRow.id == bindparam("run"))
_REPLACE = update(PlanRunRow).where(PlanRunRow.id == bindparam("run"), PlanRunRow.version == bindparam("seen"))


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """created, changed: UTC, ISO 8601. version: see `leeward.state.tables.PlanRow`."""

    plan: Plan
    created: str
    changed: str
    version: int

    @property
    def digest(self) -> str:
        """Another one whenever the plan has been changed; runs leave it alone."""
        return hashlib.sha256(_document(self.plan).encode()).hexdigest()[:16]


class Changed(Refused):
    """The plan is not what it was when somebody began to change it."""

    code = "changed"


class Plans:
    """Thread-safe, and safe beside other consoles on the same database: a change that met another is made anew."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    # --- plans ----------------------------------------------------------------------------------------

    def all(self) -> list[KeptPlan]:
        """By name."""
        with Session(self._reading) as session:
            return [_kept(row) for row in session.scalars(select(PlanRow).order_by(PlanRow.name))]

    def plan(self, name: str) -> KeptPlan:
        """Raises NotFound."""
        with Session(self._reading) as session:
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

    def change(self, name: str, plan: Plan, seen: str | None) -> KeptPlan:
        """Replace the plan of this name; one with another name renames it, and its runs with it. seen: the digest of
        what it was when somebody began to change it, None for whatever it is now.

        Raises NotFound; Changed when it is no longer as it was seen; Refused when the new name is taken, or a run of
        a plan that is to be renamed is under way.
        """
        with Session(self._engine) as session:
            # In the order in which a schedule is written: first the plan, then its drill.
            row = session.get(PlanRow, name, with_for_update=plan.name != name)
            if row is None:
                raise NotFound("there is no such plan", subject=name)
            if seen is not None and _kept(row).digest != seen:
                raise Changed("somebody else has changed this plan meanwhile", subject=name)
            if plan.name != name:
                if session.get(PlanRow, plan.name) is not None:
                    raise Refused("a plan of this name exists", subject=plan.name)
                _rename_runs(session, name, plan.name)
                rename_plan(session, name, plan.name)
            done = session.execute(
                update(PlanRow)
                # A run that begins at this moment counts the version; one of a plan to be renamed must not be missed.
                .where(PlanRow.name == name, PlanRow.document == row.document)
                .where(PlanRow.version == (row.version if plan.name != name else PlanRow.version))
                .values(name=plan.name, document=_document(plan), changed=now(), version=PlanRow.version + 1)
                .execution_options(synchronize_session=False)
            )
            if not done.rowcount:  # type: ignore[attr-defined]
                raise Changed("somebody else changes or runs it at this moment", subject=name)
            try:
                session.commit()
            except IntegrityError:
                raise Refused("a plan of this name exists", subject=plan.name) from None
        return self.plan(plan.name)

    def remove(self, name: str) -> None:
        """Its runs stay, as history; no drill of it is begun any more."""
        with Session(self._engine) as session:
            session.execute(delete(PlanRow).where(PlanRow.name == name))
            end_of_plan(session, name)
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
        self,
        *,
        plan: str | None = None,
        kind: PlanKind | None = None,
        states: Collection[PlanState] | None = None,
        limit: int = 100,
    ) -> list[PlanRun]:
        """Newest first."""
        query = select(PlanRunRow.document).order_by(PlanRunRow.created.desc(), PlanRunRow.id).limit(limit)
        if plan is not None:
            query = query.where(PlanRunRow.plan == plan)
        if kind is not None:
            query = query.where(PlanRunRow.kind == kind.value)
        if states is not None:
            query = query.where(PlanRunRow.state.in_([state.value for state in states]))
        with self._reading.connect() as connection:
            return [_RUN.validate_json(document) for document in connection.scalars(query)]

    def versions(self, plan: str, kind: PlanKind, limit: int) -> list[tuple[str, int]]:
        """(id, version) of its runs, newest first: whoever has looked at a run of this version need not read it."""
        query = (
            select(PlanRunRow.id, PlanRunRow.version)
            .where(PlanRunRow.plan == plan, PlanRunRow.kind == kind.value)
            .order_by(PlanRunRow.created.desc(), PlanRunRow.id)
            .limit(limit)
        )
        with self._reading.connect() as connection:
            return [(run_id, version) for run_id, version in connection.execute(query)]

    def replace(self, run_id: str, change: Callable[[PlanRun], PlanRun]) -> PlanRun:
        """Read, change, write, as one; the run as it is from then on."""
        for _ in range(_TRIES):
            before, version = self._read(run_id)
            after = change(before)
            if after == before:
                return before
            values = {"version": version + 1, **_columns(after)}
            with self._engine.begin() as connection:
                done = connection.execute(_REPLACE, {"run": run_id, "seen": version, **values}).rowcount
            if done:
                return after
        raise Unavailable("the run is being changed by somebody else all the time", subject=run_id)

    def _read(self, run_id: str) -> tuple[PlanRun, int]:
        with self._reading.connect() as connection:
            row = connection.execute(_READ, {"run": run_id}).one_or_none()
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


def _rename_runs(session: Session, name: str, new: str) -> None:
    """Raises Refused while one is under way: who steers it knows it by its name."""
    for row in session.scalars(select(PlanRunRow).where(PlanRunRow.plan == name)):
        run = _RUN.validate_json(row.document)
        if not run.over:
            raise Refused("a run of it is under way: it cannot be renamed now", subject=new)
        named = replace(run, plan=replace(run.plan, name=new))
        row.plan, row.document, row.version = new, _RUN.dump_json(named).decode(), row.version + 1


def _document(plan: Plan) -> str:
    return _PLAN.dump_json(plan).decode()


def _kept(row: PlanRow) -> KeptPlan:
    return KeptPlan(_PLAN.validate_json(row.document), row.created, row.changed, row.version)
