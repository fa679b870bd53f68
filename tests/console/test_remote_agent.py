"""Links to agents far away: what is durable, what is given when, and whose word counts."""

import json
import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from leeward.console.agent_views import view_of
from leeward.console.fleet import FleetView
from leeward.console.links import AgentLink
from leeward.console.remote_agent import RemoteAgent
from leeward.console.web.language import language_named
from leeward.domain.errors import Refused
from leeward.domain.protection import ProtectionState
from leeward.state.agents import AgentRecords
from leeward.state.database import Database
from leeward.state.tables import AgentJob, AgentRow
from leeward.wire.jobs import Job, JobKind, JobReport, JobState
from leeward.wire.messages import (
    AgentReport,
    DesiredState,
    HostReport,
    PolicyMessage,
    ProtectionMessage,
    ProtectionReport,
    StandDownMessage,
)
from leeward.wire.polls import Poll, Section, Tell

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow


class Console:
    def __init__(self, folder):
        self.url = f"sqlite:///{folder}/console.db"
        self.database = Database(self.url)
        with self.database.session() as session:
            session.add(AgentRow(id="a1", name="office", enrolled="2026-01-01T00:00:00Z"))
            session.commit()
        self.heard_of_hosts = []
        self.load()

    def load(self):
        self.records = AgentRecords(self.database)
        [record] = self.records.all()
        self.link = RemoteAgent(
            record, self.records, threading.RLock(), lambda: self.heard_of_hosts.append(self.link.name)
        )

    def restart(self, *, flush=False):
        if flush:
            self.flush()
        self.database.close()
        self.database = Database(self.url)
        self.load()

    def flush(self):
        unsaved = self.link.unsaved()
        if unsaved:
            self.records.save_heard([unsaved])


@pytest.fixture
def console(tmp_path):
    made = Console(tmp_path)
    yield made
    made.database.close()


def job(job_id):
    return Job(id=job_id, kind=JobKind.STOP, vm_id="v", host="office")


def outcome(job_id, state=JobState.DONE, **more):
    return JobReport(id=job_id, state=state, started=1.0, **more)


def poll(*held, generation=0, run="r1", **more):
    return Poll(run=run, generation=generation, held=held, **more)


def tell(number=1, *, run="r1", report=None, hosts=None, jobs=None):
    numbers = dict.fromkeys(Section, number)
    return Tell(run=run, numbers=numbers, report=report, hosts=hosts, jobs=jobs)


def facts(state=ProtectionState.ENABLED, age=1.0):
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
    )
    return AgentReport(agent="office", generation=1, time="t", protections=(protection,))


UNUSABLE = (
    "s3://office/leeward: the vault's place that was told cannot be used: the store does not answer: error 7. "
    "See that this host reaches that server"
)
HOST = HostReport(name="office", site="source", uri="x", error="", vms=())


def test_it_is_an_agent_link(console):
    link: AgentLink = console.link
    assert link.name == "office"
    assert not link.present
    assert link.report().protections == ()
    assert link.hosts() == []
    assert link.job("x") is None


def test_what_was_asked_for_survives_the_console(console):
    console.link.apply(DesiredState(generation=7))
    console.link.submit(job("j1"))
    console.restart()
    orders = console.link.orders(poll())
    assert orders.desired.generation == 7
    assert [j.id for j in orders.jobs] == ["j1"]


def test_an_older_wish_never_replaces_a_newer_one(console):
    off = StandDownMessage(vm_id="v", vm_name="web", host="office", reason="x")
    console.link.apply(DesiredState(generation=7))
    console.link.apply(DesiredState(generation=6, standdowns=(off,)))
    assert console.link.orders(poll()).desired.generation == 7
    assert console.link.orders(poll(generation=7)).desired is None
    assert console.link.orders(poll(generation=8)).desired is None
    assert "restored from a backup" in console.link.trouble


@pytest.mark.parametrize(
    ("generation", "place", "unusable", "owners", "said"),
    [
        (8, 0, "", 1, "newer desired state (8)"),
        (0, 0, UNUSABLE, 1, UNUSABLE),
        (0, 12, "", 1, "newer credentials"),
        (0, 12, UNUSABLE, 2, "same name (office)"),
    ],
)
def test_what_is_wrong_with_an_agent_is_said_in_japanese(console, generation, place, unusable, owners, said):
    console.link.orders(poll(generation=generation, place=place))
    console.link.tell(tell(report=facts().model_copy(update={"place": unusable}), hosts=(HOST,)))
    trouble = view_of(console.link, Counter({"office": owners}), 11).trouble
    assert said in trouble
    left = re.sub(r"s3://office/leeward|error 7|leeward\.toml|office", "", language_named("ja").told(trouble))
    assert not re.search("[A-Za-z]{3}", left), left


def test_the_same_wish_under_a_new_number_is_no_news(console):
    woken = []
    console.link.watch(lambda: woken.append(1))
    console.link.apply(DesiredState(generation=7))
    console.link.apply(DesiredState(generation=8))
    assert len(woken) == 1
    assert console.link.orders(poll(generation=7)).empty
    off = StandDownMessage(vm_id="v", vm_name="web", host="office", reason="x")
    console.link.apply(DesiredState(generation=9, standdowns=(off,)))
    assert console.link.orders(poll(generation=7)).desired.generation == 9


def test_jobs_are_given_in_order_until_the_agent_has_them(console):
    for job_id in ("c", "a", "b"):
        console.link.submit(job(job_id))
    assert [j.id for j in console.link.orders(poll()).jobs] == ["c", "a", "b"]
    assert [j.id for j in console.link.orders(poll("c")).jobs] == ["a", "b"]
    assert console.link.orders(poll("a", "b", "c")).empty


def test_a_finished_job_is_not_given_again_even_if_the_agent_forgot_it(console):
    console.link.submit(job("j1"))
    console.link.tell(tell(jobs=(outcome("j1"),)))
    assert console.link.orders(poll()).jobs == ()
    console.restart(flush=True)
    assert console.link.orders(poll()).jobs == ()
    assert console.link.job("j1").state is JobState.DONE


def test_an_unfinished_job_that_the_agent_lost_is_given_again(console):
    console.link.submit(job("j1"))
    console.link.tell(tell(jobs=(outcome("j1", JobState.RUNNING),)))
    assert [j.id for j in console.link.orders(poll(run="r2")).jobs] == ["j1"]


def test_an_outcome_is_final(console):
    console.link.submit(job("j1"))
    console.link.tell(tell(1, jobs=(outcome("j1", JobState.FAILED),)))
    console.link.tell(tell(2, jobs=(outcome("j1", JobState.RUNNING),)))
    assert console.link.job("j1").state is JobState.FAILED


def test_a_release_is_told_until_the_agent_has_let_go_and_the_job_never_comes_back(console):
    console.link.submit(job("j1"))
    console.link.tell(tell(jobs=(outcome("j1"),)))
    console.link.release("j1")
    console.link.release("j1")
    for _ in range(2):
        assert console.link.orders(poll("j1")).releases == ("j1",)
        console.restart()
    assert console.link.orders(poll()).empty
    console.link.submit(job("j1"))
    assert console.link.orders(poll()).empty
    assert console.link.job("j1").state is JobState.DONE


def test_jobs_that_the_console_never_knew_are_left_alone(console):
    assert console.link.orders(poll("foreign")).empty


def test_old_tombstones_are_cleared_away(console):
    console.link.submit(job("j1"))
    console.link.submit(job("j2"))
    console.link.release("j1")
    old = (datetime.now(UTC) - timedelta(days=31)).isoformat(timespec="seconds").replace("+00:00", "Z")
    with console.database.session() as session:
        session.query(AgentJob).where(AgentJob.job_id == "j1").update({"released": old})
        session.commit()
    console.records.prune_jobs()
    assert list(console.records.one("a1").jobs) == ["j2"]


def test_a_message_that_comes_late_undoes_nothing(console):
    console.link.tell(tell(2, report=facts(ProtectionState.ERROR)))
    console.link.tell(tell(1, report=facts(ProtectionState.ENABLED)))
    assert console.link.report().protections[0].state is ProtectionState.ERROR


def test_what_is_missing_is_asked_for(console):
    assert set(console.link.tell(tell(3, report=facts())).want) == {Section.HOSTS, Section.JOBS}
    assert console.link.tell(tell(3, hosts=(HOST,), jobs=())).want == ()
    console.restart(flush=True)
    assert set(console.link.orders(poll(numbers=dict.fromkeys(Section, 3))).want) == set(Section)
    assert console.link.report().protections, "what was heard before is shown meanwhile"


def test_a_new_run_begins_its_count_anew(console):
    console.link.tell(tell(9, report=facts(ProtectionState.ERROR), hosts=(), jobs=()))
    console.link.tell(tell(1, run="r2", report=facts(ProtectionState.ENABLED)))
    assert console.link.report().protections[0].state is ProtectionState.ENABLED


def test_a_former_run_is_refused(console):
    console.link.orders(poll(run="r1"))
    console.link.tell(tell(run="r2"))
    for ask in (lambda: console.link.orders(poll(run="r1")), lambda: console.link.tell(tell(run="r1"))):
        with pytest.raises(Refused, match="another agent"):
            ask()


def test_hosts_of_an_absent_agent_say_so(console):
    console.link.line_opened()
    console.link.tell(tell(hosts=(HOST,)))
    assert console.link.present
    assert console.link.hosts() == [HOST]
    assert console.heard_of_hosts == ["office"]
    console.restart(flush=True)
    [shown] = console.link.hosts()
    assert "office has not been heard of since" in shown.error
    assert console.heard_of_hosts == ["office"], "the same hosts are no news"


def test_a_present_agent_needs_a_line_and_a_word(console, monkeypatch):
    time = 1000.0
    monkeypatch.setattr("leeward.console.remote_agent.time.monotonic", lambda: time)
    console.link.line_opened()
    console.link.orders(poll())
    time += 40  # a poll is held for 20 s
    assert console.link.present
    time += 20
    assert not console.link.present
    console.link.orders(poll())
    console.link.line_closed()
    assert console.link.present, "it may be reconnecting"
    time += 4
    assert not console.link.present
    console.link.line_opened()
    console.link.orders(poll())
    console.link.revoked()
    assert not console.link.present


def test_ages_pass_also_while_the_console_is_dead(console):
    console.link.tell(tell(report=facts(age=2.0), hosts=(HOST,)))
    console.flush()
    with console.database.session() as session:
        past = (datetime.now(UTC) - timedelta(seconds=100)).isoformat(timespec="seconds").replace("+00:00", "Z")
        session.query(AgentRow).update({"heard": past})
        session.commit()
    console.restart()
    wish = ProtectionMessage(vm_id="v", vm_name="web", host="office", policy=PolicyMessage())
    assert 100 < FleetView([console.link]).protection(wish).rpo_actual_s < 110


def test_only_what_changed_is_kept(console):
    assert console.link.unsaved() is None
    console.link.tell(tell(report=facts()))
    assert console.link.unsaved() is not None
    assert console.link.unsaved() is None
    console.link.orders(poll())
    assert console.link.unsaved() is None


def test_watchers_are_woken_by_every_kind_of_news(console):
    woken = []
    forget = console.link.watch(lambda: woken.append(1))
    console.link.submit(job("j1"))
    console.link.apply(DesiredState(generation=1))
    console.link.release("j1")
    assert len(woken) == 3
    console.link.release("j1")
    console.link.submit(job("j1"))
    console.link.apply(DesiredState(generation=1))
    assert len(woken) == 3
    forget()
    console.link.submit(job("j2"))
    assert len(woken) == 3


def test_facts_of_another_version_do_not_keep_the_console_from_starting(console):
    console.link.tell(tell(report=facts(), hosts=(HOST,)))
    console.flush()
    with console.database.session() as session:
        row = session.get(AgentRow, "a1")
        row.report = json.dumps({**json.loads(row.report), "field_of_the_future": 1})
        session.commit()
    console.restart()
    assert console.link.report().protections == ()
    assert [host.name for host in console.link.hosts()] == ["office"]
