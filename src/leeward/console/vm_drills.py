"""What is done for drills of single VMs (see `leeward.console.drill_scene.Hands`)."""

from __future__ import annotations

import uuid

from leeward.console.drill_scene import BY, GOING, Scene, Verdict
from leeward.console.failovers import Failovers
from leeward.domain.drills import Known
from leeward.domain.evidence import outcome, proofs
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState
from leeward.state.database import Database
from leeward.state.drills import KeptDrill


class VmDrills:
    def __init__(self, database: Database, failovers: Failovers) -> None:
        self._database, self._failovers = database, failovers

    def _run(self, drill: KeptDrill) -> Run | None:
        return self._failovers.taken(drill.run_id) if drill.run_id else None

    def known(self, drill: KeptDrill, scene: Scene, tested: float | None, *, waits: bool) -> Known:
        vm_id, run = drill.schedule.subject, self._run(drill)
        there = vm_id in scene.copies
        ours = there and newest_test(self._database, vm_id) == drill.run_id
        cleaning = [
            other for other in scene.unfinished.get(vm_id, ()) if other.kind is Kind.CLEANUP and other.by == BY
        ]
        own = {drill.run_id, *(other.id for other in cleaning)}
        return Known(
            enabled=scene.ready(vm_id),
            busy=waits or scene.planned(vm_id) or scene.engaged(vm_id, own) or (there and not ours),
            tested=tested,
            tried=None if run is None and not drill.outcome else drill.tried,
            going=run is not None and run.state in GOING,
            ending=run is not None and (run.state is RunState.UNDOING or run.cancel),
            ended=_end_of(run),
            copy=ours,
            cleaned=drill.cleaned,
            cleaning=any(other.state in GOING for other in cleaning),
            noted=bool(drill.outcome),
        )

    def verdict(self, drill: KeptDrill) -> Verdict | None:
        run = self._run(drill)
        if run is None or run.state in GOING:
            return None
        return Verdict(outcome(run, proofs(run)), run.vm_name, run.failure)

    def new_id(self) -> str:
        return uuid.uuid4().hex[:12]

    def begun(self, run_id: str) -> bool:
        return self._failovers.taken(run_id) is not None

    def begin(self, drill: KeptDrill, name: str, run_id: str) -> None:
        self._failovers.test(drill.schedule.subject, name, "latest", BY, run_id=run_id)

    def approve(self, drill: KeptDrill) -> None:
        """It never asks."""

    def take_back(self, drill: KeptDrill) -> None:
        run = self._run(drill)
        if run is not None:
            self._failovers.take_back(run)

    def clean(self, drill: KeptDrill, name: str) -> None:
        self._failovers.cleanup(drill.schedule.subject, name, BY, only=drill.run_id)


def newest_test(database: Database, vm_id: str) -> str:
    """Id of the run whose copy it is, where one is there."""
    runs = database.runs.find(vm_id=vm_id, kinds=(Kind.TEST,), limit=1)
    return runs[0].id if runs else ""


def _end_of(run: Run | None) -> float | None:
    """A run that has stalled waits for nobody here: its copy goes as well."""
    if run is None or run.state in GOING:
        return None
    times = [record.ended for record in run.steps if record.ended is not None]
    return run.ended or max(times, default=run.created)
