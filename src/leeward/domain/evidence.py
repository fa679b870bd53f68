"""What a test failover has shown, for people who were not there: an outcome, its checks, RTO and RPO. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from leeward.domain.plan_runs import Act, PlanRun, PlanState
from leeward.domain.plan_runs import StepState as PlanStepState
from leeward.domain.plans import Check, CheckKind
from leeward.domain.runs import Run, RunState, StepState

# So many tests of a VM keep their picture, and are shown.
KEPT = 10
# Bytes of a picture at most: it crosses with an agent's answer, and lies in the database.
MOST_BYTES = 200_000


class Outcome(StrEnum):
    """PASSED: its guest answered, or checks found it as it should be. UNPROVEN: it runs, and has nothing that could
    be asked. FAILED: a step failed, its guest was silent, or a check did not pass. UNDONE: it was taken back."""

    UNDER_WAY = "under-way"
    PASSED = "passed"
    UNPROVEN = "unproven"
    FAILED = "failed"
    UNDONE = "undone"


# Outcomes after which a VM counts as tested.
GOOD = (Outcome.PASSED, Outcome.UNPROVEN)


@dataclass(frozen=True, slots=True)
class Proof:
    """One look at the guest. what: agent, or as a plan's check says it ("tcp 5432", "http 80 /health")."""

    what: str
    passed: bool
    detail: str


def proofs(run: Run, plan_run: PlanRun | None = None) -> tuple[Proof, ...]:
    """plan_run: the run of a plan that began this test."""
    found = []
    boot, agent = run.step("boot"), _agent(run)
    if boot is not None and agent in ("answers", "silent"):
        found.append(Proof("agent", agent == "answers", boot.detail))
    if plan_run is not None and plan_run.rides.get(run.vm_id) == run.id:
        for step in plan_run.steps:
            ended = step.state in (PlanStepState.DONE, PlanStepState.FAILED)
            if step.act is Act.CHECK and step.vm_id == run.vm_id and ended:
                passed = step.state is PlanStepState.DONE
                found.append(Proof(_in_short(plan_run.check(step)), passed, step.detail))
    return tuple(found)


def _agent(run: Run) -> str | None:
    """answers or silent; None where it was not asked."""
    seen: str | None = run.result("boot").get("evidence", {}).get("agent")
    return seen


def _in_short(check: Check) -> str:
    port, path = str(check.port or ""), check.path if check.kind is CheckKind.HTTP else ""
    return " ".join(word for word in (check.kind.value, port, path) if word)


def outcome(run: Run, seen: Sequence[Proof] = ()) -> Outcome:
    if run.state is RunState.STALLED:
        return Outcome.FAILED
    if run.state in (RunState.UNDOING, RunState.UNDONE):
        return Outcome.UNDONE
    if run.state is RunState.RUNNING:
        return Outcome.UNDER_WAY
    if any(not proof.passed for proof in seen):
        return Outcome.FAILED
    return Outcome.PASSED if seen else Outcome.UNPROVEN


def plan_outcome(run: PlanRun, rides: Sequence[Run]) -> Outcome:
    """Of a plan's test, whatever became of its copies afterwards. rides: the tests of its VMs."""
    if run.state in (PlanState.RUNNING, PlanState.WAITING, PlanState.PAUSED):
        return Outcome.UNDER_WAY
    if run.state in (PlanState.ABORTING, PlanState.ABORTED):
        return Outcome.UNDONE
    each = {outcome(ride, proofs(ride, run)) for ride in rides}
    if not run.whole or not each <= set(GOOD):
        return Outcome.FAILED
    return Outcome.PASSED if each == {Outcome.PASSED} else Outcome.UNPROVEN


def good(run: Run) -> bool:
    """Whether the VM counts as tested by this run, whatever a plan has found besides."""
    return outcome(run, proofs(run)) in GOOD


def rto_s(run: Run) -> float | None:
    """From the request until the guest answered; None where nobody answered."""
    boot = run.step("boot")
    if boot is None or boot.state is not StepState.DONE or boot.ended is None or _agent(run) != "answers":
        return None
    return round(boot.ended - run.created, 2)


def point_time(run: Run) -> float | None:
    """Of the point that it was made of, UTC seconds."""
    told = run.result("build").get("time_ns")
    return told / 1e9 if told else None


def rpo_s(run: Run) -> float | None:
    """How old that point was when the test was asked for: what would have been lost then."""
    made = point_time(run)
    return None if made is None else max(0.0, round(run.created - made, 2))
