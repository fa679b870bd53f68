"""One instant for several VMs: causal order is never torn, nobody stands still for long, nobody is left standing."""

import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from tests.vault.conftest import CHEAP

from leeward.agent.groups import Seat
from leeward.agent.meeting import Meeting
from leeward.agent.standstill import Standstill
from leeward.domain.errors import HostBusy, HypervisorError, LeewardError
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

A = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b0a"
B = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b0b"
C = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b0c"
KIB64 = 65536


class Office:
    """Three VMs of one host, each with its replicator."""

    def __init__(self, folder):
        self.host = MemoryHypervisor("office")
        self.vms = {vm_id: self.host.add(vm_id, vm_id[-1], {"vda": bytes(4 * KIB64)}) for vm_id in (A, B, C)}
        self.note = folder / "standstill.json"
        self.standstill = Standstill(self.note)
        self.vault = Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
        self.pool = CopyPool.make(2)
        self.replicators = {
            vm_id: Replicator(self.host, self.vault.log(vm_id), vm_id, self.pool, writer_name="agent")
            for vm_id in self.vms
        }
        for replicator in self.replicators.values():
            replicator.cycle()

    def meeting(self, members=(A, B, C), patience_s=5.0, hold_s=2.0, **more):
        return Meeting("office", "shop", frozenset(members), self.host, self.standstill, patience_s, hold_s, **more)

    def cycle(self, meeting, vm_id):
        seat = Seat(meeting, vm_id)
        try:
            return self.replicators[vm_id].cycle(joint=seat)
        finally:
            seat.withdraw("it failed")

    def round(self, meeting, vm_ids=None, delays=None):
        """All come, each in its own thread; what became of each."""
        delays = delays or {}

        def come(vm_id):
            time.sleep(delays.get(vm_id, 0))
            try:
                return self.cycle(meeting, vm_id)
            except LeewardError as error:
                return error

        vm_ids = vm_ids or sorted(meeting.members)
        with ThreadPoolExecutor(len(vm_ids)) as pool:
            return dict(zip(vm_ids, pool.map(come, vm_ids), strict=True))

    def power(self):
        return {vm_id: self.host.vm(vm_id).power for vm_id in self.vms}

    def all_run(self):
        """At the latest when the watch has been through."""
        ends = time.monotonic() + 5
        while set(self.power().values()) != {Power.RUNNING} or self.noted():
            assert time.monotonic() < ends, (self.power(), self.noted())
            time.sleep(0.01)
        return True

    def noted(self):
        return json.loads(self.note.read_text())["vms"] if self.note.exists() else []

    def number(self, vm_id, point):
        with self.vault.log(vm_id).open_point(point.id) as image:
            return int.from_bytes(image.disks["vda"].read(0, 8))

    def marks(self, vm_id):
        return [point.mark.id if point.mark else None for point in self.vault.log(vm_id).points()]


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path)


class Application:
    """A message goes round: A writes n, then B writes n, then C, then A writes n + 1. A VM that stands still writes
    nothing, and who has its message waits."""

    def __init__(self, office):
        self.office = office
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        number = 0
        while not self.stop.is_set():
            number += 1
            for vm_id in (A, B, C):
                self.write(self.office.vms[vm_id], number)

    def write(self, vm, number):
        while not self.stop.is_set():
            with vm.lock:
                if vm.facts.power is Power.RUNNING:
                    vm.write("vda", 0, number.to_bytes(8))
                    return
            time.sleep(0.0003)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join()


def torn(a, b, c):
    """Whether somebody is ahead of who told him."""
    return not (a >= b >= c >= a - 1)


@pytest.mark.slow
def test_what_one_has_told_another_is_never_missing_at_a_mark(office):
    dice = random.Random(7)
    plainly_torn = 0
    with Application(office):
        for _ in range(10):
            delays = {vm_id: dice.random() * 0.01 for vm_id in office.vms}
            meeting = office.meeting()
            done = office.round(meeting, delays=delays)
            assert meeting.mark is not None, meeting.why
            assert {result.point.mark for result in done.values()} == {meeting.mark}
            numbers = [office.number(vm_id, done[vm_id].point) for vm_id in (A, B, C)]
            assert not torn(*numbers), numbers
            assert all(result.point.time_ns >= meeting.mark.time_ns for result in done.values())
        # The same without meeting: if that never tore anything, the above would have proven nothing.
        for _ in range(10):
            points = {vm_id: office.replicators[vm_id].cycle().point for vm_id in (C, B, A)}
            plainly_torn += torn(*[office.number(vm_id, points[vm_id]) for vm_id in (A, B, C)])
    assert plainly_torn
    assert office.all_run()


def test_the_mark_is_read_from_the_vault_again(office):
    meeting = office.meeting()
    office.round(meeting)
    for vm_id in office.vms:
        assert office.vault.log(vm_id).points()[-1].mark == meeting.mark
    assert meeting.mark.members == tuple(sorted((A, B, C)))
    assert meeting.mark.group == "shop"
    assert 0 < meeting.stood_s < 2


def test_who_comes_too_late_misses_it_and_nobody_has_a_mark(office):
    meeting = office.meeting(patience_s=0.1)
    for vm in office.vms.values():
        vm.write("vda", 0, b"x")
    began = time.monotonic()
    done = office.round(meeting, delays={C: 0.5})
    assert meeting.mark is None
    assert "too late" in meeting.why
    assert time.monotonic() - began < 2
    assert [result.point.mark for result in done.values()] == [None] * 3  # points all the same
    assert office.all_run()


def test_who_cannot_come_calls_it_off_at_once(office):
    office.vms[B].foreign_job = True
    meeting = office.meeting(patience_s=30)
    began = time.monotonic()
    done = office.round(meeting)
    assert time.monotonic() - began < 5
    assert isinstance(done[B], HostBusy)
    assert meeting.mark is None
    assert office.all_run()


def test_lost_tracking_is_compared_alone(office):
    office.vms[B].lose_tracking()
    meeting = office.meeting(patience_s=30)
    done = office.round(meeting)
    assert done[B].kind == "resync"
    assert meeting.mark is None
    assert office.marks(B)[-1] is None


class Slow:
    """A host on which beginning, stopping or resuming hangs or fails."""

    def __init__(self, host, **how):
        self.host, self.how = host, how

    def __getattr__(self, name):
        deed = getattr(self.host, name)
        if name not in self.how:
            return deed

        def done(vm_id, *given, **more):
            self.how[name](vm_id)
            return deed(vm_id, *given, **more)

        return done


def failing(victim, times=1):
    left = [times]

    def fail(vm_id):
        if vm_id == victim and left[0]:
            left[0] -= 1
            raise HypervisorError("it does not answer")

    return fail


def hanging(victim, seconds):
    return lambda vm_id: time.sleep(seconds) if vm_id == victim else None


def test_a_guest_that_cannot_be_stopped_stops_nobody(office):
    meeting = office.meeting()
    meeting._hypervisor = Slow(office.host, pause=failing(B))
    office.round(meeting)
    assert meeting.mark is None
    assert office.all_run()


@pytest.mark.parametrize("what", ["pause", "begin"])
def test_nobody_stands_still_for_longer_than_that(office, what):
    """One hangs for a second; the others go on after a fifth of it."""
    meeting = office.meeting(hold_s=0.2)
    if what == "pause":
        meeting._hypervisor = Slow(office.host, pause=hanging(B, 1.0))
    stood = {}

    def watch():
        began = {}
        while not stop.is_set():
            for vm_id, power in office.power().items():
                if power is Power.PAUSED:
                    began.setdefault(vm_id, time.monotonic())
                elif vm_id in began:
                    stood[vm_id] = time.monotonic() - began.pop(vm_id)
            time.sleep(0.005)

    stop = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()

    def come(vm_id):
        with meeting.moment(vm_id):
            if what == "begin" and vm_id == B:
                time.sleep(1.0)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come, (A, B, C)))
    assert meeting.mark is None
    assert office.all_run()
    stop.set()
    watcher.join()
    assert stood.keys() >= {A, C}
    assert max(stood.values()) < 0.7


def test_a_guest_whose_job_cannot_begin_lets_all_go_on(office):
    meeting = office.meeting()

    def come(vm_id):
        with suppress(HypervisorError), meeting.moment(vm_id):
            failing(B)(vm_id)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come, (A, B, C)))
    assert meeting.mark is None
    assert "does not answer" in meeting.why
    assert office.all_run()


def test_who_stands_still_by_his_operators_will_takes_part_and_stays_so(office):
    office.host.pause(B)
    meeting = office.meeting()
    office.round(meeting)
    assert meeting.mark is not None
    assert office.power() == {A: Power.RUNNING, B: Power.PAUSED, C: Power.RUNNING}


def test_one_that_is_off_takes_part_with_what_it_has(office):
    office.vms[C].write("vda", 0, (77).to_bytes(8))
    office.host.force_off(C)
    for _ in range(3):  # the first one reads it, the others only say it again
        meeting = office.meeting()
        done = office.round(meeting)
        assert meeting.mark is not None
        assert office.number(C, done[C].point) == 77
        assert done[C].point.mark == meeting.mark
    assert office.power()[C] is Power.OFF


def test_one_that_was_let_go_on_by_somebody_else_voids_the_mark(office):
    def meddle(step):
        if step == "all-still":
            office.vms[B].set_power(Power.RUNNING)

    meeting = office.meeting(on_step=meddle)
    office.round(meeting)
    assert meeting.mark is None
    assert office.all_run()


def test_a_note_that_cannot_be_written_stops_nobody(office, tmp_path):
    office.standstill._path = tmp_path / "away" / "note.json"
    meeting = office.meeting()
    done = office.round(meeting)
    assert meeting.mark is None
    assert all(result.point is None or result.point.mark is None for result in done.values())
    assert set(office.power().values()) == {Power.RUNNING}


def test_a_host_that_does_not_resume_is_asked_again_until_it_does(office):
    meeting = office.meeting()
    meeting._hypervisor = Slow(office.host, resume=failing(B, times=2))
    office.round(meeting)
    ends = time.monotonic() + 5
    while office.noted() != [["office", B]]:
        assert time.monotonic() < ends, office.noted()
        time.sleep(0.01)
    assert office.power()[B] is Power.PAUSED
    for host in (Slow(office.host, resume=failing(B)), office.host):
        office.standstill.release_left({"office": host})
    assert office.all_run()


VICTIM = """
import os, signal, sys
from pathlib import Path
from leeward.agent.standstill import Standstill
Standstill(Path(sys.argv[1])).begin("office", ["a", "b"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_noted_before_a_kill_is_let_go_on_at_the_next_start(tmp_path):
    host = MemoryHypervisor("office")
    for name in ("a", "b", "c"):
        host.add(name, name, {"vda": bytes(KIB64)})
    note = tmp_path / "standstill.json"
    subprocess.run([sys.executable, "-c", VICTIM, str(note)], check=False)
    for name in ("a", "c"):
        host.pause(name)  # a by us, before we died; c by its operator, and b we had not come to
    after = Standstill(note)
    after.release_left({"office": host})
    powers = {name: host.vm(name).power for name in ("a", "b", "c")}
    assert powers == {"a": Power.RUNNING, "b": Power.RUNNING, "c": Power.PAUSED}
    assert json.loads(note.read_text())["vms"] == []
    host.pause("a")
    Standstill(note).release_left({"office": host})
    assert host.vm("a").power is Power.PAUSED  # it was let go on once; this is somebody else's wish


def test_a_guest_that_is_off_or_gone_is_not_started_by_an_old_note(tmp_path):
    host = MemoryHypervisor("office")
    host.add("a", "a", {"vda": bytes(KIB64)}, Power.OFF)
    note = tmp_path / "standstill.json"
    Standstill(note).begin("office", ["a", "gone"])
    Standstill(note).release_left({"office": host})
    assert host.vm("a").power is Power.OFF
    assert json.loads(note.read_text())["vms"] == []
