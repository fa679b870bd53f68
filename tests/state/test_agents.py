"""Tokens and agents in the database: used once, also by two consoles at once; work goes to who comes after."""

import uuid

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


def test_two_consoles_at_the_same_instant_let_one_host_in(records, monkeypatch):
    records.add_token("t", "", FAR)
    made, before = [], uuid.uuid4

    def meanwhile():
        """Between looking at the token and taking it."""
        monkeypatch.setattr("leeward.state.agents.uuid.uuid4", before)
        made.append(records.redeem("t", "key-1", "first"))
        return before()

    monkeypatch.setattr("leeward.state.agents.uuid.uuid4", meanwhile)
    with pytest.raises(Refused, match="used just now"):
        records.redeem("t", "key-2", "second")
    assert [record.name for record in records.all()] == ["first"]
    assert records.redeem("t", "key-1", "first") == made[0]


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
