"""What is done for drills of recovery plans (see `leeward.console.drill_scene.Hands`): their test runs, whole."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.console.drill_scene import BY, Scene, Verdict
from leeward.console.plan_runs import PlanRuns, new_id
from leeward.console.plan_views import PlanApproveRequest, PlanAskRequest, PlanRunRequest
from leeward.console.vm_drills import newest_test
from leeward.domain.drills import LONGEST_S, Known, plan_of
from leeward.domain.errors import NotFound
from leeward.domain.evidence import GOOD, plan_outcome
from leeward.domain.plan_runs import PlanRun, PlanState, Wish
from leeward.domain.plans import Plan, PlanKind
from leeward.domain.runs import Run
from leeward.state.database import Database
from leeward.state.drills import KeptDrill

_GOING = (PlanState.RUNNING, PlanState.WAITING, PlanState.PAUSED, PlanState.ABORTING)
# So many tests of a plan are looked through for its last good one.
_MANY = 200


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a test of a plan has shown, once that can change no more but with its version. vm_ids: of its members; up:
    when it came up; None where it was not good."""

    version: int
    vm_ids: frozenset[str]
    up: float | None


class PlanDrills:
    def __init__(self, database: Database, runs: PlanRuns) -> None:
        self._database, self._runs = database, runs
        # Plan → id of a test of it → what it has shown: tests that were no good are many where none ever was, and
        # it is asked again and again.
        self._judged: dict[str, dict[str, _Judged]] = {}

    def plan(self, subject: str) -> Plan | None:
        """None when it has been deleted."""
        try:
            return self._database.plans.plan(plan_of(subject) or "").plan
        except NotFound:
            return None

    def tested(self, plan: Plan) -> float | None:
        """When the last good test of all VMs that the plan has now came up, whoever asked for it."""
        wanted = {member.vm_id for member in plan.members}
        known, kept, found = self._judged.get(plan.name, {}), dict[str, _Judged](), None
        for run_id, version in self._database.plans.versions(plan.name, PlanKind.TEST, _MANY):
            told = known.get(run_id)
            if told is None or told.version != version:
                told, lasts = self._judge(run_id, version)
            else:
                lasts = True
            if lasts:
                kept[run_id] = told
            if told.up is not None and wanted <= told.vm_ids:
                found = told.up
                break
        self._judged[plan.name] = kept
        return found

    def _judge(self, run_id: str, version: int) -> tuple[_Judged, bool]:
        """And whether that lasts for as long as the run has this version: the test of a VM of it may go on. version:
        no newer one than the run's."""
        run = self._database.plans.plan_run(run_id)
        rides = self._rides(run)
        up = run.up if plan_outcome(run, rides) in GOOD else None
        vm_ids = frozenset(member.vm_id for member in run.plan.members)
        return _Judged(version, vm_ids, up), all(ride.over for ride in rides)

    def _rides(self, run: PlanRun) -> list[Run]:
        """Tests of its VMs, as far as its outcome hangs on them."""
        return [self._database.runs.run(ride) for ride in run.rides.values()] if run.whole else []

    def _run(self, drill: KeptDrill) -> PlanRun | None:
        return self._runs.taken(drill.run_id) if drill.run_id else None

    def known(self, drill: KeptDrill, scene: Scene, tested: float | None, *, waits: bool) -> Known:
        run, plan = self._run(drill), self.plan(drill.schedule.subject)
        members = [member.vm_id for member in plan.members] if plan else []
        own = {*run.rides.values(), *run.cleanups.values()} if run else set()
        ours = {
            vm_id
            for vm_id, ride in (run.rides.items() if run else ())
            if vm_id in scene.copies and newest_test(self._database, vm_id) == ride
        }
        engaged = any(
            scene.engaged(vm_id, own)
            or scene.planned(vm_id, drill.run_id)
            or (vm_id in scene.copies and vm_id not in ours)
            for vm_id in members
        )
        state = run.state if run else None
        return Known(
            enabled=plan is not None and all(scene.ready(vm_id) for vm_id in members),
            busy=waits or engaged,
            tested=tested,
            tried=None if run is None and not drill.outcome else drill.tried,
            going=state in _GOING,
            asks=state is PlanState.WAITING,
            ending=run is not None and (state is PlanState.ABORTING or run.wish is Wish.ABORT),
            ended=None if run is None or state in _GOING else _end_of(run),
            # One that has stalled is over only when it has been cleaned up, also where nothing is there any more.
            copy=bool(ours) or state is PlanState.STALLED,
            cleaned=drill.cleaned,
            cleaning=state is PlanState.CLEANING,
            noted=bool(drill.outcome),
            longest_s=LONGEST_S + (sum(group.delay_s for group in run.plan.groups) if run else 0.0),
        )

    def verdict(self, drill: KeptDrill) -> Verdict | None:
        run = self._run(drill)
        if run is None or run.state in _GOING:
            return None
        return Verdict(plan_outcome(run, self._rides(run)), run.plan.name, run.failure)

    def new_id(self) -> str:
        return new_id()

    def begun(self, run_id: str) -> bool:
        return self._runs.taken(run_id) is not None

    def begin(self, drill: KeptDrill, name: str, run_id: str) -> None:
        self._runs.begin(name, PlanRunRequest(kind=PlanKind.TEST), BY, run_id)

    def approve(self, drill: KeptDrill) -> None:
        run = self._run(drill)
        if run is not None:
            self._runs.approve(run.plan.name, PlanApproveRequest(run=run.id), BY)

    def take_back(self, drill: KeptDrill) -> None:
        run = self._run(drill)
        if run is not None:
            self._runs.abort(run.plan.name, PlanAskRequest(run=run.id), BY)

    def clean(self, drill: KeptDrill, name: str) -> None:
        run = self._run(drill)
        if run is not None:
            self._runs.cleanup(run.plan.name, PlanAskRequest(run=run.id), BY)


def _end_of(run: PlanRun) -> float:
    """An abort takes long at times; cleaning up is no part of the test."""
    return run.ended if run.state is PlanState.ABORTED and run.ended is not None else run.up
