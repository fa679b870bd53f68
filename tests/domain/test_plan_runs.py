"""Which steps a plan's run has, which come next, and what asking for something changes."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeward.domain import plan_asks as asks
from leeward.domain.plan_asks import Ask, refused
from leeward.domain.plan_layout import new_run
from leeward.domain.plan_rides import STAGES
from leeward.domain.plan_runs import (
    ENDS,
    WALKING,
    Act,
    PlanRun,
    PlanState,
    StepState,
    Wish,
    failed,
    finish,
    next_bundle,
    settle,
    spared,
    with_step,
)
from leeward.domain.plans import Check, CheckKind, Group, Member, OnFailure, Plan, PlanKind, Script
from leeward.domain.procedures import STEPS

GO_ON = OnFailure.CONTINUE


def plan(groups=2, vms=2, **changes):
    made = [
        Group(
            f"g{g}",
            tuple(Member(f"{g}{v}", f"vm{g}{v}") for v in range(vms)),
            delay_s=5.0 * (g > 0),
            approval=True,
            before=(Script("before.sh"),),
            after=(Script("after.sh", kinds=tuple(PlanKind)),),
            checks=(Check(f"{g}0", CheckKind.TCP, 80),),
            **changes,
        )
        for g in range(groups)
    ]
    return Plan("shop", tuple(made))


def run_of(kind, **changes):
    return new_run(PlanRun("plan-1", plan(**changes), kind, "anna", 100.0))


def names(steps):
    return [f"{step.act}{step.group}" + (step.vm_id and f":{step.vm_id}") for step in steps]


def bundles(run):
    numbers = sorted({step.bundle for step in run.steps})
    return [names(step for step in run.steps if step.bundle == number) for number in numbers]


def finished(run, step, **changes):
    return with_step(run, step.key, **{"state": StepState.DONE, "ended": 1.0, **changes})


def test_a_test_goes_group_by_group():
    assert bundles(run_of(PlanKind.TEST)) == [
        ["approve0"],
        ["script0"],
        ["start0:00", "start0:01"],
        ["check0:00"],
        ["script0"],
        ["delay1"],
        ["approve1"],
        ["script1"],
        ["start1:10", "start1:11"],
        ["check1:10"],
        ["script1"],
    ]


def test_a_planned_run_takes_all_down_first_in_reverse_order():
    found = bundles(run_of(PlanKind.PLANNED))
    assert found[:7] == [
        ["approve0"],
        ["script0"],
        ["look0:00", "look0:01", "look1:10", "look1:11"],
        ["stop1:10", "stop1:11"],
        ["stop0:00", "stop0:01"],
        ["ready0:00", "ready0:01", "ready1:10", "ready1:11"],
        ["start0:00", "start0:01"],
    ]


def test_keys_are_unique_and_short_enough_for_job_ids():
    run = run_of(PlanKind.PLANNED, groups=3, vms=3)
    keys = [step.key for step in run.steps]
    assert len(set(keys)) == len(keys)
    assert max(map(len, keys)) < 100


def test_stages_are_steps_of_the_procedure_in_its_order():
    order = [step.name for step in STEPS[PlanKind.PLANNED.procedure]]
    for act, stage in STAGES.items():
        assert not stage.until or order.index(stage.until) < order.index(stage.hold), act
    # What is held at the last stage can still be taken back.
    assert not any(step.final for step in STEPS[PlanKind.PLANNED.procedure][: order.index("start")])


def test_a_failed_vm_stalls_the_run_or_is_left_out():
    for on_failure, state in ((OnFailure.STOP, PlanState.STALLED), (GO_ON, PlanState.RUNNING)):
        run = run_of(PlanKind.UNPLANNED, on_failure=on_failure)
        start = next(step for step in run.steps if step.act is Act.START)
        run = settle(failed(run, start.key, "no host", 5.0), start.bundle)
        assert run.state is state
        check = next(step for step in run.steps if step.act is Act.CHECK)
        assert spared(run, check) == "its VM has failed"
    assert "vm00: no host" in finish(run, 9.0).failure
    assert not finish(run, 9.0).complete


def test_scripts_know_in_which_runs_they_are_run():
    run = run_of(PlanKind.TEST)
    before, after = (next(s for s in run.steps if s.act is Act.SCRIPT and s.after is when) for when in (False, True))
    assert spared(run, before) == "not in a test run"
    assert spared(run, after) == ""


def test_an_approval_lets_the_run_go_on():
    run = replace(run_of(PlanKind.TEST), state=PlanState.WAITING)
    approved = asks.approve(run, "bert", 5.0, "seen")
    assert approved.state is PlanState.RUNNING
    assert (approved.steps[0].by, approved.steps[0].detail) == ("bert", "seen")
    assert names(next_bundle(approved)) == ["script0"]


def test_retrying_a_stalled_run_does_again_what_failed_and_nothing_else():
    run = run_of(PlanKind.UNPLANNED)
    for step in run.steps[:2]:
        run = finished(run, step)
    first, second = next_bundle(run)
    run = failed(finished(run, first), second.key, "no host", 5.0)
    run = settle(run, first.bundle)
    again = asks.retry(run)
    assert again.state is PlanState.RUNNING
    assert [step.attempt for step in next_bundle(again)] == [1, 2]
    assert [step.state for step in next_bundle(again)] == [StepState.DONE, StepState.WAITING]
    without = asks.skip(run, "bert")
    assert names(next_bundle(without)) == ["check0:00"]
    assert without.step(second.key).by == "bert"


def test_retrying_a_run_that_has_ended_goes_back_to_what_it_left_out():
    run = run_of(PlanKind.PLANNED, on_failure=GO_ON)
    for step in run.steps:
        if step.vm_id == "11":
            lost = step.act is Act.LOOK
            run = failed(run, step.key, "no", 1.0) if lost else finished(run, step, state=StepState.SKIPPED)
        else:
            run = finished(run, step)
    run = finish(run, 9.0)
    assert (run.state, run.complete) == (PlanState.DONE, False)
    again = asks.retry(run)
    waiting = [step for step in again.steps if step.state is StepState.WAITING]
    assert names(waiting) == ["look1:11", "stop1:11", "ready1:11", "start1:11"]
    for step in waiting:
        again = finished(again, step)
    again = finish(again, 10.0)
    assert again.complete
    assert refused(again, Ask.RETRY)[0] == "nothing of it has failed"


def test_aborting_takes_the_groups_back_in_the_plans_order():
    run = run_of(PlanKind.PLANNED)
    step = next_bundle(run)[0]
    run = asks.begin_abort(with_step(run, step.key, state=StepState.RUNNING), 5.0)
    assert run.step(step.key).state is StepState.SKIPPED
    assert names(next_bundle(run)) == ["take-back0:00", "take-back0:01"]
    for step in run.back[:2]:
        run = finished(run, step)
    # Going back nothing stops us.
    run = failed(run, run.back[2].key, "no agent", 6.0)
    run = settle(finished(run, run.back[3]), run.back[2].bundle)
    assert run.state is PlanState.ABORTING
    ended = finish(run, 9.0)
    assert ended.state is PlanState.ABORTED
    assert "vm10: no agent" in ended.failure


def test_cleaning_up_ends_a_test_and_can_be_retried():
    run = asks.begin_cleanup(replace(run_of(PlanKind.TEST), state=PlanState.STALLED), 5.0)
    assert len(next_bundle(run)) == 4
    for step in run.back[:3]:
        run = finished(run, step)
    run = settle(failed(run, run.back[3].key, "no agent", 6.0), 0)
    assert run.state is PlanState.STALLED
    assert refused(run, Ask.ABORT)
    run = asks.retry(run)
    assert run.state is PlanState.CLEANING
    assert finish(finished(run, run.back[3]), 9.0).state is PlanState.CLEANED


@pytest.mark.parametrize("state", PlanState)
@pytest.mark.parametrize("ask", Ask)
def test_every_ask_is_allowed_or_refused_with_a_reason_and_a_way_out(state, ask):
    found = refused(replace(run_of(PlanKind.TEST), state=state), ask)
    if found is not None:
        assert found[0]
        assert "leeward plan" in found[1]


def test_only_tests_are_cleaned_up():
    run = replace(run_of(PlanKind.PLANNED), state=PlanState.DONE)
    assert "no test" in refused(run, Ask.CLEANUP)[0]


# --- whatever happens -----------------------------------------------------------------------------------


def any_plan(dice):
    def some(make):
        return tuple(make() for _ in range(dice.randrange(3)))

    def script():
        return Script("x.sh", on_failure=dice.choice(list(OnFailure)))

    def group(number):
        members = tuple(Member(f"{number}.{n}", f"vm{number}.{n}") for n in range(dice.randint(1, 3)))
        return Group(
            f"g{number}",
            members,
            delay_s=dice.choice((0.0, 1.0)) if number else 0.0,
            approval=dice.random() < 0.5,
            before=some(script),
            after=some(script),
            checks=some(lambda: Check(dice.choice(members).vm_id, CheckKind.AGENT)),
            on_failure=dice.choice(list(OnFailure)),
        )

    return Plan("any", tuple(group(number) for number in range(dice.randint(1, 4))))


@given(st.integers(0, 1 << 32), st.sampled_from(PlanKind))
def test_whatever_fails_and_whatever_is_asked_the_order_is_kept_and_the_run_can_be_ended(seed, kind):
    dice = random.Random(seed)
    plan = any_plan(dice)
    run = new_run(PlanRun("plan-1", plan, kind, "anna", 0.0))
    started = []
    for _ in range(400):
        if run.state in ENDS:
            break
        if run.state in WALKING:
            bundle = next_bundle(run)
            if not bundle:
                run = finish(run, 1.0)
                continue
            for step in bundle:
                if step.over:
                    continue
                # Everything before this bundle is settled.
                assert all(other.settled for other in run.way if other.bundle < step.bundle)
                if spared(run, step):
                    run = with_step(run, step.key, state=StepState.SKIPPED)
                elif dice.randrange(8) == 0:
                    run = failed(run, step.key, "bad luck", 1.0)
                else:
                    if step.act is Act.START:
                        started.append((step.group, step.vm_id))
                    run = with_step(run, step.key, state=StepState.DONE)
            run = settle(run, bundle[0].bundle)
        else:
            assert run.state is PlanState.STALLED
            ask = dice.choice(["retry", "skip", "retry", "abort"])
            if ask == "abort" and not refused(run, Ask.ABORT):
                run = asks.begin_abort(run, 1.0)
            else:
                run = asks.skip(run, "bert") if ask == "skip" else asks.retry(run)
    assert run.state in ENDS
    assert len(set(started)) == len(started)  # no VM twice
    assert [group for group, _ in started] == sorted(group for group, _ in started)
    if run.complete:
        assert len(started) == len(plan.members)


def test_a_wish_ends_with_what_it_was_for():
    run = replace(run_of(PlanKind.TEST), wish=Wish.PAUSE)
    assert asks.pause(run).wish is Wish.NONE
    assert asks.resume(asks.pause(run)).state is PlanState.RUNNING
