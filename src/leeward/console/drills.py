"""Drills as the console carries them out: looks, asks `leeward.domain.drills` what to do, and does it.

It keeps its place in the database: the id of a drill's run is written down before the run is begun, so that a console
which dies in between knows it for its own, or finds that it never began and begins another one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from leeward.console.drill_documents import DRILL, document_of
from leeward.console.drill_scene import BY, Hands, Scene
from leeward.console.drill_views import drill_view, read_schedule
from leeward.console.failovers import Failovers
from leeward.console.fleet import Fleet
from leeward.console.plan_drills import PlanDrills
from leeward.console.plan_runs import PlanRuns
from leeward.console.plans import PLANS
from leeward.console.telling import Teller, told
from leeward.console.views import DrillRequest, DrillView, StatusView
from leeward.console.vm_drills import VmDrills
from leeward.domain.drills import Deed, Do, Mode, decide, plan_of, subject_of
from leeward.domain.errors import LeewardError, NotFound, Refused, Unavailable
from leeward.domain.evidence import GOOD, Outcome, good
from leeward.domain.plan_runs import OPEN
from leeward.domain.plans import Plan
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.drills import KeptDrill
from leeward.vault.facade import Vault

_WISHED = set(DrillRequest.model_fields)
# So many tests are looked through for each VM's last good one: at first, and for what has begun and ended since.
_FIRST, _SINCE = 10_000, 200
# Pictures of everything are taken twice a second, and what was tested is asked for every few.
_LOOKED_S = 5.0
# What could not be begun, since the vault is away or somebody was quicker, is tried again after this.
_WAIT_S = 300.0


def local_minute(now: float) -> int:
    """Of the day, by this machine's time zone. now: UTC seconds."""
    there = datetime.fromtimestamp(now).astimezone()
    return there.hour * 60 + there.minute


class Drills:
    """statuses: of all VMs. elsewhere: the host to which another console has moved a VM, "" where none has. clock:
    UTC seconds; minute: of the day, local time."""

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        failovers: Failovers,
        statuses: Callable[[], Sequence[StatusView]],
        elsewhere: Callable[[str], str] = lambda vm_id: "",
        clock: Callable[[], float] = time.time,
        minute: Callable[[float], int] = local_minute,
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._statuses = statuses
        self._elsewhere = elsewhere
        self._vms = VmDrills(database, failovers)
        self._plans: PlanDrills | None = None
        self._tell_plan: Callable[[str], None] = lambda plan: None
        self._teller: Teller | None = None
        self.clock = clock
        self.minute = minute
        self._looking = threading.Lock()
        self._good: dict[str, float] = {}
        # Plans that were looked through for a good test, when, and what was found: it takes long where there is none.
        self._looked: dict[str, tuple[float, dict[str, float]]] = {}
        self._open: set[str] = set()
        # Subject → until when (UTC seconds) another one's drill goes first: this one could not be begun.
        self._waits: dict[str, float] = {}

    def know_plans(self, runs: PlanRuns, tell: Callable[[str], None] = lambda plan: None) -> None:
        """From now on drills of plans are looked after too. tell: tells the vault of a plan and its schedule."""
        self._plans = PlanDrills(self._database, runs)
        self._tell_plan = tell

    def know_vault(self, teller: Teller) -> None:
        """From now on the vault is told of schedules of VMs."""
        self._teller = teller

    def _tell(self, subject: str) -> None:
        plan = plan_of(subject)
        if plan is not None:
            self._tell_plan(plan)
        elif self._teller is not None:
            self._teller.tell(DRILL, {subject: lambda: document_of(self._database.drills.schedule(subject))})

    def tell_again(self, vault: Vault) -> None:
        """Of what the vault does not know: it was away, or this console died before it told. Raises
        StoreUnavailable."""
        for drill in self._database.drills.all():
            subject, plan = drill.schedule.subject, self._plan(drill.schedule.subject)
            if plan is not None:
                known = told(vault, plan.members[0].vm_id, PLANS).get("drills", {}).get(plan.name, {})
            elif plan_of(subject) is None:
                known = told(vault, subject, DRILL)
            else:
                continue
            if known != document_of(drill.schedule):
                self._tell(subject)

    # --- schedules --------------------------------------------------------------------------------------

    def tested(self) -> dict[str, float]:
        """Subject → when its last good test ended, UTC seconds: of all VMs, and of plans that have a schedule."""
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
            return dict(self._good) | self._plans_tested()

    def _plans_tested(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for subject in (drill.schedule.subject for drill in self._wished()):
            if (plan := self._plan(subject)) is not None:
                found |= self._plan_tested(subject, plan)
        return found

    def _plan_tested(self, subject: str, plan: Plan, old_s: float = 0.0) -> dict[str, float]:
        """Empty where it has never been. old_s: how old what is known may be."""
        now, (looked, found) = time.monotonic(), self._looked.get(subject, (-math.inf, {}))
        if now - looked >= old_s:
            at = self._plans.tested(plan) if self._plans is not None else None
            found = {} if at is None else {subject: at}
            self._looked[subject] = now, found
        return found

    def _plan(self, subject: str) -> Plan | None:
        """None for a VM, and for a plan that is gone."""
        return self._plans.plan(subject) if self._plans is not None and plan_of(subject) is not None else None

    def all(self, tested: Mapping[str, float] | None = None) -> list[DrillView]:
        """Of VMs that are protected and of plans, the one that is due first first. tested: as of just now; plans that
        have got their schedule, or their name, since then are looked for anew."""
        now = self.clock()
        tested = dict(self.tested() if tested is None else tested)
        wishes, views = self._database.wishes(), []
        for drill in self._wished():
            subject = drill.schedule.subject
            if subject in wishes:
                views.append(drill_view(drill, tested, now, vm=wishes[subject].vm_name))
            elif (plan := self._plan(subject)) is not None:
                if subject not in tested:
                    tested |= self._plan_tested(subject, plan, _LOOKED_S)
                views.append(drill_view(drill, tested, now, plan=plan))
        return sorted(views, key=lambda view: (view.next_due, view.plan, view.vm))

    def of(self, vm_id: str) -> DrillView | None:
        return next((view for view in self.all() if view.vm_id == vm_id), None)

    def of_plan(self, plan: str, tested: Mapping[str, float] | None = None) -> DrillView | None:
        return next((view for view in self.all(tested) if view.plan == plan), None)

    def wish(self, vm_id: str, name: str, request: DrillRequest | None, by: str) -> None:
        """What is so already is not written down again. request: None for no schedule."""
        known = self.of(vm_id)
        if request is None:
            self.remove(vm_id, name, by)
        elif _is_news(known, request):
            self.put(vm_id, request, by)

    def put(self, vm_id: str, request: DrillRequest, by: str) -> DrillView:
        """Raises BadInput, NotFound when it is not protected."""
        wish = self._database.wish(vm_id)
        if wish is None:
            raise NotFound("it is not protected", subject=vm_id, hint="Protect it first")
        self._put(vm_id, wish.vm_name, request, by)
        return next(view for view in self.all() if view.vm_id == vm_id)

    def remove(self, vm_id: str, name: str, by: str) -> None:
        """Nothing when there is none. A drill that has been begun is still brought to its end."""
        if any(drill.schedule.subject == vm_id for drill in self._wished()):
            self._database.drills.end(vm_id)
            self._database.record("drill no longer scheduled", name, who=by)
            self._tell(vm_id)

    def wish_plan(self, plan: str, request: DrillRequest | None, by: str) -> None:
        """As `wish`."""
        if request is None:
            self.remove_plan(plan, by)
        elif _is_news(self.of_plan(plan), request):
            self.put_plan(plan, request, by)

    def put_plan(self, plan: str, request: DrillRequest, by: str) -> DrillView:
        """Of its test run. Raises BadInput, NotFound when there is no such plan."""
        name = self._database.plans.plan(plan).plan.name
        self._put(subject_of(name), name, request, by)
        view = self.of_plan(name)
        if view is None:
            raise NotFound("there is no such plan any more", subject=name)
        return view

    def remove_plan(self, plan: str, by: str) -> None:
        """As `remove`. Raises NotFound when there is no such plan."""
        name = self._database.plans.plan(plan).plan.name
        self.remove(subject_of(name), name, by)

    def _put(self, subject: str, name: str, request: DrillRequest, by: str) -> None:
        self._database.drills.put(read_schedule(subject, request, self.clock()))
        self._database.record("drill scheduled", name, request.model_dump_json(), by)
        self._tell(subject)

    def _wished(self) -> list[KeptDrill]:
        return [drill for drill in self._database.drills.all() if drill.schedule.mode is not Mode.OFF]

    # --- carrying out -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """One look; called now and then by the console that works."""
        drills = {drill.schedule.subject: drill for drill in self._database.drills.all()}
        if not drills:
            return
        now, scene, tested = self.clock(), self._scene(), self.tested()
        given = []
        for subject, drill in drills.items():
            hands = self._hands(subject)
            if hands is not None:
                self._note_outcome(drill, hands)
                waits = now < self._waits.get(subject, 0.0)
                given.append((drill.schedule, hands.known(drill, scene, tested.get(subject), waits=waits)))
        for deed in decide(given, now, self.minute(now)):
            drill, hands = drills[deed.subject], self._hands(deed.subject)
            status = scene.statuses.get(deed.subject)
            name = plan_of(deed.subject) or (status.vm if status else deed.subject)
            try:
                if hands is not None:
                    self._carry_out(deed, drill, hands, name, now)
            except LeewardError as error:
                log.warning("a drill cannot go on", subject=deed.subject, deed=deed.do, error=str(error))

    def _hands(self, subject: str) -> Hands | None:
        return self._vms if plan_of(subject) is None else self._plans

    def _scene(self) -> Scene:
        statuses = {status.vm_id: status for status in self._statuses()}
        unfinished: dict[str, list[Run]] = {}
        for run in self._database.runs.unfinished():
            unfinished.setdefault(run.vm_id, []).append(run)
        # The view asks every agent, so once for all VMs.
        copies = {copy.vm_id for copy in self._fleet.view().copies if copy.purpose == "test"}
        return Scene(statuses, unfinished, copies, self._database.plans.find(states=OPEN, limit=_FIRST))

    def _note_outcome(self, drill: KeptDrill, hands: Hands) -> None:
        """Once, when it is known: a drill that failed must be seen."""
        verdict = hands.verdict(drill) if drill.run_id and not drill.outcome else None
        if verdict is None or verdict.outcome is Outcome.UNDER_WAY:
            return
        self._database.drills.note(drill.schedule.subject, outcome=verdict.outcome.value)
        said = "drill done" if verdict.outcome in GOOD else "drill failed"
        self._database.record(said, verdict.name, verdict.failure or verdict.outcome.value, BY)

    def _carry_out(self, deed: Deed, drill: KeptDrill, hands: Hands, name: str, now: float) -> None:
        if deed.do is Do.TAKE_BACK:
            hands.take_back(drill)
        elif deed.do is Do.APPROVE:
            hands.approve(drill)
        elif deed.do is Do.CLEAN:
            self._database.drills.note(deed.subject, cleaned=now)
            hands.clean(drill, name)
        elif deed.do is Do.FORGET:
            self._database.drills.forget(deed.subject)
        else:
            self._begin(drill, hands, name, now)

    def _begin(self, drill: KeptDrill, hands: Hands, name: str, now: float) -> None:
        subject, run_id = drill.schedule.subject, hands.new_id()
        if not self._ours(subject):
            self._waits[subject] = now + _WAIT_S
            return
        self._database.drills.note(subject, run_id=run_id, tried=now, outcome="", cleaned=None)
        try:
            hands.begin(drill, name, run_id)
        except (Refused, Unavailable) as error:
            # Somebody was quicker, or the vault is away for a moment: that tells nothing about the VM.
            if not hands.begun(run_id):
                self._waits[subject] = now + _WAIT_S
                before = {"tried": drill.tried, "outcome": drill.outcome, "cleaned": drill.cleaned}
                self._database.drills.note(subject, run_id=drill.run_id, **before)
            log.info("a drill has to wait", subject=subject, error=str(error))
        except LeewardError as error:
            self._database.drills.note(subject, outcome=Outcome.FAILED.value)
            self._database.record("drill failed", name, str(error), BY)
            raise

    def _ours(self, subject: str) -> bool:
        """Of two consoles that know a schedule, since one has it from the vault, the one follows it that has moved
        the VM last. Where it runs at home that is the one which has its agent: none is enabled for the other."""
        plan = self._plan(subject)
        vm_ids = [subject] if plan is None else [member.vm_id for member in plan.members]
        try:
            there = next((host for vm_id in vm_ids if (host := self._elsewhere(vm_id))), "")
        except LeewardError as error:
            log.info("a drill has to wait", subject=subject, error=str(error))
            return False
        if there:
            log.info("a drill is left to the console that has moved its VM", subject=subject, host=there)
        return not there


def _is_news(known: DrillView | None, request: DrillRequest) -> bool:
    return known is None or DrillRequest.model_validate(known.model_dump(include=_WISHED)) != request


def last_tests(runs: Iterable[Run]) -> dict[str, float]:
    """VM id → when its last good test ended. Pure."""
    found: dict[str, float] = {}
    for run in runs:
        if run.kind is Kind.TEST and good(run) and run.ended is not None:
            found[run.vm_id] = max(run.ended, found.get(run.vm_id, run.ended))
    return found
