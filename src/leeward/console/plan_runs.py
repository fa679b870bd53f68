"""What an operator can ask of a recovery plan's runs: checked, written down, then carried on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from leeward.console.beginning import Engine
from leeward.console.fleet import Fleet
from leeward.console.plan_desk import AWAY, PlanDesk
from leeward.console.plan_showing import plan_run_view
from leeward.console.plan_views import (
    PlanApproveRequest,
    PlanAskRequest,
    PlanRetryRequest,
    PlanRunRequest,
    PlanRunView,
)
from leeward.domain import plan_asks as asks
from leeward.domain.errors import BadInput, NotFound, Refused
from leeward.domain.lifecycle import Event, Phase, Refusal, after
from leeward.domain.plan_asks import Ask
from leeward.domain.plan_layout import new_run
from leeward.domain.plan_rides import PLAN
from leeward.domain.plan_runs import OPEN, WALKING, PlanRun, PlanState, Wish, next_bundle
from leeward.domain.plans import Member, Plan, PlanKind
from leeward.state.database import Database

_MOST = 10_000


def new_id() -> str:
    """For a run of a plan: by its beginning it is told from those of VMs."""
    return f"{PLAN}{uuid.uuid4().hex[:12]}"


class PlanRuns:
    def __init__(self, database: Database, fleet: Fleet, desk: PlanDesk, engine: Engine) -> None:
        self._database = database
        self._plans = database.plans
        self._fleet = fleet
        self._desk = desk
        self._engine = engine

    def revive(self) -> None:
        """Carry on what an earlier process left. Runs of VMs first (see `Failovers.revive`)."""
        walking = self._engine.walking()
        for run in self._plans.find(states=WALKING, limit=_MOST):
            if run.id not in walking:
                self._engine.walk(run.id)

    # --- looking --------------------------------------------------------------------------------------

    def all(self, name: str, limit: int = 50) -> list[PlanRunView]:
        """Newest first."""
        return [plan_run_view(run) for run in self._plans.find(plan=name, limit=limit)]

    def get(self, run_id: str) -> PlanRunView:
        return plan_run_view(self._plans.plan_run(run_id))

    def last(self, name: str) -> PlanRunView:
        """Raises Refused when there never was one."""
        return plan_run_view(self._newest(name))

    def _newest(self, name: str) -> PlanRun:
        found = self._plans.find(plan=name, limit=1)
        if not found:
            self._plans.plan(name)
            raise Refused("it has never been run", subject=name, hint=f"Try it with `leeward plan run {name} --test`")
        return found[0]

    # --- beginning ------------------------------------------------------------------------------------

    def taken(self, run_id: str) -> PlanRun | None:
        """None: it was never begun."""
        try:
            return self._plans.plan_run(run_id)
        except NotFound:
            return None

    def begin(self, name: str, request: PlanRunRequest, by: str, run_id: str = "") -> PlanRunView:
        """An unplanned run takes over from a planned one that is under way: its home may have died under it. run_id:
        a new one, that somebody has written down before; "" for any."""
        kept = self._plans.plan(name)
        other = self._may_begin(kept.plan, request)
        given = request.model_dump(exclude={"kind"})
        rides = self._rides(other) if other else {}
        points, notes = self._agree(kept.plan, request, rides)
        run = PlanRun(
            id=run_id or new_id(),
            plan=kept.plan,
            kind=request.kind,
            by=by,
            created=time.time(),
            options={option: value for option, value in given.items() if value is not None}
            | ({"points": points, "notes": notes} if points or notes else {}),
            rides=rides,
        )
        run = new_run(run)
        self._plans.begin(kept, run, other)
        self._desk.tell(run, "begun", "; ".join(sorted(set(notes.values()))))
        self._engine.walk(run.id)
        return plan_run_view(run)

    def _agree(
        self, plan: Plan, request: PlanRunRequest, rides: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """What VMs of consistency groups are brought to, decided once for all of them; see `Marks.for_plan`."""
        if request.kind is PlanKind.PLANNED or request.point != "latest":
            return {}, {}
        vm_ids = [member.vm_id for member in plan.members if not self._desk.is_away(member.vm_id)]
        settled = {
            vm_id
            for vm_id, run_id in rides.items()
            if (ride := self._desk.ride(run_id)) and ride.result("last-cycle")
        }
        return self._desk.marks.for_plan(plan.name, vm_ids, settled, request.newest)

    def _rides(self, other: PlanRun) -> dict[str, str]:
        """Those that were really begun."""
        return {vm_id: ride for vm_id, ride in other.rides.items() if self._desk.ride(ride) is not None}

    def _may_begin(self, plan: Plan, request: PlanRunRequest) -> PlanRun | None:
        """Raises Refused and its like; the run that the new one takes over from, if there is one."""
        if request.kind is PlanKind.PLANNED and request.point != "latest":
            raise BadInput("a planned run always brings the newest data", subject=plan.name, hint="Leave --point out")
        if request.to is not None:
            self._fleet.link(request.to)
        other = self._nobody_else(plan, request.kind)
        protected = self._database.wishes()
        for member in plan.members:
            if member.vm_id not in protected:
                raise Refused(f"{member.vm_name} is not protected any more", subject=plan.name)
            if request.kind is PlanKind.PLANNED:
                self._may_move(plan, member)
            if request.kind is PlanKind.TEST and self._fleet.view().copy(member.vm_id, "test") is not None:
                raise Refused(
                    f"a test copy of {member.vm_name} exists",
                    subject=plan.name,
                    hint=f"Remove it with `leeward plan cleanup` or `leeward failover cleanup {member.vm_name}`",
                )
        return other

    def _nobody_else(self, plan: Plan, kind: PlanKind) -> PlanRun | None:
        """A VM is in one test at a time, and is moved by one plan at a time. A test never stands in the way of the
        real thing, nor does a planned run in that of an unplanned one of the same plan: that one is returned."""
        other = None
        wanted = {member.vm_id for member in plan.members}
        for run in self._plans.find(states=OPEN, limit=_MOST):
            if (run.kind is PlanKind.TEST) is not (kind is PlanKind.TEST):
                continue
            shared = [member.vm_name for member in run.plan.members if member.vm_id in wanted]
            if run.plan.name == plan.name:
                if (run.kind, kind) != (PlanKind.PLANNED, PlanKind.UNPLANNED):
                    why, hint = asks.busy(run)
                    raise Refused(why, subject=plan.name, hint=hint)
                other = run
            elif shared:
                raise Refused(
                    f"a run of plan {run.plan.name} has not ended, which has {', '.join(shared)} too",
                    subject=plan.name,
                    hint=f"See `leeward plan status {run.plan.name}`",
                )
        return other

    def _may_move(self, plan: Plan, member: Member) -> None:
        """Before anything is shut down: each VM is at home, or has gone already."""
        life = self._database.lives.get(member.vm_id)
        phase = life.phase if life else Phase.HOME
        following = after(phase, Event.PLANNED, member.vm_name)
        if isinstance(following, Refusal) and phase not in AWAY:
            raise Refused(f"{member.vm_name}: {following.reason}", subject=plan.name, hint=following.hint)

    # --- asking ---------------------------------------------------------------------------------------

    def approve(self, name: str, request: PlanApproveRequest, by: str) -> PlanRunView:
        def given(now: PlanRun) -> PlanRun:
            group = now.group(next_bundle(now)[0]).name
            if request.group not in (None, group):
                raise Refused(f"it is group {group} that waits", subject=name)
            return asks.approve(now, by, time.time(), request.note)

        return self._change(name, Ask.APPROVE, request, by, given)

    def pause(self, name: str, request: PlanAskRequest, by: str) -> PlanRunView:
        """Nothing further is begun; what is under way goes on to its end."""
        return self._change(name, Ask.PAUSE, request, by, lambda now: replace(now, wish=Wish.PAUSE))

    def resume(self, name: str, request: PlanAskRequest, by: str) -> PlanRunView:
        return self._change(name, Ask.RESUME, request, by, asks.resume)

    def abort(self, name: str, request: PlanAskRequest, by: str) -> PlanRunView:
        """Nothing further is begun; what is under way is taken back, or comes to its end where it is too late for
        that. Of a run that is being aborted already: what is still being taken back goes on by itself."""
        meant = self._the(name, Ask.ABORT, request.run)
        if meant.state is PlanState.ABORTING:
            self._take_all_back(meant)

        def wished(now: PlanRun) -> PlanRun:
            if now.state is PlanState.ABORTING and meant.state is PlanState.ABORTING:
                return asks.let_go(now, time.time())
            if now.state is PlanState.RUNNING:
                return replace(now, wish=Wish.ABORT)  # heeded by its walk, as soon as nothing is half done
            return now if now.state is PlanState.ABORTING else asks.begin_abort(now, time.time())

        return self._change(name, Ask.ABORT, request, by, wished)

    def _take_all_back(self, run: PlanRun) -> None:
        """At once and not group by group: when nobody waits for them any more, none of its VMs may stay held."""
        for run_id in run.rides.values():
            ride = self._desk.ride(run_id)
            if ride is not None:
                self._desk.cancel(ride)

    def retry(self, name: str, request: PlanRetryRequest, by: str) -> PlanRunView:
        given = request.model_dump(include={"force", "timeout_s"})
        options = {option: value for option, value in given.items() if value is not None}

        def again(now: PlanRun) -> PlanRun:
            if request.skip and now.state is not PlanState.STALLED:
                raise Refused("it has not stalled: there is nothing to skip", subject=name)
            now = replace(now, options={**now.options, **options})
            return asks.skip(now, by) if request.skip else asks.retry(now)

        return self._change(name, Ask.RETRY, request, by, again)

    def cleanup(self, name: str, request: PlanAskRequest, by: str) -> PlanRunView:
        """Of a test: remove all copies that it has made."""
        return self._change(name, Ask.CLEANUP, request, by, lambda now: asks.begin_cleanup(now, time.time()))

    # --- insides --------------------------------------------------------------------------------------

    def _the(self, name: str, ask: Ask, run_id: str | None) -> PlanRun:
        """The run that is meant: the named one, the only one that the ask makes sense for, or the newest."""
        if run_id is not None:
            run = self._plans.plan_run(run_id)
            if run.plan.name != name:
                raise NotFound("the plan has no such run", subject=run_id)
            return run
        newest = self._newest(name)
        # A test and another run of a plan can go on at the same time; of each sort the newest is meant.
        each = {run.kind is PlanKind.TEST: run for run in reversed(self._plans.find(plan=name, limit=50))}
        able = [run for run in each.values() if asks.refused(run, ask) is None]
        if len(able) > 1:
            ids = " or ".join(f"{run.id} ({run.kind})" for run in able)
            raise BadInput("two of its runs could be meant", subject=name, hint=f"Say which with --run: {ids}")
        return able[0] if able else newest

    def _change(
        self, name: str, ask: Ask, request: PlanAskRequest, by: str, change: Callable[[PlanRun], PlanRun]
    ) -> PlanRunView:
        def checked(now: PlanRun) -> PlanRun:
            refused = asks.refused(now, ask)
            if refused is not None:
                raise Refused(refused[0], subject=name, hint=refused[1])
            return change(now)

        run = self._plans.replace(self._the(name, ask, request.run).id, checked)
        self._database.record(f"plan {run.kind} {ask}", name, who=by)
        self._engine.walk(run.id)
        return plan_run_view(run)
