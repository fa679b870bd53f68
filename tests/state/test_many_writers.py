"""Lives, runs and generations on SQLite: of several writers at once none is lost."""

import threading
import time

import pytest

from leeward.domain.errors import NotFound, Refused
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.plan_runs import PlanRun
from leeward.domain.plans import Group, Member, Plan, PlanKind
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepState, new_run, with_record
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.wire.messages import PolicyMessage, ProtectionMessage

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
HOME = Life(VM, "web", Phase.HOME, "office")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'leeward.db'}"


@pytest.fixture
def database(url):
    database = Database(url)
    yield database
    database.close()


def together(works):
    """All at once; what each returned or raised."""
    gate, found = threading.Barrier(len(works)), [None] * len(works)

    def do(number, work):
        gate.wait()
        try:
            found[number] = work()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=do, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def a_run(name="r1", kind=Kind.PLANNED, created=1.0):
    return new_run(Run(name, VM, "web", kind, "office", "recovery", "latest", "me", created, options={"force": True}))


# --- lives --------------------------------------------------------------------------------------------------


def test_of_all_who_want_to_move_a_vm_at_once_one_does(database, url):
    others = [Database(url) for _ in range(3)]
    for _ in range(5):
        found = together(
            [
                lambda other=other, number=number: other.lives.move(HOME, Event.PLANNED, run_id=f"run{number}")
                for number, other in enumerate(others)
            ]
        )
        moved = [life for life in found if isinstance(life, Life)]
        assert len(moved) == 1, found
        assert all(isinstance(error, Refused) for error in found if error is not moved[0])
        assert database.lives.get(VM) == database.lives.all()[VM]
        assert database.lives.get(VM).run_id == moved[0].run_id
        database.lives.forget(VM)
    for other in others:
        other.close()


def test_a_stale_view_moves_nothing(database):
    first = database.lives.move(HOME, Event.PLANNED, run_id="a")
    database.lives.move(first, Event.STALLED)
    with pytest.raises(Refused):
        database.lives.move(first, Event.DONE)
    assert database.lives.get(VM).phase is Phase.FAILOVER_STALLED
    with pytest.raises(Refused) as refused:
        database.lives.move(database.lives.get(VM), Event.COMMIT)
    assert "leeward failover retry web" in refused.value.hint


def test_what_was_learned_elsewhere_replaces_what_was_known(database):
    moved = database.lives.move(HOME, Event.PLANNED, run_id="a")
    database.lives.put(Life(VM, "web", Phase.AWAY, "office", "recovery"))
    with pytest.raises(Refused):
        database.lives.move(moved, Event.DONE)
    assert database.lives.get(VM).phase is Phase.AWAY


# --- runs ---------------------------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(database):
    run = with_record(a_run(), "check", undo=False, state=StepState.DONE, result={"claim": 3}, started=1.5)
    database.runs.add(run)
    assert database.runs.run("r1") == run
    with pytest.raises(NotFound):
        database.runs.run("r2")
    with pytest.raises(NotFound):
        database.runs.replace("r2", lambda run: run)


def test_changes_of_several_writers_are_all_there(database, url):
    database.runs.add(a_run())
    others = [Database(url) for _ in range(4)]

    def count(run):
        options = {**run.options, "count": run.options.get("count", 0) + 1}
        return Run(**{**{name: getattr(run, name) for name in Run.__dataclass_fields__}, "options": options})

    def many(other):
        for _ in range(20):
            other.runs.replace("r1", count)

    assert together([lambda other=other: many(other) for other in others]) == [None] * 4
    assert database.runs.run("r1").options["count"] == 80
    for other in others:
        other.close()


def test_a_change_that_raises_changes_nothing(database):
    database.runs.add(a_run())
    with pytest.raises(ZeroDivisionError):
        database.runs.replace("r1", lambda run: 1 / 0)
    assert database.runs.run("r1") == a_run()


def test_runs_are_found_newest_first(database):
    for number in range(4):
        database.runs.add(a_run(f"r{number}", created=float(number)))
    database.runs.replace("r1", lambda run: Run(**{**_fields(run), "state": RunState.STALLED}))
    assert [run.id for run in database.runs.find(vm_id=VM)] == ["r3", "r2", "r1", "r0"]
    assert [run.id for run in database.runs.find(states=(RunState.STALLED,))] == ["r1"]
    assert [run.id for run in database.runs.find(limit=1)] == ["r3"]
    assert database.runs.find(vm_id="another") == []


def _fields(run):
    return {name: getattr(run, name) for name in Run.__dataclass_fields__}


# --- what agents are told -----------------------------------------------------------------------------------


def test_no_two_changes_share_a_generation(database, url):
    others = [Database(url) for _ in range(4)]
    together([lambda other=other: [other.count() for _ in range(15)] for other in others])
    assert database.desired().generation == 60
    assert database.catch_up(100)
    assert not database.catch_up(99)
    database.count()
    assert database.desired().generation == 101
    for other in others:
        other.close()


def test_a_change_of_policy_does_not_move_a_protection(database):
    """An operator reads, a failover moves the VM, the operator writes."""
    read = ProtectionMessage(vm_id=VM, vm_name="web", host="office", claim=1)
    database.protect(read)
    assert database.move(VM, "recovery", 2)
    database.protect(read.model_copy(update={"policy": PolicyMessage(rpo_s=7), "paused": True}))
    wish = database.desired().protections[0]
    assert (wish.host, wish.claim, wish.policy.rpo_s, wish.paused) == ("recovery", 2, 7, True)
    database.unprotect(VM)
    assert not database.move(VM, "office", 3)


def test_who_only_looks_waits_for_no_writer(database, url):
    """On SQLite a writer has the whole file; readers see what was there before it began."""
    other = Database(url)
    database.runs.add(a_run())
    plan = Plan("shop", (Group("all", (Member(VM, "web"),)),))
    database.plans.begin(database.plans.add(plan), plan_run := PlanRun("plan-1", plan, PlanKind.TEST, "me", 1.0))
    began = time.monotonic()
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE counter SET value = 7")
        assert other.desired().generation == 0
        assert [kept.plan for kept in other.plans.all()] == [plan]
        assert other.plans.plan("shop").plan == plan
        assert other.plans.find() == [plan_run]
        assert other.plans.plan_run("plan-1") == plan_run
        assert other.runs.run("r1") == a_run()
        assert other.lives.all() == {}
    assert time.monotonic() - began < 5
    other.close()
