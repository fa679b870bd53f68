"""What runs have left at hosts is known to a console that starts anew, however many runs there have been since."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy.orm import Session
from tests.console.chaos import Died
from tests.console.plan_world import DB

from leeward.console.desk import Desk
from leeward.console.fleet import Fleet
from leeward.console.leftovers import LEAVES, LEFT, Leftovers, another_order
from leeward.console.remote_agent import RemoteAgent
from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, new_run, with_record
from leeward.state.agents import AgentRecords
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.state.runs import _columns
from leeward.state.tables import AgentRow, RunRow
from leeward.wire.polls import Poll


def ended(number, kind, state=RunState.DONE, **options):
    run = Run(f"r{number}", DB, "db", kind, "office", "recovery", "latest", "me", float(number), options)
    return replace(new_run(run), state=state, ended=float(number))


def write_down(database, runs):
    with Session(database._engine) as session:
        session.add_all(RunRow(id=one.id, vm_id=DB, created=one.created, version=1, **_columns(one)) for one in runs)
        session.commit()


def test_all_that_was_left_is_found_behind_thousands_of_later_runs(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    left = with_record(ended(0, Kind.FINISH), LEFT, undo=False, result={"left": True})
    gave_way = replace(ended(1, Kind.UNPLANNED, RunState.UNDONE, **{LEAVES: 1}), away="attic")
    over = with_record(ended(2, Kind.FINISH), LEFT, undo=False, result={})
    runs = [left, gave_way, over, *(ended(number, Kind.FINISH) for number in range(3, 2003))]
    write_down(database, runs)
    life = Life(DB, "db", Phase.HOME, "office", "recovery")
    found = Leftovers(database, None, lambda: None)
    assert {off.host for off in found.standdowns({DB: life})} == {"recovery", "attic"}
    assert found.places(DB) == {"attic"}
    database.close()


def test_one_more_may_come_while_the_others_are_looked_through(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    found = Leftovers(database, None, lambda: None)
    gave_way = replace(ended(1, Kind.UNPLANNED, RunState.UNDONE, **{LEAVES: 1}), away="attic")
    found.note(gave_way)

    class Lives(dict):
        def get(self, vm_id):
            found.note(replace(gave_way, id="r2", away="cellar"))
            return Life(DB, "db", Phase.HOME, "office", "recovery")

    assert [off.host for off in found.standdowns(Lives())] == ["attic"]
    assert found.places(DB) == {"attic", "cellar"}
    database.close()


def test_a_run_that_gave_way_is_brought_to_its_end_behind_thousands_of_later_ones(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    gave_way = replace(ended(0, Kind.UNPLANNED, RunState.UNDONE), ended=None)
    taken_back = [ended(number, Kind.UNPLANNED, RunState.UNDONE) for number in range(1, 2001)]
    write_down(database, [gave_way, *taken_back, ended(2001, Kind.COMMIT)])
    assert [run.id for run in database.runs.endless()] == ["r0"]
    Desk(database, Fleet(list), None).finish_giving_up()
    assert database.runs.run("r0").ended is not None
    assert database.runs.endless() == []
    assert database.runs.run("r1") == taken_back[0]
    database.close()


def test_a_console_that_dies_while_it_calls_an_order_off_gives_another_one_later(tmp_path):
    """An agent that is far away takes nothing up under an id that was let go of."""
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    gave_way = ended(1, Kind.UNPLANNED_FAILBACK, RunState.UNDONE, **{LEAVES: 1})
    at_rest = Life(DB, "db", Phase.SETTLED, "annex", "recovery", run_id="r2")
    with database.session() as session:
        session.add(AgentRow(id="a1", name="office", enrolled="2026-01-01T00:00:00Z"))
        session.commit()
    write_down(database, [gave_way])

    def console():
        (record,) = AgentRecords(database).all()
        link = RemoteAgent(record, AgentRecords(database), threading.RLock())
        return link, Leftovers(database, SimpleNamespace(link=lambda host: link), lambda: None)

    def orders(link):
        return [job.id for job in link.orders(Poll(run="x", wait_s=0, generation=0, held=(), numbers={})).jobs]

    link, first = console()
    database.lives.put(at_rest)
    first.let_go()
    assert orders(link) == ["r1/left"]
    database.lives.put(replace(at_rest, phase=Phase.FAILING_BACK, run_id="r3"))
    written = database.runs.replace

    def die(run_id, change):
        if change is another_order:
            raise Died
        return written(run_id, change)

    database.runs.replace = die
    with pytest.raises(Died):
        first.let_go()
    assert orders(link) == []
    database.runs.replace = written
    database.lives.put(at_rest)  # before the next console has looked
    link, second = console()
    second.let_go()
    assert orders(link) == ["r1/left/2"]
    database.lives.put(replace(at_rest, phase=Phase.FAILING_BACK, run_id="r4"))
    second.let_go()
    second.let_go()
    assert orders(link) == []
    database.lives.put(at_rest)
    second.let_go()
    assert orders(link) == ["r1/left/3"]
    assert database.runs.run("r1").options == {LEAVES: 3}
    database.close()
