"""What the console does for a plan's run: VMs through their failovers, scripts, the history."""

from __future__ import annotations

from typing import Any

from leeward.console.failovers import Failovers
from leeward.console.fleet import Fleet
from leeward.console.links import AgentLink
from leeward.console.marks import Marks
from leeward.console.plan_scripts import Call, Scripts
from leeward.domain.errors import Refused, Unavailable
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.plan_runs import PlanRun, PlanStep
from leeward.domain.plans import Member, PlanKind
from leeward.domain.procedures import Kind
from leeward.domain.runs import HOLD, Run
from leeward.orchestrator.plan_ground import Ended
from leeward.state.database import Database

# Phases in which a VM has come up at the recovery site.
AWAY = (Phase.AWAY, Phase.COMMITTING, Phase.SETTLED)


class PlanDesk:
    """See `leeward.orchestrator.plan_ground.Ground`."""

    def __init__(self, database: Database, fleet: Fleet, failovers: Failovers, scripts: Scripts) -> None:
        self._database = database
        self._fleet = fleet
        self._failovers = failovers
        self._scripts = scripts

    @property
    def marks(self) -> Marks:
        return self._failovers.marks

    # --- VMs --------------------------------------------------------------------------------------------

    def ride(self, run_id: str) -> Run | None:
        return self._failovers.taken(run_id)

    def is_away(self, vm_id: str) -> bool:
        life = self._database.lives.get(vm_id)
        return life is not None and life.phase in AWAY

    def begin(self, run: PlanRun, member: Member, run_id: str, hold: str) -> None:
        options: dict[str, Any] = {"to": run.options.get("to"), "plan": run.id}
        # Those of a consistency group go to the instant that was chosen for all of them when the run began.
        chosen = run.options.get("points", {}).get(member.vm_id)
        point = str(chosen or run.options.get("point") or "latest")
        vm = (member.vm_id, member.vm_name)
        if note := run.options.get("notes", {}).get(member.vm_id):
            options["note"] = note
        if run.kind is PlanKind.TEST:
            # Copies of one run share a switch: an application finds its database there.
            options["networks"] = {"*": f"isolated:{run.id}"}
            self._failovers.test(*vm, point, run.by, options, run_id)
            return
        for name in ("force", "timeout_s"):
            options[name] = run.options.get(name)
        options["newest"] = run.options.get("newest")
        if run.plan.networks:
            options["networks"] = dict(run.plan.networks)
        if hold:
            options[HOLD] = hold
        self._failovers.failover(*vm, Event(run.kind.value), point, run.by, options, run_id)

    def again(self, run: PlanRun, ride: Run) -> None:
        options = {name: run.options.get(name) for name in ("force", "timeout_s")}
        self._failovers.again(ride, options)

    def hold(self, ride: Run, step: str) -> None:
        self._failovers.hold(ride, step)

    def cancel(self, ride: Run) -> None:
        self._failovers.take_back(ride)

    def begin_cleanup(self, run: PlanRun, member: Member, run_id: str, tested: str) -> str:
        tested_run = self.ride(tested)
        if tested_run is not None and not self._fleet.view().present(tested_run.away):
            raise Unavailable("the agent of the recovery host does not answer", subject=tested_run.away)
        if self._fleet.view().copy(member.vm_id, "test") is None and self.ride(run_id) is None:
            return "there is no copy of it"
        tests = (found for found in self._failovers.runs(member.vm_id) if found.kind is Kind.TEST)
        newest = next(tests, None)
        if newest is not None and newest.id != tested:
            return "the copy of it is another test's"
        self._failovers.cleanup(member.vm_id, member.vm_name, run.by, run_id, only=tested)
        return ""

    # --- scripts and checks -----------------------------------------------------------------------------

    def script(self, run: PlanRun, step: PlanStep, again: bool) -> Ended:
        script = run.script(step)
        call = Call(
            f"{run.id}/{step.attempt}/{step.key}", script.file, script.arguments, script.timeout_s, facts(run, step)
        )
        return self._scripts.run(call, again)

    def place(self, run: PlanRun, vm_id: str) -> str:
        ride = self.ride(run.rides[vm_id]) if vm_id in run.rides else None
        if ride is not None:
            return ride.away
        life = self._database.lives.get(vm_id)
        if life is None or not life.away:
            raise Refused("it was not brought up", subject=run.plan.member(vm_id).vm_name)
        return life.away

    def link(self, host: str) -> AgentLink:
        return self._fleet.link(host)

    def tell(self, run: PlanRun, what: str, detail: str = "") -> None:
        self._database.record(f"plan {run.kind} {what}", run.plan.name, detail, run.by)


def facts(run: PlanRun, step: PlanStep) -> dict[str, str]:
    """What a script is told: names one a line, so that names with spaces stay whole. Pure."""
    group = run.group(step)
    return {
        "LEEWARD_PLAN": run.plan.name,
        "LEEWARD_RUN": run.id,
        "LEEWARD_KIND": run.kind.value,
        "LEEWARD_GROUP": group.name,
        "LEEWARD_WHEN": "after" if step.after else "before",
        "LEEWARD_VMS": "\n".join(member.vm_name for member in group.members),
        "LEEWARD_VM_IDS": "\n".join(member.vm_id for member in group.members),
    }
