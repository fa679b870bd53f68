"""Tokens and agents in the database: used once, also by two consoles at once; work goes to who comes after."""

import threading
import uuid

import pytest

from leeward.domain.errors import Refused
from leeward.state.agents import AgentRecords
from leeward.wire.jobs import Job, JobKind, JobReport, JobState
from leeward.wire.messages import DesiredState

FAR = "2999-01-01T00:00:00Z"


@pytest.fixture
def records(database):
    return AgentRecords(database)


def test_two_consoles_at_the_same_instant_let_one_host_in(records, open_database, monkeypatch):
    """Either the database takes them one after the other, or the later one finds the token taken."""
    records.add_token("t", "", FAR)
    other = AgentRecords(open_database())
    outcomes, before = [], uuid.uuid4

    def redeem(at, key, name):
        try:
            outcomes.append(at.redeem("t", key, name).name)
        except Refused as error:
            outcomes.append(error)

    rival = threading.Thread(target=redeem, args=(other, "key-1", "first"))

    def meanwhile():
        """Between looking at the token and taking it."""
        monkeypatch.setattr("leeward.state.agents.uuid.uuid4", before)
        rival.start()
        rival.join(1)
        return before()

    monkeypatch.setattr("leeward.state.agents.uuid.uuid4", meanwhile)
    redeem(records, "key-2", "second")
    rival.join()
    [name] = [outcome for outcome in outcomes if isinstance(outcome, str)]
    [refusal] = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert "used" in refusal.message
    assert [record.name for record in records.all()] == [name]


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


def test_what_was_heard_before_a_job_was_released_does_not_bring_its_picture_back(records):
    records.add_token("t", "", FAR)
    agent = records.redeem("t", "key", "office").agent_id
    for job_id in ("noted", "held"):
        records.add_job(agent, Job(id=job_id, kind=JobKind.COPY_PICTURE, vm_id="v", host="h"))
    heard = records.one(agent)
    for job_id, entry in heard.jobs.items():
        entry.report = JobReport(id=job_id, state=JobState.DONE, result={"png": "x" * 1000}, started=1.0)
    noted = heard.jobs["noted"].report
    records.release_job(agent, "noted", noted.model_copy(update={"result": {}}))
    records.save_heard([heard])
    jobs = records.one(agent).jobs
    assert (jobs["noted"].released, jobs["noted"].report.result) == (True, {})
    assert jobs["held"].report.result == {"png": "x" * 1000}


def test_old_tokens_are_cleared_away(records):
    records.add_token("old", "", "2020-01-01T00:00:00Z")
    with pytest.raises(Refused, match="expired"):
        records.redeem("old", "key", "office")
    records.add_token("new", "", FAR)
    with pytest.raises(Refused, match="does not know"):
        records.redeem("old", "key", "office")
