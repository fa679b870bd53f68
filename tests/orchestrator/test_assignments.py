"""Which job a step is: given where, with what, and under which name."""

from dataclasses import replace

import pytest

from leeward.domain.procedures import Kind, steps, undo_order
from leeward.domain.runs import Run, StepState, new_run, with_record
from leeward.orchestrator.assignments import job_of, jobs_of
from leeward.wire.jobs import JobKind

RESULTS = {
    "check": {"claim": 4, "definition": "<vm/>"},
    "check-home": {"claim": 7, "definition": "<vm/>"},
    "epoch": {"epoch": 5, "point": "33"},
    "epoch-home": {"epoch": 8},
    "last-cycle-away": {"point": "44"},
}
CONSOLE = {"check", "protect", "check-home", "protect-home"}


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
        assert job_of(run, name, undo=True) is not None


@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.UNPLANNED, Kind.FAILBACK, Kind.FINISH])
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
