"""Drills as the console carries them out: looks, asks `leeward.domain.drills` what to do, and does it.

It keeps its place in the database: the id of a drill's run is written down before the run is begun, so that a console
which dies in between knows it for its own, or finds that it never began and begins another one.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from leeward.console.drill_views import drill_view, read_schedule
from leeward.console.failovers import Failovers
from leeward.console.fleet import Fleet
from leeward.console.views import DrillRequest, DrillView, StatusView
from leeward.domain.drills import Deed, Do, Known, Mode, decide
from leeward.domain.errors import LeewardError, NotFound, Refused, Unavailable
from leeward.domain.evidence import GOOD, Outcome, good, outcome, proofs
from leeward.domain.lifecycle import Phase, under_way
from leeward.domain.plan_runs import OPEN
from leeward.domain.plans import PlanKind
from leeward.domain.procedures import Kind
from leeward.domain.protection import ProtectionState
from leeward.domain.runs import Run, RunState
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.drills import KeptDrill

# On whose behalf drills are run.
BY = "drill"
_WISHED = set(DrillRequest.model_fields)
_GOING = (RunState.RUNNING, RunState.UNDOING)
# So many tests are looked through for each VM's last good one: at first, and for what has begun and ended since.
_FIRST, _SINCE = 10_000, 200
# What could not be begun, since the vault is away or somebody was quicker, is tried again after this.
_WAIT_S = 300.0


def local_minute(now: float) -> int:
    """Of the day, by this machine's time zone. now: UTC seconds."""
    there = datetime.fromtimestamp(now).astimezone()
    return there.hour * 60 + there.minute


class Drills:
    """statuses: of all VMs. clock: UTC seconds; minute: of the day, local time."""

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        failovers: Failovers,
        statuses: Callable[[], Sequence[StatusView]],
        clock: Callable[[], float] = time.time,
        minute: Callable[[float], int] = local_minute,
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._failovers = failovers
        self._statuses = statuses
        self.clock = clock
        self.minute = minute
        self._looking = threading.Lock()
        self._good: dict[str, float] = {}
        self._open: set[str] = set()
        # VM id → until when (UTC seconds) another VM's drill goes first: this one could not be begun.
        self._waits: dict[str, float] = {}

    # --- schedules --------------------------------------------------------------------------------------

    def tested(self) -> dict[str, float]:
        """VM id → when its last good test ended, UTC seconds."""
        with self._looking:
            # First: what ends between here and the next line is open now, and looked at again next time.
            open_now = {run.id for run in self._database.runs.unfinished(kinds=(Kind.TEST,))}
            limit = _SINCE if self._good else _FIRST
            newest = self._database.runs.find(kinds=(Kind.TEST,), states=(RunState.DONE,), limit=limit)
            # One that took long may have been begun before many others.
            ended = [self._database.runs.run(run_id) for run_id in self._open - open_now]
            self._open = open_now
            for vm_id, at in last_tests([*newest, *ended]).items():
                self._good[vm_id] = max(at, self._good.get(vm_id, at))
            return dict(self._good)

    def all(self, tested: Mapping[str, float] | None = None) -> list[DrillView]:
        """Of VMs that are protected, the one that is due first first. tested: as of just now."""
        now = self.clock()
        tested = self.tested() if tested is None else tested
        wishes = self._database.wishes()
        kept = [drill for drill in self._wished() if drill.schedule.vm_id in wishes]
        views = [drill_view(drill, wishes[drill.schedule.vm_id].vm_name, tested, now) for drill in kept]
        return sorted(views, key=lambda view: (view.next_due, view.vm))

    def of(self, vm_id: str) -> DrillView | None:
        return next((view for view in self.all() if view.vm_id == vm_id), None)

    def wish(self, vm_id: str, name: str, request: DrillRequest | None, by: str) -> None:
        """What is so already is not written down again. request: None for no schedule."""
        known = self.of(vm_id)
        if request is None:
            self.remove(vm_id, name, by)
        elif known is None or DrillRequest.model_validate(known.model_dump(include=_WISHED)) != request:
            self.put(vm_id, request, by)

    def put(self, vm_id: str, request: DrillRequest, by: str) -> DrillView:
        """Raises BadInput, NotFound when it is not protected."""
        wish = self._database.wish(vm_id)
        if wish is None:
            raise NotFound("it is not protected", subject=vm_id, hint="Protect it first")
        schedule = read_schedule(vm_id, request, self.clock())
        self._database.drills.put(schedule)
        self._database.record("drill scheduled", wish.vm_name, request.model_dump_json(), by)
        return next(view for view in self.all() if view.vm_id == vm_id)

    def remove(self, vm_id: str, name: str, by: str) -> None:
        """Nothing when there is none. A drill that has been begun is still brought to its end."""
        if any(drill.schedule.vm_id == vm_id for drill in self._wished()):
            self._database.drills.end(vm_id)
            self._database.record("drill no longer scheduled", name, who=by)

    def _wished(self) -> list[KeptDrill]:
        return [drill for drill in self._database.drills.all() if drill.schedule.mode is not Mode.OFF]

    # --- carrying out -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """One look; called now and then by the console that works."""
        drills = {drill.schedule.vm_id: drill for drill in self._database.drills.all()}
        if not drills:
            return
        now = self.clock()
        statuses = {status.vm_id: status for status in self._statuses()}
        tested, unfinished = self.tested(), self._unfinished()
        planned = self._planned(drills)
        # The view asks every agent, so once for all VMs.
        copies = {copy.vm_id for copy in self._fleet.view().copies if copy.purpose == "test"}
        given = [
            (
                drill.schedule,
                self._known(
                    drill,
                    statuses.get(vm_id),
                    tested.get(vm_id),
                    unfinished.get(vm_id, []),
                    planned=vm_id in planned,
                    there=vm_id in copies,
                ),
            )
            for vm_id, drill in drills.items()
        ]
        for deed in decide(given, now, self.minute(now)):
            drill = drills[deed.vm_id]
            try:
                self._carry_out(deed, drill, statuses.get(deed.vm_id), now)
            except LeewardError as error:
                log.warning("a drill cannot go on", vm_id=deed.vm_id, deed=deed.do, error=str(error))

    def _unfinished(self) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for run in self._database.runs.unfinished():
            found.setdefault(run.vm_id, []).append(run)
        return found

    def _planned(self, vm_ids: Collection[str]) -> set[str]:
        """VMs that a plan's run is still to come to, which a copy of a drill would hold up. While an application is
        being moved that is all: the recovery site has other things to do."""
        found: set[str] = set()
        for run in self._database.plans.find(states=OPEN, limit=_FIRST):
            found |= {member.vm_id for member in run.plan.members}
            if run.kind is not PlanKind.TEST:
                found.update(vm_ids)
        return found

    def _known(
        self,
        drill: KeptDrill,
        status: StatusView | None,
        tested: float | None,
        unfinished: Sequence[Run],
        *,
        planned: bool,
        there: bool,
    ) -> Known:
        """planned: a plan is still to come to it. there: a test copy of it is."""
        run = self._failovers.taken(drill.run_id) if drill.run_id else None
        if run is not None:
            self._note_outcome(drill, run)
        ours = there and self._is_newest(drill)
        waits = self.clock() < self._waits.get(drill.schedule.vm_id, 0.0)
        cleaning = [other for other in unfinished if other.kind is Kind.CLEANUP and other.by == BY]
        others = [other for other in unfinished if other.id != drill.run_id and other not in cleaning]
        enabled = status is not None and status.state is ProtectionState.ENABLED and status.last_point is not None
        never_begun = run is None and not drill.outcome
        return Known(
            enabled=enabled and status is not None and not under_way(Phase(status.phase)),
            busy=waits or planned or bool(others) or (there and not ours),
            tested=tested,
            tried=None if never_begun else drill.tried,
            going=run is not None and run.state in _GOING,
            ending=run is not None and (run.state is RunState.UNDOING or run.cancel),
            ended=_end_of(run),
            copy=ours,
            cleaned=drill.cleaned,
            cleaning=any(other.state in _GOING for other in cleaning),
        )

    def _is_newest(self, drill: KeptDrill) -> bool:
        """Whether the copy that is there is this drill's."""
        runs = self._database.runs.find(vm_id=drill.schedule.vm_id, kinds=(Kind.TEST,), limit=1)
        return bool(runs) and runs[0].id == drill.run_id

    def _note_outcome(self, drill: KeptDrill, run: Run) -> None:
        """Once, when it is known: a drill that failed must be seen."""
        if drill.outcome or run.state in _GOING:
            return
        found = outcome(run, proofs(run))
        self._database.drills.note(run.vm_id, outcome=found.value)
        said = "drill done" if found in GOOD else "drill failed"
        self._database.record(said, run.vm_name, run.failure or found.value, BY)

    def _carry_out(self, deed: Deed, drill: KeptDrill, status: StatusView | None, now: float) -> None:
        vm_id = deed.vm_id
        name = status.vm if status else vm_id
        if deed.do is Do.TAKE_BACK:
            run = self._failovers.taken(drill.run_id)
            if run is not None:
                self._failovers.take_back(run)
        elif deed.do is Do.CLEAN:
            self._database.drills.note(vm_id, cleaned=now)
            self._failovers.cleanup(vm_id, name, BY, only=drill.run_id)
        elif deed.do is Do.FORGET:
            self._database.drills.forget(vm_id)
        else:
            self._begin(drill, name, now)

    def _begin(self, drill: KeptDrill, name: str, now: float) -> None:
        vm_id, run_id = drill.schedule.vm_id, uuid.uuid4().hex[:12]
        self._database.drills.note(vm_id, run_id=run_id, tried=now, outcome="", cleaned=None)
        try:
            self._failovers.test(vm_id, name, "latest", BY, run_id=run_id)
        except (Refused, Unavailable) as error:
            # Somebody was quicker, or the vault is away for a moment: that tells nothing about the VM.
            if self._failovers.taken(run_id) is None:
                self._waits[vm_id] = now + _WAIT_S
                before = {"tried": drill.tried, "outcome": drill.outcome, "cleaned": drill.cleaned}
                self._database.drills.note(vm_id, run_id=drill.run_id, **before)
            log.info("a drill has to wait", vm_id=vm_id, error=str(error))
        except LeewardError as error:
            self._database.drills.note(vm_id, outcome=Outcome.FAILED.value)
            self._database.record("drill failed", name, str(error), BY)
            raise


def last_tests(runs: Iterable[Run]) -> dict[str, float]:
    """VM id → when its last good test ended. Pure."""
    found: dict[str, float] = {}
    for run in runs:
        if run.kind is Kind.TEST and good(run) and run.ended is not None:
            found[run.vm_id] = max(run.ended, found.get(run.vm_id, run.ended))
    return found


def _end_of(run: Run | None) -> float | None:
    """A run that has stalled waits for nobody here: its copy goes as well."""
    if run is None or run.state in _GOING:
        return None
    times = [record.ended for record in run.steps if record.ended is not None]
    return run.ended or max(times, default=run.created)
