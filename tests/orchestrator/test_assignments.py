"""Which job a step is: given where, with what, and under which name."""

from dataclasses import replace

import pytest

from leeward.domain.procedures import Kind, steps, undo_order
from leeward.domain.runs import Run, StepState, begin_undo, inheritance, new_run, with_record
from leeward.orchestrator.assignments import job_of, jobs_of
from leeward.wire.jobs import JobKind

RESULTS = {
    "check": {"claim": 4, "definition": "<vm/>"},
    "check-home": {"claim": 7, "definition": "<vm/>"},
    "epoch": {"epoch": 5, "point": "33"},
    "epoch-home": {"epoch": 8},
    "last-cycle-away": {"point": "44"},
}
CONSOLE = {"check", "protect", "check-home", "protect-home", "protect-away"}


def a_run(kind, point="latest"):
    run = new_run(Run("r1", "vm-1", "web", kind, "office", "recovery", point, "me", 0.0))
    for record in run.steps:
        run = with_record(run, record.name, undo=False, state=StepState.DONE, result=RESULTS.get(record.name, {}))
    return run


@pytest.mark.parametrize("kind", Kind)
def test_every_step_and_undo_step_is_a_job_or_the_consoles_own(kind):
    run = a_run(kind)
    for step in steps(kind):
        assert (job_of(run, step.name, undo=False) is None) == (step.name in CONSOLE)
    for name in undo_order(kind, len(steps(kind))):
        assert (job_of(run, name, undo=True) is None) == (name in CONSOLE)


@pytest.mark.parametrize("kind", [*Kind])
def test_each_job_is_done_where_it_belongs(kind):
    run = a_run(kind)
    home = {"stop", "restart", "last-cycle", "fence", "stand-down", "stand-up", "epoch-back", "prepare", "catch-up"}
    home |= {"epoch-home", "switch", "revert", "start-home", "boot-home", "settle-home"}
    for name in [step.name for step in steps(kind)] + list(undo_order(kind, len(steps(kind)))):
        job = job_of(run, name, undo=False)
        if job is not None:
            assert job.host == ("office" if name in home else "recovery"), name


def test_a_tried_again_step_has_a_new_name_and_one_done_again_the_same():
    run = a_run(Kind.PLANNED)
    first = job_of(run, "epoch", undo=False)
    assert job_of(run, "epoch", undo=False) == first
    assert job_of(replace(run, attempt=2), "epoch", undo=False).id != first.id
    assert job_of(run, "discard", undo=True).id != job_of(a_run(Kind.TEST), "discard", undo=False).id


def test_the_log_is_claimed_after_the_epoch_that_was_seen():
    run = a_run(Kind.PLANNED)
    assert job_of(run, "epoch", undo=False).arguments == {"claim": 4, "reason": "failover", "run": "r1"}
    back = job_of(run, "epoch-back", undo=True).arguments
    assert (back["claim"], back["back"], back["reason"]) == (4, ["r1"], "undo")
    again = replace(run, options={"claim": 6})
    assert job_of(again, "epoch", undo=False).arguments["claim"] == 6
    assert job_of(again, "epoch-back", undo=True).arguments["claim"] == 6
    assert job_of(run, "start", undo=False).arguments["epoch"] == 5
    assert job_of(a_run(Kind.FAILBACK), "start-home", undo=False).arguments["epoch"] == 8


def test_the_point_is_fixed_once_nobody_else_can_add_one():
    assert job_of(a_run(Kind.PLANNED), "build", undo=False).arguments["point"] == "33"
    assert job_of(a_run(Kind.UNPLANNED, "17"), "build", undo=False).arguments["point"] == "17"
    assert job_of(a_run(Kind.UNPLANNED, "app"), "build", undo=False).arguments["point"] == "app"
    assert job_of(a_run(Kind.FAILBACK), "catch-up", undo=False).arguments == {"point": "44"}


def test_a_test_and_a_failover_do_not_share_a_copy():
    assert job_of(a_run(Kind.TEST), "build", undo=False).arguments["purpose"] == "test"
    assert job_of(a_run(Kind.CLEANUP), "discard", undo=False).arguments["purpose"] == "test"
    assert job_of(a_run(Kind.PLANNED), "discard", undo=True).arguments["purpose"] == "failover"
    assert job_of(a_run(Kind.FINISH), "discard-away", undo=False).arguments["purpose"] == "failover"


def test_all_jobs_that_a_run_can_have_given_are_known_by_name():
    run = replace(a_run(Kind.PLANNED), attempt=2)
    known = set(jobs_of(run))
    for attempt in (1, 2):
        then = replace(run, attempt=attempt)
        jobs = [job_of(then, step.name, undo=False) for step in steps(run.kind)]
        jobs += [job_of(then, name, undo=True) for name in undo_order(run.kind, len(run.steps))]
        assert {(job.host, job.id) for job in jobs if job} <= known
    assert job_of(run, "stop", undo=False).kind is JobKind.STOP


def test_the_new_disks_at_home_must_be_this_runs():
    run = with_record(a_run(Kind.UNPLANNED_FAILBACK, "12"), "prepare", undo=False, result={"point": "12"})
    for name in ("switch", "start-home"):
        assert job_of(run, name, undo=False).arguments["point"] == "12"
    assert "afresh" not in job_of(run, "prepare", undo=False).arguments
    took_over = replace(run, options={"after": ["r0"]})
    assert job_of(took_over, "prepare", undo=False).arguments["afresh"] is True
    planned = with_record(a_run(Kind.FAILBACK), "prepare", undo=False, result={"point": "40"})
    planned = with_record(planned, "catch-up", undo=False, result={"point": "44"})
    assert job_of(planned, "switch", undo=False).arguments["point"] == "44"


def test_an_unplanned_failback_takes_the_last_point_of_the_closed_log_and_gives_the_other_site_time():
    run = a_run(Kind.UNPLANNED_FAILBACK)
    run = with_record(run, "epoch-home", undo=False, ended=100.0, result={"epoch": 8, "point": "55"})
    assert job_of(run, "prepare", undo=False).arguments["point"] == "55"
    assert job_of(a_run(Kind.UNPLANNED_FAILBACK, "12"), "prepare", undo=False).arguments["point"] == "12"
    assert job_of(a_run(Kind.FAILBACK, "12"), "prepare", undo=False).arguments["point"] == "latest"
    assert "grace_s" not in job_of(run, "start-home", undo=False).arguments
    run = with_record(run, "fence-away", undo=False, result={"reached": False})
    assert job_of(run, "start-home", undo=False).arguments == {"epoch": 8, "grace_s": 8.0}


def test_what_is_left_to_an_absent_agent_is_not_let_go_of():
    run = a_run(Kind.FINISH)
    assert any(job_id.endswith("discard-away") for _, job_id in jobs_of(run))
    run = with_record(run, "discard-away", undo=False, result={"left": True})
    assert not any(job_id.endswith("discard-away") for _, job_id in jobs_of(run))


def warm(**options):
    run = replace(a_run(Kind.UNPLANNED), options=options)
    return with_record(run, "check", undo=False, result={"claim": 4, "replica": True})


def test_an_epoch_may_be_owed_only_where_home_has_stopped_the_vm_or_the_operator_says_so():
    run = with_record(warm(), "fence", undo=False, result={"was_running": True})
    assert job_of(run, "epoch", undo=False).arguments["owe"] is True
    run = with_record(warm(), "fence", undo=False, result={"reached": False})
    told = job_of(run, "epoch", undo=False).arguments
    assert told["owe"] is False
    assert "--without-vault" in told["stuck"]
    run = with_record(warm(without_vault=True), "fence", undo=False, result={"reached": False})
    assert job_of(run, "epoch", undo=False).arguments["owe"] is True
    run = with_record(warm(from_vault=True), "fence", undo=False, result={"was_running": True})
    assert job_of(run, "epoch", undo=False).arguments["owe"] is False
    assert "owe" not in job_of(a_run(Kind.UNPLANNED), "epoch", undo=False).arguments


def test_what_was_owed_is_given_back_only_once_nobody_takes_it_any_more():
    run = begin_undo(with_record(warm(), "fence", undo=False, result={"was_running": True}))
    assert [record.name for record in run.undo][:2] == ["discard", "unowe"]
    assert job_of(run, "unowe", undo=True).arguments == {"claim": 4}
    assert job_of(run, "epoch-back", undo=True).arguments["owe"] is False
    run = with_record(run, "unowe", undo=True, state=StepState.DONE, result={"unowed": True})
    assert job_of(run, "epoch-back", undo=True).arguments["owe"] is True


OVER = {"point": 31, "unread": [32]}


@pytest.mark.parametrize("kind", [Kind.UNPLANNED, Kind.UNPLANNED_FAILBACK])
def test_what_may_be_passed_over_goes_with_every_taking_and_gives_whoever_had_the_log_time(kind):
    away = kind is Kind.UNPLANNED
    check, epoch, live = ("check", "epoch", "plug") if away else ("check-home", "epoch-home", "start-home")
    run = a_run(kind, "31")
    for reached, name in ((True, "fence"), (True, "fence-away")):
        if run.step(name):
            run = with_record(run, name, undo=False, result={"reached": reached})
    assert "passing" not in job_of(run, epoch, undo=False).arguments
    assert "grace_s" not in job_of(run, live, undo=False).arguments
    run = with_record(run, check, undo=False, result={"claim": 4, "passing": OVER, "replica": True})
    assert job_of(run, epoch, undo=False).arguments["passing"] == OVER
    assert job_of(run, live, undo=False).arguments["grace_s"] == 8.0
    # Nobody has seen how the vault is once it is back: such an epoch is not owed.
    assert not job_of(replace(run, options={"without_vault": True}), epoch, undo=False).arguments.get("owe")
    back = "epoch-back" if away else "epoch-away"
    assert job_of(begin_undo(run), back, undo=True).arguments["passing"] == OVER
    # Whoever takes over from it takes back what it did, and passes over nothing that it was not told itself.
    heir = replace(a_run(kind), options=inheritance(run))
    assert "passing" not in job_of(heir, epoch, undo=False).arguments
    assert job_of(begin_undo(heir), back, undo=True).arguments["passing"] == OVER
    # Tried again, the operator has seen how it is now.
    again = replace(run, options={"passing": {"point": 31, "unread": [32, 33]}})
    assert job_of(again, epoch, undo=False).arguments["passing"]["unread"] == [32, 33]
