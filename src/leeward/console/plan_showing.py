"""From plans and their runs to what the API answers with. Pure."""

from __future__ import annotations

from leeward.console.plan_documents import document_of
from leeward.console.plan_views import PlanRunBrief, PlanRunView, PlanStepView, PlanView
from leeward.domain.plan_runs import Act, PlanRun, PlanState, PlanStep, StepState, next_bundle
from leeward.domain.plans import PlanKind
from leeward.orchestrator.plan_checks import tells
from leeward.state.plans import KeptPlan
from leeward.wire.translate import utc_of, when

_TELLS = {
    Act.APPROVE: "Somebody approves of group {group}",
    Act.LOOK: "See that {vm} can go",
    Act.STOP: "Shut {vm} down at home",
    Act.READY: "Bring the last changes of {vm} into the vault and make it ready",
    Act.TAKE_BACK: "Take {vm} back where that is possible",
    Act.CLEAN: "Remove the copy of {vm}",
}
_START = {
    PlanKind.TEST: "Start a copy of {vm}, apart from production",
    PlanKind.PLANNED: "Start {vm} at the recovery site",
    PlanKind.UNPLANNED: "Fail {vm} over",
}


def plan_view(kept: KeptPlan, troubles: list[str], last: PlanRun | None) -> PlanView:
    return PlanView(
        name=kept.plan.name,
        note=kept.plan.note,
        vms=[member.vm_name for member in kept.plan.members],
        document=document_of(kept.plan),
        created=kept.created,
        changed=kept.changed,
        troubles=troubles,
        last_run=_brief(last) if last else None,
    )


def _brief(run: PlanRun) -> PlanRunBrief:
    return PlanRunBrief(
        id=run.id,
        kind=run.kind,
        state=run.state,
        complete=run.complete,
        created=utc_of(run.created),
        ended=when(run.ended),
        failure=run.failure,
    )


def plan_run_view(run: PlanRun) -> PlanRunView:
    waits = next(iter(next_bundle(run)), None) if run.state is PlanState.WAITING else None
    return PlanRunView(
        id=run.id,
        plan=run.plan.name,
        kind=run.kind,
        state=run.state,
        complete=run.complete,
        by=run.by,
        created=utc_of(run.created),
        ended=when(run.ended),
        failure=run.failure,
        wish=run.wish.value,
        waits_for=run.group(waits).name if waits else "",
        steps=[_step_view(run, step) for step in run.steps],
        back=[_step_view(run, step) for step in run.back],
        rto_s=_rto(run),
        notes=sorted(set(run.options.get("notes", {}).values())),
    )


def _step_view(run: PlanRun, step: PlanStep) -> PlanStepView:
    taken = None if step.started is None or step.ended is None else round(step.ended - step.started, 3)
    rides = run.cleanups if step.act is Act.CLEAN else run.rides
    return PlanStepView(
        key=step.key,
        act=step.act.value,
        group=run.group(step).name,
        vm=run.plan.member(step.vm_id).vm_name if step.vm_id else "",
        vm_id=step.vm_id,
        tells=step_tells(run, step),
        state=step.state.value,
        attempt=step.attempt,
        waived=step.waived,
        started=step.started,
        seconds=taken,
        detail=step.detail,
        output=step.output,
        by=step.by,
        run=rides.get(step.vm_id, "") if step.act is not Act.CHECK else "",
    )


def step_tells(run: PlanRun, step: PlanStep) -> str:
    """What a step does, for people."""
    group = run.group(step)
    vm = run.plan.member(step.vm_id).vm_name if step.vm_id else ""
    if step.act is Act.DELAY:
        return f"Wait {group.delay_s:g} s"
    if step.act is Act.SCRIPT:
        return f"Run {run.script(step).file}"
    if step.act is Act.CHECK:
        return f"Check {vm}: {tells(run.check(step))}"
    if step.act is Act.APPROVE and group.question:
        return f"Somebody approves of group {group.name}: {group.question}"
    pattern = _START[run.kind] if step.act is Act.START else _TELLS[step.act]
    return pattern.format(vm=vm, group=group.name)


def _rto(run: PlanRun) -> float | None:
    """Of a run in which nothing is left of starting and checking."""
    wanted = [step for step in run.steps if step.act in (Act.START, Act.CHECK)]
    ends = [step.ended for step in wanted if step.state is StepState.DONE and step.ended is not None]
    return round(max(ends) - run.created, 2) if ends and len(ends) == len(wanted) else None
