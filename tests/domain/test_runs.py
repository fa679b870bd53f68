"""What comes next in a run is a pure function of the run."""

from dataclasses import replace

import pytest

from leeward.domain.procedures import RESUMED, Kind, steps, undo_order
from leeward.domain.runs import (
    Run,
    RunState,
    StepState,
    abandon,
    ask_cancel,
    begin_undo,
    end,
    gives_way,
    inheritance,
    its_turn,
    new_run,
    next_move,
    retry,
    stall,
    unabandon,
    with_record,
)


def a_run(kind=Kind.PLANNED):
    return new_run(Run("r1", "vm", "web", kind, "office", "recovery", "latest", "me", 0.0))


def walked(run, upto, state=StepState.DONE):
    """The steps before `upto` are done, `upto` itself is in `state`."""
    for record in run.steps:
        if record.name == upto:
            return with_record(run, upto, undo=False, state=state)
        run = with_record(run, record.name, undo=False, state=StepState.DONE)
    return run


@pytest.mark.parametrize("kind", Kind)
def test_steps_are_done_in_order_and_then_it_is_over(kind):
    run, seen = a_run(kind), []
    while (move := next_move(run)).outcome is None:
        seen.append(move.name)
        run = with_record(run, move.name, undo=False, state=StepState.DONE)
    assert seen == [step.name for step in steps(kind)]
    assert move.outcome is RunState.DONE
    assert end(run, RunState.DONE, 1.0).over


@pytest.mark.parametrize("kind", Kind)
def test_undoing_takes_back_what_was_begun_and_nothing_else(kind):
    for number, step in enumerate(steps(kind)):
        run = begin_undo(walked(a_run(kind), step.name, StepState.RUNNING))
        # Nothing is owed where there is no warm replica, and nothing was left to be done of another run.
        order = tuple(name for name in undo_order(kind, number + 1) if name not in ("unowe", *RESUMED))
        assert tuple(record.name for record in run.undo) == order
        seen = []
        while (move := next_move(run)).outcome is None:
            assert move.undo
            seen.append(move.name)
            run = with_record(run, move.name, undo=True, state=StepState.DONE)
        assert (tuple(seen), move.outcome) == (order, RunState.UNDONE)


def test_what_was_taken_from_a_failover_is_brought_to_its_end_also_when_nothing_has_been_begun():
    run = replace(a_run(Kind.UNPLANNED_FAILBACK), options={"there": 4})
    assert [record.name for record in begin_undo(run).undo] == ["plug-away", "protect-away", "boot-away"]
    assert inheritance(run)["there"] == 4


def test_a_final_step_is_no_way_back_unless_it_failed():
    assert walked(a_run(), "build").reversible
    assert walked(a_run(), "start").reversible  # it runs, but nobody can see it
    assert not walked(a_run(), "plug", StepState.RUNNING).reversible
    assert not walked(a_run(), "plug").reversible
    assert walked(a_run(), "plug", StepState.FAILED).reversible
    assert not walked(a_run(), "boot", StepState.FAILED).reversible
    assert not end(walked(a_run(), "build"), RunState.UNDONE, 1.0).reversible


def test_a_wish_to_cancel_comes_before_the_next_step_as_long_as_it_can_be_heeded():
    run = walked(a_run(), "build")
    move = next_move(run)
    assert its_turn(run, run, move)
    assert not its_turn(replace(run, cancel=True), run, move)
    final = walked(a_run(), "plug", StepState.RUNNING)
    assert its_turn(replace(final, cancel=True), final, next_move(final))


def test_a_step_that_somebody_else_has_done_or_that_is_not_wanted_any_more_is_not_begun():
    run = walked(a_run(), "build")
    move = next_move(run)
    assert not its_turn(with_record(run, "start", undo=False, state=StepState.DONE), run, move)
    assert not its_turn(begin_undo(run), run, move)
    assert not its_turn(stall(run, "why"), run, move)
    assert not its_turn(retry(stall(run, "why")), run, move)
    assert not its_turn(abandon(run, "why"), run, move)


def test_stalling_and_going_on():
    failed = walked(a_run(), "epoch", StepState.FAILED)
    stalled = stall(failed, "epoch: no")
    assert (stalled.state, stalled.failure, stalled.failed_step) == (RunState.STALLED, "epoch: no", "epoch")
    again = retry(stalled, {"force": True})
    assert (again.state, again.attempt, again.failure, again.options) == (RunState.RUNNING, 2, "", {"force": True})
    assert next_move(again).name == "epoch"
    assert retry(again) is again  # two operators ask at once: it is one more try, not two


def test_a_step_that_fails_while_a_cancel_waits_turns_round_instead_of_stalling():
    run = replace(walked(a_run(), "epoch", StepState.FAILED), cancel=True)
    assert stall(run, "no").state is RunState.UNDOING
    final = replace(walked(a_run(), "boot", StepState.FAILED), cancel=True)
    stalled = stall(final, "no")
    assert (stalled.state, stalled.cancel) == (RunState.STALLED, False)  # or a retry would turn round later on


def test_asking_to_cancel():
    run = walked(a_run(), "epoch", StepState.RUNNING)
    assert ask_cancel(run).cancel
    stalled = stall(run, "no")
    undoing = ask_cancel(stalled)
    assert (undoing.state, undoing.attempt) == (RunState.UNDOING, 2)
    assert ask_cancel(undoing) is undoing
    started = walked(a_run(), "plug")
    assert ask_cancel(started) is started
    over = end(run, RunState.DONE, 1.0)
    assert ask_cancel(over) is over
    assert abandon(over, "why") is over


def test_an_undo_that_stalled_goes_on_backwards():
    undoing = begin_undo(walked(a_run(), "epoch"))
    failed = with_record(undoing, "epoch-back", undo=True, state=StepState.FAILED)
    stalled = stall(failed, "epoch-back: no")
    assert stalled.failed_step == "epoch-back"
    assert retry(stalled).state is RunState.UNDOING
    assert next_move(retry(stalled)).name == "epoch-back"


def test_who_gives_way_to_an_unplanned_failover():
    """Who still needs its home, and has begun nothing elsewhere that runs."""
    assert gives_way(walked(a_run(), "stop", StepState.RUNNING))
    assert gives_way(stall(walked(a_run(), "last-cycle", StepState.FAILED), "no"))
    assert not gives_way(walked(a_run(), "epoch", StepState.RUNNING))
    assert gives_way(begin_undo(walked(a_run(), "build")))
    assert not gives_way(walked(a_run(Kind.UNPLANNED), "fence", StepState.RUNNING))
    assert gives_way(begin_undo(walked(a_run(Kind.UNPLANNED), "build")))
    assert not gives_way(begin_undo(walked(a_run(), "plug", StepState.FAILED)))  # what may run there comes first
    assert not gives_way(end(a_run(), RunState.DONE, 1.0))


def test_who_takes_over_can_take_back_what_it_inherited():
    planned = with_record(walked(a_run(), "build"), "check", undo=False, result={"claim": 4})
    heritage = inheritance(begin_undo(planned))
    assert heritage == {"after": ["r1"], "inherited_claim": 4}
    heir = replace(a_run(Kind.UNPLANNED), id="r2", options=heritage)
    assert tuple(record.name for record in begin_undo(heir).undo) == ("epoch-back", "stand-up", "restart", "discard")
    assert inheritance(begin_undo(heir)) == {"after": ["r1", "r2"], "inherited_claim": 4}
    assert inheritance(a_run()) == {}


def test_what_a_last_step_that_failed_may_have_left_is_cleared_first_also_by_whoever_took_over():
    fresh = with_record(a_run(Kind.UNPLANNED_FAILBACK), "check-home", undo=False, result={"claim": 4})
    run = walked(fresh, "start-home", StepState.FAILED)
    first = begin_undo(run).undo[0].name
    heir = replace(a_run(Kind.UNPLANNED_FAILBACK), id="r2", options=inheritance(begin_undo(run)))
    later = replace(heir, id="r3", options=inheritance(begin_undo(heir)))
    assert [begin_undo(one).undo[0].name for one in (heir, later)] == [first, first] == ["revert", "revert"]
    before = inheritance(begin_undo(walked(fresh, "switch")))
    assert begin_undo(replace(heir, options=before)).undo[-1].name == "revert"


def test_an_abandoned_run_whose_heir_never_came_waits_for_the_operator():
    abandoned = abandon(walked(a_run(), "stop"), "why")
    assert unabandon(abandoned).state is RunState.STALLED
    ended = replace(abandoned, ended=1.0)
    assert unabandon(ended) is ended
    running = a_run()
    assert unabandon(running) is running
