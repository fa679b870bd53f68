"""The steps of a plan's run, in the order in which they are done. Pure; docs/plans.md tells this order to people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from leeward.domain.plan_runs import Act, PlanRun, PlanStep
from leeward.domain.plans import Group, Plan, PlanKind


def new_run(run: PlanRun) -> PlanRun:
    """With its steps laid out."""
    return replace(run, steps=lay_out(run.plan, run.kind))


def lay_out(plan: Plan, kind: PlanKind) -> tuple[PlanStep, ...]:
    """All steps, in order. docs/plans.md tells this order to people.

    In a planned run all VMs are off, and their data safe, before the first is started elsewhere, and they go down in
    the reverse order: what others need goes down last and comes up first.
    """
    bundles: list[list[PlanStep]] = []
    for number, group in enumerate(plan.groups):
        bundles += _opening(number, group)
        if number == 0 and kind is PlanKind.PLANNED:
            bundles += _going_down(plan)
        bundles.append(each(Act.START, number, group))
        bundles.append([PlanStep("", 0, Act.CHECK, number, c.vm_id, n) for n, c in enumerate(group.checks)])
        bundles += [[PlanStep("", 0, Act.SCRIPT, number, index=n, after=True)] for n in range(len(group.after))]
    return numbered(bundles)


def _opening(number: int, group: Group) -> list[list[PlanStep]]:
    opening = []
    if group.delay_s:
        opening.append([PlanStep("", 0, Act.DELAY, number)])
    if group.approval:
        opening.append([PlanStep("", 0, Act.APPROVE, number)])
    return opening + [[PlanStep("", 0, Act.SCRIPT, number, index=n)] for n in range(len(group.before))]


def _going_down(plan: Plan) -> list[list[PlanStep]]:
    """Everything that can still be taken back: look whether all can go, shut down in reverse, make all ready."""
    groups = list(enumerate(plan.groups))
    return [
        [step for number, group in groups for step in each(Act.LOOK, number, group)],
        *(each(Act.STOP, number, group) for number, group in reversed(groups)),
        [step for number, group in groups for step in each(Act.READY, number, group)],
    ]


def each(act: Act, number: int, group: Group) -> list[PlanStep]:
    return [PlanStep("", 0, act, number, member.vm_id) for member in group.members]


def numbered(bundles: Iterable[list[PlanStep]]) -> tuple[PlanStep, ...]:
    full = [bundle for bundle in bundles if bundle]
    steps = (replace(step, bundle=number) for number, bundle in enumerate(full) for step in bundle)
    return tuple(replace(step, key=_key(step)) for step in steps)


def _key(step: PlanStep) -> str:
    """Also part of job ids: short, and the same whenever the run is laid out."""
    place = f"{'after' if step.after else 'before'}{step.index}" if step.act is Act.SCRIPT else step.vm_id
    if step.act is Act.CHECK:
        place = f"{step.vm_id}.{step.index}"
    return "/".join(part for part in (str(step.group), step.act.value, place) if part)
