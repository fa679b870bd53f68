"""Tokens and agents in the database: used once, also by two consoles at once; work goes to who comes after."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from leeward.domain.errors import Refused
from leeward.state.agents import AgentRecords
from leeward.state.database import Database
from leeward.wire.jobs import Job, JobKind
from leeward.wire.messages import DesiredState

FAR = "2999-01-01T00:00:00Z"


@pytest.fixture
def records(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/console.db")
    yield AgentRecords(database)
    database.close()


def test_many_hosts_at_the_same_instant_and_one_is_let_in(records):
    records.add_token("t", "", FAR)
    barrier = threading.Barrier(6)

    def enrol(number):
        barrier.wait()
        try:
            return records.redeem("t", f"key-{number}", f"host-{number}")
        except Refused:
            return None

    with ThreadPoolExecutor(6) as pool:
        made = [admission for admission in pool.map(enrol, range(6)) if admission]
    assert len(made) == 1
    assert [record.name for record in records.all()] == [made[0].name]
    assert records.redeem("t", made[0].name.replace("host", "key"), made[0].name) == made[0]


def test_what_an_agent_was_to_do_is_its_successors(records):
    records.add_token("t1", "", FAR)
    first = records.redeem("t1", "key-1", "office")
    records.save_desired(first.agent_id, DesiredState(generation=9))
    records.add_job(first.agent_id, Job(id="j", kind=JobKind.STOP, vm_id="v", host="h"))
    records.add_token("t2", "office", FAR)
    second = records.redeem("t2", "key-2", "some other name")
    assert second.replaced == first.agent_id
    one = records.one(second.agent_id)
    assert (one.name, one.desired.generation, list(one.jobs)) == ("office", 9, ["j"])
    assert records.one(first.agent_id).revoked
    assert records.one(first.agent_id).jobs == {}
    # The replaced host's key and token bring it nothing.
    with pytest.raises(Refused, match="revoked"):
        records.redeem("t1", "key-1", "office")


def test_old_tokens_are_cleared_away(records):
    records.add_token("old", "", "2020-01-01T00:00:00Z")
    with pytest.raises(Refused, match="expired"):
        records.redeem("old", "key", "office")
    records.add_token("new", "", FAR)
    with pytest.raises(Refused, match="does not know"):
        records.redeem("old", "key", "office")
