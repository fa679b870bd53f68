"""What is told and when: changes of state at once, what moves all the time once a second, nothing twice."""

import pytest

from leeward.agent.facts import PACE_S, Facts
from leeward.console.agents_line import _LARGEST
from leeward.domain.evidence import MOST_BYTES
from leeward.domain.protection import ProtectionState
from leeward.wire.jobs import JobReport, JobState
from leeward.wire.messages import AgentReport, HostReport, ProtectionReport
from leeward.wire.polls import Section

JOB = JobReport(id="j", state=JobState.RUNNING, started=1.0)
HOST = HostReport(name="office", site="source", uri="x", error="", vms=())


def report(*, cycles=1, age=0.5, state=ProtectionState.ENABLED, time="t"):
    protection = ProtectionReport(
        vm_id="v",
        state=state,
        reason="",
        progress=None,
        rpo_target_s=5,
        rpo_actual_s=age,
        verified_at=None,
        last_point=None,
        failover_possible=True,
        cycles=cycles,
    )
    return AgentReport(agent="a", generation=1, time=time, protections=(protection,))


@pytest.fixture
def facts():
    """All told at the time 0."""
    made = Facts("run", "0.1.0")
    made.saw(report(), (), 0.0)
    made.saw_hosts([HOST])
    assert made.due(0.0)
    made.told(made.tell(), 0.0)
    assert not made.due(100.0)
    return made


def test_ages_and_clocks_are_no_news(facts):
    facts.saw(report(age=0.5 + 7.0, time="later"), (), 7.0)
    assert not facts.due(7.0)


def test_an_instant_that_moved_is_news(facts):
    facts.saw(report(age=0.2), (), 7.0)
    assert facts.due(7.0)


def test_counts_wait_for_the_pace(facts):
    facts.saw(report(cycles=2), (), 0.1)
    assert not facts.due(0.1)
    assert facts.due(PACE_S)
    assert facts.tell().report.protections[0].cycles == 2


def test_a_state_does_not_wait(facts):
    facts.saw(report(state=ProtectionState.ERROR), (), 0.1)
    assert facts.due(0.1)
    tell = facts.tell()
    assert tell.report.protections[0].state is ProtectionState.ERROR
    assert tell.hosts is None
    facts.told(tell, 0.1)
    # And what follows keeps to the pace again.
    facts.saw(report(state=ProtectionState.ERROR, cycles=3), (), 0.2)
    assert not facts.due(0.2)


def test_a_jobs_end_does_not_wait_but_its_progress_does(facts):
    facts.saw(report(), (JOB,), 0.1)
    assert facts.due(0.1)
    facts.told(facts.tell(), 0.1)
    facts.saw(report(), (JOB.model_copy(update={"progress": "half"}),), 0.2)
    assert not facts.due(0.2)
    facts.saw(report(), (JOB.model_copy(update={"state": JobState.DONE}),), 0.3)
    assert facts.due(0.3)
    assert facts.tell().report is None


def test_what_changes_while_it_is_told_is_told_next(facts):
    facts.saw(report(cycles=2), (), 5.0)
    tell = facts.tell()
    facts.saw_hosts([])
    facts.told(tell, 5.0)
    assert facts.due(6.0)
    assert facts.tell().hosts == ()
    assert facts.tell().report is None


def test_what_the_console_lost_is_told_again(facts):
    assert facts.numbers() == {Section.REPORT: 1, Section.HOSTS: 1, Section.JOBS: 1}
    facts.wanted([Section.HOSTS])
    assert facts.due(0.0)
    assert facts.tell().hosts == (HOST,)
    assert facts.tell().report is None


def test_a_failed_tell_is_told_again_whole(facts):
    facts.saw(report(cycles=2), (), 5.0)
    first = facts.tell()
    facts.saw(report(cycles=3), (), 6.0)
    second = facts.tell()
    assert second.report.protections[0].cycles == 3
    assert second.numbers[Section.REPORT] > first.numbers[Section.REPORT]


def test_pictures_never_make_a_message_that_the_console_does_not_take(facts):
    """A console that has been away finds hundreds of outcomes; what it does not take, it would not take for ever."""
    png = "x" * (MOST_BYTES * 4 // 3)
    ended = [
        JobReport(id=f"j{n}", state=JobState.DONE, result={"png": png}, started=1.0, ended=float(n))
        for n in range(200)
    ]
    facts.saw(report(), [JOB, *ended], 1.0)
    tell = facts.tell()
    assert len(tell.model_dump_json()) < _LARGEST
    assert [job.id for job in tell.jobs] == ["j", *(job.id for job in ended)], "no outcome is left out"
    assert tell.jobs[0] == JOB
    kept = [job for job in tell.jobs if "png" in job.result]
    assert kept == ended[-len(kept) :], "of older ones the console was told before"
    assert len(kept) >= 30
    assert "at once" in tell.jobs[1].result["why"]
    facts.saw(report(), ended[:20], 2.0)
    assert facts.tell().jobs == tuple(ended[:20]), "nothing is forgotten here: when there is room, all is told"
