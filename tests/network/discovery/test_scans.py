"""Scans as the console and the command run them, over strangers on loopback; the name service is the only fake."""

import asyncio
import socket
import threading
import time
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise

import pytest
from tests.network.discovery import strangers as st

from leeward.domain.errors import BadInput, NotFound, Refused, Unavailable
from leeward.network.discovery import looking_up
from leeward.network.discovery.knocking import Knock, Outcome
from leeward.network.discovery.pace import DEFAULT, Pace
from leeward.network.discovery.scanning import order, scan
from leeward.network.discovery.scans import Scans, State
from leeward.network.discovery.signs import DOORS, Door, Role, Speech

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow

HOME = "127.0.0.1"
PATIENT = Pace(talk_s=30)


def wait(scans, scan_id, seconds=10):
    ends = time.monotonic() + seconds
    while (look := scans.look(scan_id)).state is State.RUNNING:
        assert time.monotonic() < ends, look
        time.sleep(0.01)
    return look


def wait_until(condition, seconds=5):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture
def free_port():
    with socket.socket() as sock:
        sock.bind((HOME, 0))
        yield sock.getsockname()[1]


class Recorder:
    def __init__(self):
        self.results = []

    def knocked(self, address, door, result):
        self.results.append((time.monotonic(), str(address), door.port, result.outcome))


def addresses(count):
    return [ip_address(f"127.0.1.{number}") for number in range(1, count + 1)]


# --- the scan itself ----------------------------------------------------------------------------------


def test_a_hosts_doors_are_as_far_apart_as_can_be():
    todo = list(order(addresses(50), DOORS))
    assert len(set(todo)) == len(todo) == 50 * len(DOORS)
    first = [position for position, (address, _) in enumerate(todo) if str(address) == "127.0.1.7"]
    assert {later - earlier for earlier, later in pairwise(first)} == {50}


def test_every_door_of_every_address_is_told_of_once(free_port):
    recorder = Recorder()
    doors = [Door(free_port, Role.SSH), Door(free_port, Role.WINRM)]
    asyncio.run(scan(addresses(40), replace(DEFAULT, rate=5000), recorder, doors))
    assert sorted(address for _, address, _, _ in recorder.results) == sorted(map(str, addresses(40) * 2))
    assert {outcome for *_, outcome in recorder.results} == {Outcome.REFUSED}


def test_the_rate_is_kept(free_port):
    recorder = Recorder()
    begun = time.monotonic()
    asyncio.run(scan(addresses(60), replace(DEFAULT, rate=100), recorder, [Door(free_port, Role.SSH)]))
    assert 0.59 <= time.monotonic() - begun < 1.5
    times = [when - begun for when, *_ in recorder.results]
    for second in (0.1, 0.3, 0.5):  # at no time ahead of it
        assert sum(when < second for when in times) <= second * 100 + 2


def test_no_more_connections_than_allowed_at_once(crowd):
    async def slow(reader, writer):
        await asyncio.sleep(0.05)

    sock = socket.socket()
    sock.bind(("0.0.0.0", 0))
    port = crowd.add(slow, sock)
    recorder = Recorder()
    asyncio.run(scan(addresses(40), Pace(at_once=5, rate=5000), recorder, [Door(port, Role.SSH)]))
    assert crowd.total == 40
    assert 4 <= crowd.most <= 6  # one may have ended for us and not yet for the server


def test_a_lack_of_our_own_ends_the_scan(monkeypatch):
    async def fails(*_):
        raise Unavailable("no more files")

    monkeypatch.setattr("leeward.network.discovery.scanning.knock", fails)
    with pytest.raises(Unavailable, match="no more files"):
        asyncio.run(scan(addresses(40), DEFAULT, Recorder(), DOORS))


@pytest.mark.parametrize(
    ("outcome", "seconds", "knocks"),
    [
        (Outcome.SILENT, 0.06, 2),
        (Outcome.UNREACHABLE, 0.0, 1),  # the kernel has given up asking
        (Outcome.REFUSED, 0.06, 6),
    ],
)
def test_who_does_not_answer_arp_is_knocked_at_no_more(monkeypatch, outcome, seconds, knocks):
    """The kernel's table is faked here, and its second made a tenth of one; the lab has real neighbours."""
    asked = []

    async def knock(address, door, *_):
        asked.append(door)
        await asyncio.sleep(seconds)
        return Knock(outcome)

    monkeypatch.setattr("leeward.network.discovery.scanning.knock", knock)
    monkeypatch.setattr("leeward.network.discovery.scanning.neighbours.is_nobodys", lambda address: True)
    monkeypatch.setattr("leeward.network.discovery.scanning._ARP_PATIENCE_S", 0.1)
    recorder = Recorder()
    asyncio.run(scan(addresses(1), Pace(at_once=1, rate=5000), recorder, DOORS))
    assert len(asked) == knocks
    outcomes = [outcome for *_, outcome in recorder.results]
    assert outcomes == [outcome] * knocks + [Outcome.ABSENT] * (6 - knocks)


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"connect_s": 0}, {"at_once": 1000}, {"rate": float("nan")}])
def test_a_pace_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(BadInput):
        Scans().start([HOME], replace(DEFAULT, **wrong))


# --- the service --------------------------------------------------------------------------------------


def test_a_scan_from_start_to_end(crowd, free_port):
    doors = [
        Door(crowd.add(st.says(b"SSH-2.0-x\r\n")), Role.SSH),
        Door(free_port, Role.LIBVIRT),
        Door(crowd.add(st.windows), Role.WINRM),
    ]
    scans = Scans(doors)
    look = wait(scans, scans.start([HOME, "127.0.9.1-4"], names=False))
    assert (look.state, look.error) == (State.DONE, None)
    assert (look.addresses, look.total, look.done, look.alive) == (5, 15, 15, 5)
    (finding,) = look.findings
    assert (str(finding.address), finding.name) == (HOME, "")
    assert [sign.speech for sign in finding.signs] == [Speech.SSH, Speech.WINRM]
    assert finding.verdict.what == "Windows with remote management"
    assert look.ranges == (HOME, "127.0.9.1-4")
    time.sleep(0.05)
    assert scans.look(look.id).seconds == look.seconds


def test_a_scan_is_cancelled_at_once_and_keeps_what_it_found(crowd):
    doors = [Door(crowd.add(st.says(b"SSH-2.0-x\r\n")), Role.SSH)]
    doors += [Door(crowd.add(st.drips(b"x")), role) for role in (Role.WINRM, Role.LIBVIRT, Role.LIBVIRT_TLS)]
    doors += [Door(crowd.add(st.mute), role) for role in (Role.WINRM, Role.LIBVIRT, Role.LIBVIRT_TLS)]
    scans = Scans(doors)
    scan_id = scans.start([HOME], PATIENT, names=False)
    wait_until(lambda: scans.look(scan_id).done >= 2 and crowd.now >= 4)
    begun = time.monotonic()
    look = scans.cancel(scan_id)
    assert time.monotonic() - begun < 1
    assert look.state is State.CANCELLED
    assert look.done < look.total
    assert look.findings[0].signs[0].speech is Speech.SSH
    wait_until(lambda: crowd.now == 0)  # all connections are closed
    assert scans.cancel(scan_id).state is State.CANCELLED


def test_a_cancel_just_after_the_start_is_not_lost(crowd):
    scans = Scans([Door(crowd.add(st.mute), Role.SSH)])
    for _ in range(20):
        assert scans.cancel(scans.start([HOME], PATIENT, names=False)).state is State.CANCELLED


def test_one_scan_at_a_time_and_the_newest_ten_are_kept(crowd, free_port):
    scans = Scans([Door(crowd.add(st.mute), Role.SSH)])
    first = scans.start([HOME], PATIENT, names=False)
    with pytest.raises(Refused, match="another scan is running"):
        scans.start([HOME])
    with pytest.raises(BadInput):
        scans.start(["224.0.0.1"])
    scans.cancel(first)
    made = [first]
    for _ in range(10):
        made.append(scans.start([HOME], PATIENT, names=False))
        scans.cancel(made[-1])
    assert [look.id for look in scans.all()] == made[:0:-1]
    with pytest.raises(NotFound):
        scans.look(first)
    with pytest.raises(NotFound):
        scans.cancel("nonsense")


def test_many_may_look_while_it_runs(crowd):
    doors = [Door(crowd.add(st.says(b"SSH-2.0-x\r\n")), Role.SSH) for _ in range(60)]
    scans = Scans(doors)
    scan_id = scans.start([HOME], replace(DEFAULT, rate=200), names=False)
    seen, failures = [], []

    def look():
        try:
            while (now := scans.look(scan_id)).state is State.RUNNING:
                seen.append((now.done, sum(len(finding.signs) for finding in now.findings)))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    look = wait(scans, scan_id)
    for thread in threads:
        thread.join()
    assert not failures
    assert all(done == signs for done, signs in seen)  # a look is of one moment
    assert len({done for done, _ in seen}) > 5
    assert [sign.door for sign in look.findings[0].signs] == doors


# --- names --------------------------------------------------------------------------------------------


@pytest.fixture
def name_service(monkeypatch):
    """A stand-in for the C library's resolver: {name: addresses or error}, {address: name}; None never answers."""
    forward, backward, release = {}, {}, threading.Event()

    def answer(table, key):
        value = table.get(key, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if value is None:
            release.wait(60)
            value = OSError()
        if isinstance(value, Exception):
            raise value
        return value

    def getaddrinfo(name, *_, **__):
        return [(0, 0, 0, "", (address, 0)) for address in answer(forward, name)]

    monkeypatch.setattr(looking_up.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(looking_up.socket, "gethostbyaddr", lambda address: (answer(backward, address), [], []))
    yield forward, backward
    release.set()


def test_names_are_looked_up_and_shown(crowd, name_service):
    forward, backward = name_service
    forward["kvm01.example"] = ["127.0.0.1", "127.0.2.1"]
    forward["other.example"] = ["127.0.0.1"]
    backward["127.0.2.2"] = "said\x1b[2J.example"
    backward["127.0.2.3"] = OSError()
    sock = socket.socket()
    sock.bind(("0.0.0.0", 0))
    scans = Scans([Door(crowd.add(st.says(b"SSH-2.0-x\r\n"), sock), Role.SSH)])
    look = wait(scans, scans.start(["kvm01.example, other.example, 127.0.0.1, 127.0.2.2-3"]))
    assert look.addresses == 4
    names = {str(finding.address): finding.name for finding in look.findings}
    assert names == {
        "127.0.0.1": "kvm01.example",
        "127.0.2.1": "kvm01.example",
        "127.0.2.2": "said [2J.example",
        "127.0.2.3": "",
    }


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), NotFound, "no such host name"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Unavailable, "could not be looked up"),
        (UnicodeError(), NotFound, "no such host name"),
        (["224.0.0.1"], BadInput, "multicast"),
        ([f"10.{a}.{b}.1" for a in range(17) for b in range(250)], BadInput, "more than 4,096"),
    ],
)
def test_a_name_that_cannot_be_used_ends_the_scan_with_a_reason(name_service, answer, kind, said):
    name_service[0]["kvm01"] = answer
    scans = Scans()
    look = wait(scans, scans.start(["kvm01"]))
    assert look.state is State.FAILED
    assert isinstance(look.error, kind)
    assert said in str(look.error)
    assert look.error.subject == "kvm01"
    assert look.done == 0


def test_a_dead_name_service_delays_neither_a_cancel_nor_for_long_the_end(crowd, name_service, monkeypatch):
    forward, backward = name_service
    forward["kvm01"] = backward[HOME] = None
    scans = Scans([Door(crowd.add(st.says(b"SSH-2.0-x\r\n")), Role.SSH)])
    scan_id = scans.start(["kvm01"])
    time.sleep(0.1)
    hanging = [thread for thread in threading.enumerate() if thread.name == "look-up"]
    assert hanging
    assert all(thread.daemon for thread in hanging)  # so that the program can end meanwhile
    begun = time.monotonic()
    assert scans.cancel(scan_id).state is State.CANCELLED
    assert time.monotonic() - begun < 1
    look = wait(scans, scans.start([HOME]))
    assert (look.state, look.findings[0].name) == (State.DONE, "")
    assert look.seconds < 3
    monkeypatch.setattr("leeward.network.discovery.scans._LOOK_UP_S", 0.2)
    assert isinstance(wait(scans, scans.start(["kvm01"])).error, Unavailable)
