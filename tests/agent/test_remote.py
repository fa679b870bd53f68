"""The line between a real agent and a real console, over TLS: facts out, orders in, and whatever may go wrong."""

import random
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.console.stand import VM, Host, Stand, faulty_line, job, until, wish
from tests.loopback import free_port

from leeward.agent.identity import identity_stamp, key_pem, load_identity, new_key, save_identity, signing_request
from leeward.agent.remote import AgentClient
from leeward.console.authority import Authority
from leeward.console.fleet import FleetView
from leeward.domain.protection import ProtectionState
from leeward.wire.jobs import JobState
from leeward.wire.messages import WIRE_VERSION

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow


def protection(link):
    return next(iter(link.report().protections), None)


def test_a_vm_is_protected_from_afar(stand, host):
    assert stand.link.present
    [shown] = until(stand.link.hosts)
    assert (shown.name, [vm.name for vm in shown.vms]) == ("office", ["web"])
    stand.link.apply(wish(1))
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.ENABLED)
    assert stand.link.report().generation == 1
    assert protection(stand.link).last_point.id
    host.vm.write("vda", 0, b"x" * 65536)
    before = protection(stand.link).last_point.id
    until(lambda: protection(stand.link).last_point.id != before)


def test_facts_are_told_within_a_second(stand, host):
    stand.link.apply(wish(1))
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.ENABLED)
    delays = []
    for generation in range(2, 8):
        paused = generation % 2 == 0
        state = ProtectionState.PAUSED if paused else ProtectionState.ENABLED
        host.local.apply(wish(generation, paused=paused))  # not by the console: it is to hear of it
        until(lambda state=state: host.local.report().protections[0].state is state, every_s=0.002)
        began = time.monotonic()
        until(lambda state=state: protection(stand.link).state is state, every_s=0.002)
        delays.append(time.monotonic() - began)
    assert max(delays) < 1.0, delays


@pytest.mark.slow
def test_nothing_is_told_while_nothing_changes(stand, host, monkeypatch):
    stand.link.apply(wish(1, paused=True))
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.PAUSED)
    time.sleep(1.5)
    told = []
    link, tell = stand.link, stand.link.tell
    monkeypatch.setattr(link, "tell", lambda message: told.append(message) or tell(message))
    time.sleep(2.5)
    assert told == []
    assert link.present


def test_ages_grow_at_the_console_without_being_told(stand, host):
    stand.link.apply(wish(1))
    until(lambda: protection(stand.link) and protection(stand.link).rpo_actual_s is not None)
    host.client.stop()

    def age():
        return FleetView([stand.link]).protection(wish(1).protections[0]).rpo_actual_s

    first = age()
    time.sleep(0.5)
    assert 0.4 < age() - first < 2


def test_a_job_is_done_once_and_forgotten_when_let_go(stand, host):
    began = time.monotonic()
    stand.link.submit(job("j1"))
    stand.link.submit(job("j1"))
    report = until(lambda: (r := stand.link.job("j1")) and r.state is JobState.DONE and r)
    assert time.monotonic() - began < 5
    assert report.result == {"order": 1}
    stand.link.release("j1")
    until(lambda: not host.jobs.jobs())
    stand.link.submit(job("j1"))  # the same id again changes nothing, also after its time
    stand.link.submit(job("j2"))
    until(lambda: (r := stand.link.job("j2")) and r.state is JobState.DONE)
    assert host.done == ["j1", "j2"]


def test_a_job_let_go_while_under_way_ends_without_a_storm_of_polls(stand, host, monkeypatch):
    host.gate.clear()
    stand.link.submit(job("j1"))
    until(lambda: (r := stand.link.job("j1")) and r.progress == "waiting at the gate")
    # A task that looks away for a while, so that the job is there though it was let go of.
    asked = []
    link, orders = stand.link, stand.link.orders
    monkeypatch.setattr(link, "orders", lambda poll: asked.append(poll) or orders(poll))
    monkeypatch.setattr(host.jobs, "release", lambda job_id: None)
    link.release("j1")
    time.sleep(1.5)
    assert len(asked) < 8, len(asked)
    assert host.done == []


def test_a_console_that_is_away_stops_nothing(stand, host):
    stand.link.apply(wish(1))
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.ENABLED)
    stand.link.submit(job("j1"))
    until(lambda: (r := stand.link.job("j1")) and r.state is JobState.DONE)
    stand.close()
    assert until(lambda: host.status()["state"] == "unavailable" and host.status()["reason"])
    before = host.points()
    host.vm.write("vda", 0, b"y" * 65536)
    until(lambda: host.points() > before)
    stand.open()
    # What the console knew it knows still, before anybody has told it anything.
    assert stand.link.report().protections[0].vm_id == VM
    assert stand.link.job("j1").state is JobState.DONE
    until(lambda: stand.link.present)
    newest = max(int(point.id) for point in host.vault.log(VM).points())
    until(lambda: int(protection(stand.link).last_point.id) >= newest)
    assert host.done == ["j1"], "known jobs are not given again"


def test_orders_given_while_the_line_is_down_arrive_when_it_is_up(stand, make_host):
    host = make_host()
    host.enrol(stand.token())
    stand.link.submit(job("early"))
    stand.link.apply(wish(4))
    stand.close()
    stand.open()
    host.start()
    until(lambda: host.done == ["early"] and host.local.report().generation == 4)


def test_an_agent_that_restarts_goes_on_by_itself_and_does_nothing_twice(stand, host):
    stand.link.apply(wish(1))
    stand.link.submit(job("j1"))
    until(lambda: (r := stand.link.job("j1")) and r.state is JobState.DONE)
    host.stop()
    until(lambda: not stand.link.present)
    assert "not been heard of" in stand.link.hosts()[0].error
    host.start()
    until(lambda: stand.link.present)
    until(lambda: stand.link.hosts()[0].error == "")
    stand.link.submit(job("j2"))
    until(lambda: (r := stand.link.job("j2")) and r.state is JobState.DONE)
    assert host.done == ["j1", "j2"]


@pytest.mark.slow
def test_a_line_that_breaks_all_the_time_loses_nothing_and_does_nothing_twice(stand, make_host):
    rng = random.Random(7)
    host = make_host()
    host.enrol(stand.token())
    with faulty_line(stand.port, rng, mean_bytes=5_000) as (port, breaks):
        host.start(console=f"https://127.0.0.1:{port}", hold_s=1.0)
        ids = [f"job-{number}" for number in range(25)]
        for generation, job_id in enumerate(ids, 1):
            stand.link.submit(job(job_id))
            stand.link.apply(wish(generation, paused=True, retain_s=60 + generation))
            time.sleep(rng.uniform(0, 0.3))
        for job_id in ids:
            until(lambda job_id=job_id: (r := stand.link.job(job_id)) and r.state is JobState.DONE, 60)
            stand.link.release(job_id)
        until(lambda: not host.jobs.jobs(), 30)
        until(lambda: stand.link.report().generation == len(ids), 30)
        assert len(breaks) > 8, "the line was too good to prove anything"
    assert sorted(host.done) == sorted(ids)


def test_hosts_becoming_known_are_made_known(stand, host):
    until(lambda: stand.spread)
    before = len(stand.spread)
    host.stop()
    host.start()
    until(lambda: stand.link.present)
    time.sleep(1.5)
    assert len(stand.spread) == before, "the same hosts as before are no news"


# --- being refused ------------------------------------------------------------------------------------


def test_a_revoked_agent_is_refused_at_once_and_replicates_on(stand, host):
    stand.link.apply(wish(1))
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.ENABLED)
    link = stand.link
    began = time.monotonic()
    stand.agents.revoke("office")
    assert "revoked" in host.refused()
    assert time.monotonic() - began < 3, "a held poll must not keep a revoked agent"
    assert stand.agents.links() == []
    until(lambda: not link.present)
    before = host.points()
    host.vm.write("vda", 0, b"z" * 65536)
    until(lambda: host.points() > before)
    # With a token of the same name it comes back, without being started anew.
    host.enrol(stand.token(name="office"))
    host.connected()
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.ENABLED)


def test_a_host_set_up_anew_takes_its_place_over(stand, host, make_host, tmp_path):
    link = stand.link
    host.gate.clear()
    link.apply(wish(3, paused=True))
    link.submit(job("open"))
    until(lambda: link.job("open"))
    host.stop()
    anew = Host(tmp_path / "anew", "office")
    anew.enrol(stand.token(name="office"))
    assert stand.link is link, "who holds the link need not care"
    try:
        anew.start()
        until(lambda: anew.done == ["open"] and anew.local.report().generation == 3)
        host.gate.set()
        host.start()
        assert "replaced" in host.refused()
        assert link.present
    finally:
        anew.stop()


def test_an_unknown_agent_is_refused_with_a_reason(stand, make_host, make_stand):
    host = make_host()
    host.enrol(stand.token())
    stand.close()
    (stand.folder / "console.db").unlink()
    stand.open()
    host.start()
    assert "does not know this agent" in host.refused()


def test_an_expired_certificate_is_refused_with_a_reason(stand, make_host, monkeypatch):
    host = make_host()
    host.enrol(stand.token())

    class Later(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(days=91)

    monkeypatch.setattr("leeward.console.agents.datetime", Later)
    host.start()
    assert "the certificate expired at" in host.refused()


def test_a_console_with_another_authority_is_not_believed(stand, host):
    stand.close()
    (stand.folder / "authority" / "authority.pem").unlink()
    stand.open()
    assert "not the console that this host enrolled with" in host.refused(20)


def test_a_certificate_of_another_authority_is_refused_with_a_reason(stand, make_host, tmp_path):
    host = make_host()
    identity = host.enrol(stand.token())
    key = new_key()
    foreign = Authority.open(tmp_path / "foreign").issue_agent(signing_request(key).encode(), identity.agent_id)
    save_identity(host.folder, replace(identity, certificate=foreign.decode(), key=key_pem(key)))
    host.start()
    assert "does not take this host's certificate" in host.refused(20)
    assert not stand.link.present


def test_another_version_is_refused_with_a_reason(stand, host, monkeypatch):
    stand.link.apply(wish(1))
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.ENABLED)
    for name in ("WIRE_VERSION", "OLDEST_VERSION"):
        monkeypatch.setattr(f"leeward.console.agents_line.{name}", WIRE_VERSION + 1)
    stand.link.wake()
    stand.link.submit(job("j1"))
    reason = host.refused()
    assert f"agent speaks version {WIRE_VERSION} " in reason
    assert f"console version {WIRE_VERSION + 1}" in reason
    before = host.points()
    host.vm.write("vda", 0, b"z" * 65536)
    until(lambda: host.points() > before)


def test_of_two_agents_with_one_certificate_only_the_later_one_is_heard(stand, host):
    copy = AgentClient(host.folder, host.local)
    copy.start()
    try:
        assert "another agent with this certificate" in host.refused()
        assert stand.link.present
    finally:
        copy.stop()


# --- identities ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_certificates_are_renewed_by_the_agent_itself(make_stand, make_host):
    stand = make_stand(certificate_days=6 / 86_400)
    host = make_host()
    host.enrol(stand.token())
    seen = {load_identity(host.folder).key}
    host.start(hold_s=0.5)
    ends = time.monotonic() + 14
    while time.monotonic() < ends:
        seen.add(load_identity(host.folder).key)
        assert host.status()["state"] in ("connecting", "connected"), host.status()
        time.sleep(0.1)
    assert len(seen) >= 3, "at two thirds of 6 s there is a new key"
    assert load_identity(host.folder).expires > datetime.now(UTC)
    assert stand.link.expires > datetime.now(UTC)


def test_a_running_agent_takes_up_its_first_identity(stand, make_host):
    host = make_host()
    host.start()
    until(lambda: host.status()["state"] == "unenrolled")
    host.enrol(stand.token())
    host.connected()


def test_a_damaged_identity_does_not_end_replication(stand, host):
    stand.link.apply(wish(1))
    until(lambda: protection(stand.link) and protection(stand.link).state is ProtectionState.ENABLED)
    path = host.folder / "identity" / "identity.json"
    path.write_text(path.read_text()[:200])
    assert identity_stamp(host.folder) != (0, 0)
    stand.link.wake()
    stand.link.submit(job("j1"))
    until(lambda: "identity cannot be read" in host.status()["reason"])
    before = host.points()
    host.vm.write("vda", 0, b"z" * 65536)
    until(lambda: host.points() > before)


def test_clocks_may_differ_by_years(tmp_path, make_host, monkeypatch):
    class Early(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(days=3650)

    # A console whose clock is ten years ahead: what it certifies begins in the agent's future.
    for module in ("authority", "agents", "agents_line", "remote_agent"):
        monkeypatch.setattr(f"leeward.console.{module}.datetime", Early)
    monkeypatch.setattr("leeward.state.agents.now", lambda: "2036-01-01T00:00:00Z")
    stand = Stand(tmp_path / "console")
    host = make_host()
    try:
        host.enrol(stand.token(expires_s=30 * 86_400))
        host.start()
        host.connected()
        until(lambda: stand.link.present)
    finally:
        host.stop()
        stand.close()


def test_stopping_does_not_wait_for_a_held_poll(stand, host):
    began = time.monotonic()
    host.client.stop()
    assert time.monotonic() - began < 2
    assert not [thread for thread in threading.enumerate() if thread.name in ("poll", "tell", "hosts")]
    host.client = None
    host.jobs.stop(1)
    host.agent.stop()


# --- several consoles on one database -----------------------------------------------------------------------


def test_an_agent_finds_the_console_that_has_taken_over(make_stand, make_host):
    """It was told of it while the first one worked, and remembers it through a restart of its own."""
    ports = []
    both = lambda: tuple(f"https://127.0.0.1:{port}" for port in ports)  # noqa: E731
    first = make_stand(consoles=both)
    ports += [first.port, free_port()]
    host = make_host()
    host.enrol(first.token())
    host.start()
    host.connected()
    until(lambda: load_identity(host.folder).consoles == both())
    first.link.submit(job("one"))
    until(lambda: first.link.job("one") and first.link.job("one").state is JobState.DONE)
    host.stop()
    first.close()
    second = Stand(first.folder, port=ports[1], consoles=both)  # on the same database
    try:
        host.start()
        until(lambda: second.link.present)
        second.link.submit(job("two"))
        until(lambda: second.link.job("two") and second.link.job("two").state is JobState.DONE)
        assert host.done == ["one", "two"]
        assert host.status()["console"] == both()[1]
    finally:
        second.close()
        first.open()


def test_a_frozen_console_is_turned_away_from(make_stand, make_host, monkeypatch):
    """It takes connections, since its kernel does, and says nothing."""
    monkeypatch.setattr("leeward.agent.remote._SEVERAL_CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        ports = [frozen.getsockname()[1]]
        both = lambda: tuple(f"https://127.0.0.1:{port}" for port in ports)  # noqa: E731
        stand = make_stand(consoles=both)
        ports.append(stand.port)
        host = make_host()
        host.enrol(stand.token(), "office")
        host.start(console=",".join(both()))
        host.connected()
        assert host.status()["console"] == both()[1]


def test_a_token_names_all_consoles_and_the_one_that_works_is_found(make_stand, make_host):
    ports = [free_port()]
    stand = make_stand(consoles=lambda: tuple(f"https://127.0.0.1:{port}" for port in ports))
    ports.append(stand.port)
    host = make_host()
    identity = host.enrol(stand.token())
    assert identity.console == stand.address
    assert set(identity.consoles) == {f"https://127.0.0.1:{port}" for port in ports}
    host.start()
    host.connected()
