"""A VM's phase follows its run, whatever either was when one of them was looked at last."""

from dataclasses import replace

import pytest

from leeward.console.checks import in_the_way
from leeward.console.desk import closed_to_away, closed_to_home, kept_off, leading
from leeward.console.leftovers import left_off
from leeward.domain.lifecycle import Phase, after
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepState, begin_undo, end, new_run, stall, with_record
from leeward.state.lives import Life

# Phases in which a run of each kind can be found under way, and where it ends.
ENDS = {
    Kind.PLANNED: (Phase.FAILING_OVER, Phase.FAILOVER_STALLED, Phase.FAILOVER_UNDOING, Phase.AWAY, Phase.HOME),
    Kind.UNPLANNED_FAILBACK: (
        Phase.FAILING_BACK,
        Phase.FAILBACK_STALLED,
        Phase.FAILBACK_UNDOING,
        Phase.BACK,
        Phase.SETTLED,
    ),
    Kind.FAILBACK: (Phase.FAILING_BACK, Phase.FAILBACK_STALLED, Phase.FAILBACK_UNDOING, Phase.BACK, Phase.SETTLED),
}


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("state", RunState)
def test_whatever_was_missed_the_phase_gets_to_where_the_run_is(kind, number, state):
    going, stalled, undoing, done, undone = ENDS[kind]
    phase = ENDS[kind][number]
    if phase is undoing and state in (RunState.RUNNING, RunState.DONE):
        return  # a run that turned round never goes forward again
    wanted = {
        RunState.RUNNING: going,
        RunState.STALLED: stalled,
        RunState.UNDOING: undoing,
        RunState.DONE: done,
        RunState.UNDONE: undone,
    }[state]
    for event in leading(phase, state):
        phase = after(phase, event)
        assert isinstance(phase, Phase), (event, phase)
    assert phase is wanted


@pytest.mark.parametrize(
    ("phase", "state", "wanted"),
    [
        (Phase.COMMITTING, RunState.DONE, Phase.SETTLED),
        (Phase.COMMITTING, RunState.STALLED, Phase.AWAY),
        (Phase.FINISHING, RunState.DONE, Phase.HOME),
        (Phase.FINISHING, RunState.STALLED, Phase.BACK),
        (Phase.COMMITTING, RunState.RUNNING, Phase.COMMITTING),
    ],
)
def test_commits(phase, state, wanted):
    for event in leading(phase, state):
        phase = after(phase, event)
    assert phase is wanted


def a_run(kind=Kind.UNPLANNED):
    return new_run(Run("r", "vm", "web", kind, "office", "recovery", "latest", "me", 0.0))


def test_home_is_kept_off_from_the_moment_its_log_is_closed_until_that_is_taken_back():
    life = Life("vm", "web", Phase.FAILING_OVER, "office", "recovery", run_id="r")
    run = a_run()
    assert not closed_to_home(run)
    for earlier in ("check", "fence"):
        run = with_record(run, earlier, undo=False, state=StepState.DONE)
    taken = with_record(run, "epoch", undo=False, state=StepState.DONE, result={"epoch": 2})
    assert closed_to_home(taken)
    assert closed_to_home(stall(taken, "no"))
    assert not closed_to_home(begin_undo(taken))
    assert not closed_to_home(stall(begin_undo(taken), "no"))
    assert not closed_to_home(end(taken, RunState.UNDONE, 1.0))
    assert kept_off(life) == []
    assert [(off.host, off.reason) for off in kept_off(life, closed=True)] == [("office", "it runs at recovery")]


def test_a_dead_recovery_site_is_kept_off_from_the_moment_its_log_is_closed():
    life = Life("vm", "web", Phase.FAILING_BACK, "office", "recovery", run_id="r")
    run = a_run(Kind.UNPLANNED_FAILBACK)
    assert not closed_to_away(run)
    assert not closed_to_away(a_run(Kind.FAILBACK))
    for earlier in ("check-home", "fence-away"):
        run = with_record(run, earlier, undo=False, state=StepState.DONE)
    taken = with_record(run, "epoch-home", undo=False, state=StepState.DONE, result={"epoch": 3})
    assert closed_to_away(taken)
    assert not closed_to_away(begin_undo(taken))
    assert [(off.host, off.reason) for off in kept_off(life, back=True)] == [("recovery", "it runs at office")]


@pytest.mark.parametrize("phase", Phase)
def test_the_other_site_is_kept_off_wherever_the_vm_is_at_rest(phase):
    life = Life("vm", "web", phase, "office", "recovery")
    hosts = [off.host for off in kept_off(life)]
    wanted = {
        Phase.AWAY: ["office"],
        Phase.COMMITTING: ["office"],
        Phase.SETTLED: ["office"],
        Phase.BACK: ["recovery"],
        Phase.FINISHING: ["recovery"],
    }
    assert hosts == wanted.get(phase, [])


def test_copies_of_earlier_failovers_are_in_the_way_where_their_host_answers():
    run = a_run()
    assert in_the_way([], run) == ""
    assert in_the_way(["third"], run) == "third"
    assert in_the_way(["recovery"], run) == "recovery"
    heir = replace(run, options={"after": ["r0"]})
    assert in_the_way(["recovery"], heir) == ""
    assert in_the_way(["recovery", "third"], heir) == "third"
    assert in_the_way(["recovery", "third"], run, {"third"}) == "recovery"
    assert in_the_way(["recovery", "third"], run, {"recovery", "third"}) == ""


def test_what_is_left_somewhere_is_kept_off_there_unless_the_vm_is_going_there_again():
    run = a_run(Kind.FINISH)
    found = {
        (phase, away): [off.host for off in left_off([run], {"vm": Life("vm", "web", phase, "office", away)})]
        for phase in (Phase.HOME, Phase.FAILING_OVER, Phase.AWAY)
        for away in ("recovery", "attic")
    }
    assert [where for where, hosts in found.items() if hosts != ["recovery"]] == [
        (Phase.FAILING_OVER, "recovery"),
        (Phase.AWAY, "recovery"),
    ]
    assert left_off([run], {}) == []
