"""How a run begins: it is written down, its VM is given to it, and it is walked. Dead at any point in between, it has
begun or it is nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Protocol

from leeward.console.desk import Desk
from leeward.domain.errors import NotFound, Refused
from leeward.domain.lifecycle import Event
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, new_run
from leeward.state.database import Database
from leeward.state.lives import Life

# Kinds that leave a VM's phase alone.
STILL = (Kind.TEST, Kind.CLEANUP)
# How long a run that gives way may take to notice.
_LEAVE_S = 3.0


class Engine(Protocol):
    """See `leeward.orchestrator.engine.Engine`."""

    def walk(self, run_id: str) -> None: ...
    def walking(self) -> set[str]: ...


class Beginner:
    """Checks nothing: whoever asks has seen that the run makes sense."""

    def __init__(self, database: Database, desk: Desk, engine: Engine) -> None:
        self._database, self._desk, self._engine = database, desk, engine

    def taken(self, run_id: str) -> Run | None:
        """A run that has its VM. None: there is no such run, or it was written down and never given its VM."""
        try:
            run = self._database.runs.run(run_id)
        except NotFound:
            return None
        life = self._database.lives.get(run.vm_id)
        given = run.kind in STILL or run.begun > 0 or (life is not None and life.run_id == run.id)
        return run if given else None

    def begin(
        self,
        life: Life,
        event: Event,
        kind: Kind,
        away: str,
        point: str,
        by: str,
        options: dict[str, Any],
        run_id: str = "",
        giving_way: Run | None = None,
    ) -> Run:
        """One that moves its VM. giving_way: the run that it takes over from, and which ends. Raises Refused when
        somebody else was quicker."""
        run = self._make(replace(life, away=away), kind, away, point, by, options, run_id)
        # The run first: a phase that names a run which does not exist would be stuck for ever, a run that no phase
        # names is dropped.
        self._write_down(run)
        try:
            moved = self._database.lives.move(life, event, home=life.home, away=away, run_id=run.id)
        except Refused:
            taken = self.taken(run.id)
            if taken is not None:
                return taken  # another walk of the same plan was quicker
            self._desk.give_up(run, "another request was quicker")
            raise
        # After the VM was given to the new run: the phase must not follow the old one's end.
        if giving_way is not None:
            self._end_other(giving_way)
        self.close_stalled(life.vm_id, (Kind.COMMIT, Kind.FINISH))
        self._database.count()
        self._desk.spread()
        means = "" if kind in (Kind.COMMIT, Kind.FINISH) else f"point {point}"
        self._database.record(f"{kind} begun", life.vm_name, means, by)
        self._engine.walk(run.id)
        self._desk.publish(moved)
        return run

    def add(
        self, life: Life, kind: Kind, away: str, point: str, by: str, options: dict[str, Any], run_id: str = ""
    ) -> Run:
        """One that leaves its VM's phase alone."""
        self.close_stalled(life.vm_id, STILL)
        run = self._make(life, kind, away, point, by, options, run_id)
        self._write_down(run)
        self._database.record(f"{kind} begun", life.vm_name, f"point {point}", by)
        self._engine.walk(run.id)
        return run

    def close_stalled(self, vm_id: str, kinds: Collection[Kind]) -> None:
        """A run of these is not retried: it is asked for anew, and what stalled before is over with that."""
        for run in self._database.runs.unfinished(vm_id, kinds):
            if run.state is RunState.STALLED:
                self._desk.give_up(run, run.failure)

    def _write_down(self, run: Run) -> None:
        """An id that was given from outside may have been written down by one who died then: it begins anew."""
        try:
            known = self._database.runs.run(run.id)
        except NotFound:
            self._database.runs.add(run)
            return
        fresh = replace(run, created=known.created)
        self._database.runs.replace(run.id, lambda now: now if now.begun else fresh)

    def _make(
        self, life: Life, kind: Kind, away: str, point: str, by: str, options: dict[str, Any], run_id: str = ""
    ) -> Run:
        wanted = {name: value for name, value in options.items() if value is not None}
        return new_run(
            Run(
                id=run_id or uuid.uuid4().hex[:12],
                vm_id=life.vm_id,
                vm_name=life.vm_name,
                kind=kind,
                home=life.home,
                away=away,
                point=point,
                by=by,
                created=time.time(),
                options=wanted,
            )
        )

    def _end_other(self, run: Run) -> None:
        self._desk.give_up(run, run.failure)
        ends = time.monotonic() + _LEAVE_S
        while run.id in self._engine.walking() and time.monotonic() < ends:
            time.sleep(0.05)
