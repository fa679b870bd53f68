"""Runs in the database. See `leeward.orchestrator.desk.RunBook`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, and_, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from leeward.domain.errors import NotFound, Unavailable
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepRecord, StepState, with_record
from leeward.state.engine import reading
from leeward.state.tables import RunRow

_TRIES = 50
# Put together once: that takes longer than what SQLite does with them, and a run is read and written at each step.
_READ = select(RunRow.document, RunRow.version).where(RunRow.id == bindparam("run"))
_REPLACE = update(RunRow).where(RunRow.id == bindparam("run"), RunRow.version == bindparam("seen"))
_UNFINISHED = (RunState.RUNNING, RunState.UNDOING, RunState.STALLED)


class Runs:
    """Thread-safe, and safe beside other consoles on the same database: a change that met another is made anew."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def add(self, run: Run) -> None:
        with Session(self._engine) as session:
            session.add(RunRow(id=run.id, vm_id=run.vm_id, created=run.created, version=1, **_columns(run)))
            session.commit()

    def run(self, run_id: str) -> Run:
        """Raises NotFound."""
        return self._read(run_id)[0]

    def find(
        self,
        *,
        vm_id: str | None = None,
        states: Collection[RunState] | None = None,
        kinds: Collection[Kind] | None = None,
        naming: Collection[str] | None = None,
        limit: int | None = 100,
    ) -> list[Run]:
        """Newest first. naming: fields of options or results, one of which the run has; it takes long where there are
        many runs."""
        query = select(RunRow.document).order_by(RunRow.created.desc(), RunRow.id).limit(limit)
        if vm_id is not None:
            query = query.where(RunRow.vm_id == vm_id)
        if states is not None:
            query = query.where(RunRow.state.in_([state.value for state in states]))
        if kinds is not None:
            query = query.where(RunRow.kind.in_([kind.value for kind in kinds]))
        if naming is not None:  # as `_columns` writes them
            query = query.where(or_(*(RunRow.document.contains(f'"{name}": ', autoescape=True) for name in naming)))
        with self._reading.connect() as connection:
            return [_run(document) for document in connection.scalars(query)]

    def counts(self) -> dict[tuple[str, str], int]:
        """(kind, state) → how many runs there are or were."""
        with Session(self._reading) as session:
            rows = session.execute(
                select(RunRow.kind, RunRow.state, func.count()).group_by(RunRow.kind, RunRow.state)
            )
            return {(kind, state): count for kind, state, count in rows}

    def newest(self, kind: Kind, state: RunState) -> list[Run]:
        """Of each VM that has any of this kind in this state, the one that was begun last."""
        fits = and_(RunRow.kind == kind.value, RunRow.state == state.value)
        last = select(RunRow.vm_id, func.max(RunRow.created).label("created")).where(fits).group_by(RunRow.vm_id)
        of = last.subquery()
        query = select(RunRow.document).join(of, and_(RunRow.vm_id == of.c.vm_id, RunRow.created == of.c.created))
        with Session(self._reading) as session:
            return [_run(document) for document in session.scalars(query.where(fits))]

    def endless(self) -> list[Run]:
        """All that gave way and have no end yet (see `leeward.domain.runs.abandon`), newest first: whoever ended them
        died in the middle. It takes long where many runs were taken back."""
        # `ended` is a run's last field; steps have one as well, so it must be the one at the very end.
        query = select(RunRow.document).where(
            RunRow.state == RunState.UNDONE.value, RunRow.document.endswith('"ended": null}', autoescape=True)
        )
        with Session(self._reading) as session:
            return [_run(document) for document in session.scalars(query.order_by(RunRow.created.desc(), RunRow.id))]

    def unfinished(
        self, vm_id: str | None = None, kinds: Collection[Kind] | None = None, limit: int | None = 10_000
    ) -> list[Run]:
        """Those that are not over, newest first."""
        return self.find(vm_id=vm_id, states=_UNFINISHED, kinds=kinds, limit=limit)

    def record(self, run_id: str, name: str, *, undo: bool, **changes: Any) -> Run:
        return self.replace(run_id, lambda run: with_record(run, name, undo=undo, **changes))

    def replace(self, run_id: str, change: Callable[[Run], Run]) -> Run:
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

    def _read(self, run_id: str) -> tuple[Run, int]:
        with self._reading.connect() as connection:
            row = connection.execute(_READ, {"run": run_id}).one_or_none()
        if row is None:
            raise NotFound("there is no such run", subject=run_id)
        return _run(row.document), row.version


def _columns(run: Run) -> dict[str, Any]:
    return {"kind": run.kind.value, "state": run.state.value, "document": json.dumps(asdict(run))}


def _run(document: str) -> Run:
    found = json.loads(document)
    found["kind"], found["state"] = Kind(found["kind"]), RunState(found["state"])
    for name in ("steps", "undo"):
        found[name] = tuple(StepRecord(**{**record, "state": StepState(record["state"])}) for record in found[name])
    return Run(**found)
