"""Lists of runs are made of a few questions to the database, however many runs there are."""

from dataclasses import replace

import pytest
from sqlalchemy import event

from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepRecord, StepState
from leeward.state.lives import Life


def a_run(number, state):
    return Run(f"run{number}", f"vm{number}", f"vm{number}", Kind.TEST, "office", "recovery", "latest", "anna",
               float(number), {}, state)  # fmt: skip


@pytest.fixture
def asked(world):
    """Statements that were sent since the last clear()."""
    found = []
    engine = world.database.runs._engine
    listener = lambda *given: found.append(given[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)
    yield found
    event.remove(engine, "before_cursor_execute", listener)


@pytest.mark.parametrize("which", ["runs", "open_runs"])
def test_it_costs_as_much_to_show_many_runs_as_few(world, asked, which):
    for number in range(40):
        world.database.runs.add(a_run(number, RunState.STALLED))
    world.database.lives.put(Life("vm7", "vm7", Phase.AWAY, "office", "recovery"))
    show = {"runs": lambda most: world.service.runs(None, most), "open_runs": world.service.open_runs}[which]
    asked.clear()
    few = show(2)
    cost = len(asked)
    asked.clear()
    many = show(40)
    assert (len(few), len(many)) == (2, 40)
    assert len(asked) == cost <= 4
    assert {run.vm: run.phase for run in many if run.phase != "home"} == {"vm7": "away"}


def test_open_runs_are_those_that_are_not_over(world):
    for number, state in enumerate(RunState):
        world.database.runs.add(a_run(number, state))
    assert [run.state for run in world.service.open_runs()] == ["undoing", "stalled", "running"]


@pytest.mark.parametrize(("state", "shown"), [(RunState.UNDONE, "waiting"), (RunState.RUNNING, "running")])
def test_of_a_run_that_is_over_no_step_is_under_way(world, state, shown):
    steps = (StepRecord("boot", StepState.DONE), StepRecord("start", StepState.RUNNING))
    world.database.runs.add(replace(a_run(1, state), steps=steps))
    assert [step.state for step in world.service.run("run1").steps] == ["done", shown]
