"""Where VMs stand, and runs, on both databases: nothing is lost between two consoles."""

import time
from dataclasses import replace

import pytest
from tests.state.test_accounts import together

from leeward.domain.errors import NotFound, Refused
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepRecord, StepState
from leeward.state.lives import Life
from leeward.wire.messages import ProtectionMessage

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
HOME = Life(VM, "web", Phase.HOME, "office")


def run(number, state=RunState.RUNNING):
    steps = (StepRecord("check"), StepRecord("stop"))
    return Run(
        f"run{number}", VM, "web", Kind.PLANNED, "office", "away", "latest", "anna", 1.5 + number, {}, state, steps
    )


def test_one_of_two_consoles_moves_a_vm(open_database):
    one, two = open_database(), open_database()
    results = together(
        lambda: one.lives.move(HOME, Event.PLANNED, away="a", run_id="1"),
        lambda: two.lives.move(HOME, Event.PLANNED, away="b", run_id="2"),
    )
    assert len([result for result in results if isinstance(result, Refused)]) == 1, results
    life = one.lives.get(VM)
    assert (life.phase, life.version) == (Phase.FAILING_OVER, 1)
    assert (life.away, life.run_id) in (("a", "1"), ("b", "2"))
    assert two.lives.all() == {VM: life}
    with pytest.raises(Refused):
        two.lives.move(HOME, Event.PLANNED)
    moved = two.lives.move(life, Event.DONE, definition="<domain/>")
    assert one.lives.get(VM).definition == "<domain/>"
    one.lives.put(moved)
    assert one.lives.get(VM).version == 3
    one.lives.forget(VM)
    assert two.lives.get(VM) is None


def test_steps_written_by_several_at_once_are_all_kept(open_database):
    one, two = open_database(), open_database()
    one.runs.add(run(1))

    def write(database, name, number):
        return lambda: database.runs.record("run1", name, undo=False, detail=f"{name}{number}")

    together(*(write(*who, number) for who in ((one, "check"), (two, "stop")) for number in range(4)))
    steps = {step.name: step.detail[:-1] for step in two.runs.run("run1").steps}
    assert steps == {"check": "check", "stop": "stop"}
    changed = one.runs.record("run1", "check", undo=False, state=StepState.DONE, result={"epoch": 7})
    assert two.runs.run("run1") == changed
    with pytest.raises(NotFound):
        one.runs.run("nope")


def test_runs_are_found(database):
    for number in range(4):
        database.runs.add(run(number, RunState.DONE if number % 2 else RunState.RUNNING))
    assert [found.id for found in database.runs.find(limit=3)] == ["run3", "run2", "run1"]
    assert [found.id for found in database.runs.find(states=[RunState.RUNNING])] == ["run2", "run0"]
    assert database.runs.find(vm_id="another") == []
    database.runs.replace("run1", lambda now: replace(now, options={"le_ves": 1}))
    database.runs.record("run2", "stop", undo=False, result={"left": True})
    database.runs.record("run3", "stop", undo=False, detail='"leaves: 1", as "left" it')
    assert [found.id for found in database.runs.find(naming=("left", "le_ves"), limit=None)] == ["run2", "run1"]
    assert database.runs.find(naming=("leaves",)) == []


def test_the_newest_of_each_vm_is_found_however_long_ago(database):
    other = "00000000-0000-0000-0000-000000000001"
    old = replace(run(0, RunState.DONE), kind=Kind.TEST, ended=9.0)
    database.runs.add(replace(old, id="other", vm_id=other, created=0.5))
    for number in range(1, 4):
        database.runs.add(replace(old, id=f"t{number}", created=float(number), ended=number + 0.5))
    database.runs.add(replace(old, id="stalled", created=9.0, state=RunState.STALLED))
    database.runs.add(run(10, RunState.DONE))
    assert sorted(found.id for found in database.runs.newest(Kind.TEST, RunState.DONE)) == ["other", "t3"]
    assert database.runs.newest(Kind.FAILBACK, RunState.DONE) == []
    assert database.runs.counts() == {("test", "done"): 4, ("test", "stalled"): 1, ("planned", "done"): 1}


def test_since_when_a_vm_is_protected_does_not_change_with_its_policy(database):
    wish = ProtectionMessage(vm_id=VM, vm_name="web", host="office")
    database.protect(wish)
    since = database.protected_since()
    assert abs(since[VM] - time.time()) < 30
    database.protect(wish.model_copy(update={"paused": True}))
    database.move(VM, "away", 3)
    assert database.protected_since() == since


def test_runs_that_are_not_over_are_found(database):
    for number, state in enumerate(RunState):
        database.runs.add(run(number, state))
    unfinished = [found.state for found in database.runs.unfinished()]
    assert unfinished == [
        state for state in reversed(list(RunState)) if state not in (RunState.DONE, RunState.UNDONE)
    ]
    assert database.runs.unfinished("another") == []
    assert len(database.runs.unfinished(limit=1)) == 1


def test_runs_that_gave_way_and_have_no_end_are_found_by_themselves(database):
    steps = (StepRecord("check", StepState.DONE, 1.0, 2.0), StepRecord("stop"))
    for number, end in ((0, None), (1, 9.0), (2, None)):
        database.runs.add(replace(run(number, RunState.UNDONE), steps=steps, ended=end))
    database.runs.add(run(3))
    assert [found.id for found in database.runs.endless()] == ["run2", "run0"]


def test_phases_are_of_those_that_are_asked_for(database):
    for name, phase in (("a", Phase.AWAY), ("b", Phase.SETTLED), ("c", Phase.BACK)):
        database.lives.put(Life(name, name, phase, "office"))
    assert database.lives.phases({"a", "c", "never moved"}) == {"a": Phase.AWAY, "c": Phase.BACK}
    assert database.lives.phases(()) == {}
