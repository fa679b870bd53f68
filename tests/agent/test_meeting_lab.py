"""Two real guests whose points are of one instant, as a client saw them; and none that we leave standing still."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pytest
from tests.vault.conftest import CHEAP

from leeward.agent.groups import Seat
from leeward.agent.meeting import Meeting
from leeward.agent.standstill import Standstill
from leeward.domain.errors import HostBusy, Unavailable
from leeward.domain.vm import Power
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.guest.sequence import inspect
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(300)]
ROUNDS = 5


@pytest.fixture(scope="module")
def guests(lab):
    made = {}
    for name, ip in (("one", "10.77.0.91"), ("two", "10.77.0.92")):
        made[name] = lab.define_guest("office", name, disks=(64,), ip=ip, memory_mib=128, interval_ms=50)
    for guest in made.values():
        lab.wait_http("office", guest.ip, timeout_s=90)
    yield made
    for name in made:
        lab.destroy_guest("office", name)


@pytest.fixture
def host(lab, tmp_path):
    return LibvirtHost("office", lab.libvirt("office"), Path(lab.places.root) / "scratch-meet", agent_grace_s=0)


class Client:
    """Asks one guest after the other for its last durable record, and remembers the answers in their order."""

    def __init__(self, lab, guests):
        self.seen, self.over = [], threading.Event()
        self.client, self.guests = lab.client("office"), guests
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            for name, guest in self.guests.items():
                with contextlib.suppress(Unavailable):
                    self.seen.append((name, self.client.json(guest.ip, timeout_s=5)["seq"]))

    def __enter__(self):
        self.thread.start()
        ends = time.monotonic() + 60
        while self.first.keys() != self.guests.keys() or self.last.items() & self.first.items():
            assert time.monotonic() < ends, "the guests do not answer, or do not write"
            time.sleep(0.01)
        return self

    @property
    def first(self):
        return dict(reversed(self.seen.copy()))

    @property
    def last(self):
        return dict(self.seen.copy())

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()


def torn(seen, cut):
    """An answer that came before another one was asked for, of which the cut has the consequences but not the cause.

    Of a guest whose last record in the cut is newer than it was in an answer, the instant came after that answer; and
    so must that of the other one, and hold what that one had told before.
    """
    told = dict.fromkeys(cut, 0)
    for name, number in seen:
        if cut[name] > number:
            for other, before in told.items():
                if other != name and cut[other] < before:
                    return name, number, other, before
        told[name] = number
    return None


def test_torn_is_seen():
    seen = [("one", 10), ("two", 20), ("one", 11), ("two", 21)]
    assert torn(seen, {"one": 11, "two": 20}) is None
    assert torn(seen, {"one": 10, "two": 21}) is None  # the answer 21 was not asked for before 11 had come
    assert torn(seen, {"one": 10, "two": 22})
    assert torn(seen, {"one": 12, "two": 19})


def records(vault, vm_id, point, folder):
    file = folder / f"{vm_id}.raw"
    with vault.log(vm_id).open_point(point.id) as image, file.open("wb") as raw:
        disk = image.disks["vda"]
        for at in range(0, disk.size, 8 << 20):
            raw.write(disk.read(at, min(8 << 20, disk.size - at)))
    state = inspect(file, "vda")
    assert state.clean, state.problem
    assert state.records.intact
    file.unlink()
    return state.records.last


def test_marked_points_agree_with_what_a_client_saw(lab, guests, host, tmp_path):
    vault = Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
    pool, standstill = CopyPool.make(2), Standstill(tmp_path / "standstill.json")
    ids = {name: guest.uuid for name, guest in guests.items()}
    replicators = {
        name: Replicator(host, vault.log(vm_id), vm_id, pool, writer_name="agent") for name, vm_id in ids.items()
    }
    for replicator in replicators.values():
        replicator.cycle()
    cuts, stood = [], []
    with Client(lab, guests) as client, ThreadPoolExecutor(2) as both:
        ends = time.monotonic() + 150
        while len(cuts) < ROUNDS:
            assert time.monotonic() < ends, "the host is busy all the time"
            meeting = Meeting("office", "shop", frozenset(ids.values()), host, standstill, 20.0, 10.0)

            def come(name, meeting=meeting):
                try:
                    return replicators[name].cycle(joint=Seat(meeting, ids[name])).point
                except HostBusy:  # libvirt still ends the last job: an agent, too, comes again a little later
                    return None

            points = dict(zip(ids, both.map(come, ids), strict=True))
            if None in points.values():
                continue
            assert meeting.mark is not None, meeting.why
            assert {point.mark for point in points.values()} == {meeting.mark}
            cuts.append(points)
            stood.append(meeting.stood_s)
            time.sleep(1)
    print(f"stood still: {', '.join(f'{1000 * seconds:.0f}' for seconds in stood)} ms; {len(client.seen)} answers")
    for points in cuts:
        cut = {name: records(vault, ids[name], points[name], tmp_path) for name in ids}
        assert all(cut[name] > client.first[name] for name in ids), "an instant before all that the client has seen"
        assert torn(client.seen, cut) is None, (cut, torn(client.seen, cut))
    for vm_id in ids.values():
        assert host.vm(vm_id).power is Power.RUNNING
        host.forget(vm_id)


VICTIM = """
import os, signal, sys, threading
from pathlib import Path
from leeward.agent.meeting import Meeting
from leeward.agent.standstill import Standstill
from leeward.hypervisors.libvirt.host import LibvirtHost

uri, folder, *vms = sys.argv[1:]
host = LibvirtHost("office", uri, Path(folder))

def die(step):
    if step == "all-still":
        os.kill(os.getpid(), signal.SIGKILL)

note = Standstill(Path(folder) / "note.json")
meeting = Meeting("office", "shop", frozenset(vms), host, note, 20.0, 20.0, die)

def come(vm_id):
    with meeting.moment(vm_id):
        pass

threads = [threading.Thread(target=come, args=(vm_id,)) for vm_id in vms]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_killed_while_they_stand_still_the_next_start_lets_them_go_on(lab, guests, host, tmp_path):
    ids = [guest.uuid for guest in guests.values()]
    done = subprocess.run(
        [sys.executable, "-c", VICTIM, lab.libvirt("office"), str(tmp_path), *ids], check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert {host.vm(vm_id).power for vm_id in ids} == {Power.PAUSED}
    note = tmp_path / "note.json"
    assert sorted(vm_id for _, vm_id in json.loads(note.read_text())["vms"]) == sorted(ids)
    Standstill(note).release_left({"office": host})
    assert {host.vm(vm_id).power for vm_id in ids} == {Power.RUNNING}
    assert json.loads(note.read_text())["vms"] == []
    for guest in guests.values():
        lab.wait_http("office", guest.ip, timeout_s=30)
    # Whom his operator stops now, nobody lets go on.
    with libvirt.open(lab.libvirt("office")) as connection:
        domain = connection.lookupByUUIDString(ids[0])
        domain.suspend()
        Standstill(note).release_left({"office": host})
        assert host.vm(ids[0]).power is Power.PAUSED
        domain.resume()
