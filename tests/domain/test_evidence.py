"""What a test counts for, told by its run and by the plan that began it."""

from dataclasses import replace

import pytest

from leeward.domain.evidence import Outcome, Proof, good, outcome, plan_outcome, point_time, proofs, rpo_s, rto_s
from leeward.domain.plan_runs import Act, PlanRun, PlanState, PlanStep
from leeward.domain.plan_runs import StepState as PlanStepState
from leeward.domain.plans import Check, CheckKind, Group, Member, Plan, PlanKind
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepState, new_run, with_record


def a_test(agent="answers", state=RunState.DONE, **more):
    run = new_run(Run("r1", "v1", "web", Kind.TEST, "office", "recovery", "latest", "anna", created=1000.0, **more))
    run = with_record(run, "build", undo=False, state=StepState.DONE, result={"point": "7", "time_ns": 990 * 10**9})
    evidence = {"agent": agent} if agent else {}
    run = with_record(
        run, "boot", undo=False, state=StepState.DONE, ended=1012.5, detail="seen", result={"evidence": evidence}
    )
    return replace(run, state=state)


@pytest.mark.parametrize(
    ("agent", "state", "expected"),
    [
        ("answers", RunState.DONE, Outcome.PASSED),
        ("silent", RunState.DONE, Outcome.FAILED),
        ("none", RunState.DONE, Outcome.UNPROVEN),
        ("", RunState.DONE, Outcome.UNPROVEN),
        ("answers", RunState.STALLED, Outcome.FAILED),
        ("answers", RunState.UNDOING, Outcome.UNDONE),
        ("answers", RunState.UNDONE, Outcome.UNDONE),
        ("answers", RunState.RUNNING, Outcome.UNDER_WAY),
    ],
)
def test_the_outcome_of_a_test(agent, state, expected):
    run = a_test(agent, state)
    assert outcome(run, proofs(run)) is expected
    assert good(run) is (expected in (Outcome.PASSED, Outcome.UNPROVEN))


def test_rto_and_rpo():
    assert rto_s(a_test()) == 12.5
    assert rto_s(a_test("silent")) is None
    assert rto_s(a_test("none")) is None
    assert (point_time(a_test()), rpo_s(a_test())) == (990.0, 10.0)
    older = with_record(a_test(), "build", undo=False, result={"point": "7"})
    assert (point_time(older), rpo_s(older)) == (None, None)


def a_plan_run(state, ride="r1", kind=CheckKind.HTTP):
    check = Check("v1", kind, port=80, path="/health")
    plan = Plan("shop", (Group("front", (Member("v1", "web"),), checks=(check,)),))
    step = PlanStep("0/check/0", 1, Act.CHECK, 0, vm_id="v1", state=state, detail="status 200")
    return PlanRun("plan-1", plan, PlanKind.TEST, "anna", 999.0, steps=(step,), rides={"v1": ride})


def test_checks_of_the_plan_count():
    run = a_test()
    passed = proofs(run, a_plan_run(PlanStepState.DONE))
    assert passed == (Proof("agent", True, "seen"), Proof("http 80 /health", True, "status 200"))
    assert outcome(run, passed) is Outcome.PASSED
    assert outcome(run, proofs(run, a_plan_run(PlanStepState.FAILED))) is Outcome.FAILED
    # A guest without an agent is proven by a check.
    bare = a_test("none")
    assert outcome(bare, proofs(bare, a_plan_run(PlanStepState.DONE, kind=CheckKind.TCP))) is Outcome.PASSED
    # What has not been looked at, or was looked at in another test of the VM, proves nothing.
    for other in (
        a_plan_run(PlanStepState.RUNNING),
        a_plan_run(PlanStepState.SKIPPED),
        a_plan_run(PlanStepState.DONE, "r2"),
    ):
        assert proofs(bare, other) == ()


@pytest.mark.parametrize(
    ("state", "step", "agent", "expected"),
    [
        (PlanState.DONE, PlanStepState.DONE, "answers", Outcome.PASSED),
        (PlanState.DONE, PlanStepState.SKIPPED, "none", Outcome.UNPROVEN),
        (PlanState.DONE, PlanStepState.DONE, "silent", Outcome.FAILED),
        (PlanState.DONE, PlanStepState.FAILED, "answers", Outcome.FAILED),
        (PlanState.STALLED, PlanStepState.FAILED, "answers", Outcome.FAILED),
        # What becomes of its copies afterwards changes nothing.
        (PlanState.CLEANED, PlanStepState.DONE, "answers", Outcome.PASSED),
        (PlanState.STALLED, PlanStepState.DONE, "answers", Outcome.PASSED),
        (PlanState.CLEANED, PlanStepState.WAITING, "answers", Outcome.FAILED),
        (PlanState.ABORTED, PlanStepState.SKIPPED, "answers", Outcome.UNDONE),
        (PlanState.WAITING, PlanStepState.DONE, "answers", Outcome.UNDER_WAY),
        (PlanState.RUNNING, PlanStepState.DONE, "answers", Outcome.UNDER_WAY),
    ],
)
def test_the_outcome_of_a_plans_test(state, step, agent, expected):
    run = replace(a_plan_run(step), state=state)
    assert plan_outcome(run, [a_test(agent)]) is expected


def test_a_waived_failure_is_no_good_test_of_a_plan():
    run = replace(a_plan_run(PlanStepState.FAILED), state=PlanState.DONE)
    waived = replace(run, steps=tuple(replace(step, waived=True) for step in run.steps))
    assert plan_outcome(waived, [a_test()]) is Outcome.FAILED
