"""What `leeward.ports.hypervisor` promises, asked of the hypervisor in memory and of libvirt with a real guest."""

import itertools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext

import pytest
from tests.ports.rigs import MIB, NOBODY, LibvirtRig, MemoryRig

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import HostBusy, HypervisorError, TrackingLost, VmGone
from leeward.domain.vm import Consistency, FirmwareState, Power

KINDS = ["memory", pytest.param("libvirt", marks=[pytest.mark.lab, pytest.mark.timeout(240)])]
DISKS = ("vdb", "vdc")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def libvirt_rig(lab):
    rig = LibvirtRig(lab)
    yield rig
    rig.close()


@pytest.fixture(params=KINDS)
def rig(request):
    """In whatever power state the test before left it, with nothing of ours on it."""
    rig = MemoryRig() if request.param == "memory" else request.getfixturevalue("libvirt_rig")
    rig.host.forget(rig.vm_id)
    return rig


@pytest.fixture
def running(rig):
    """The guest is up inside. Costs a boot when the test before was not of these."""
    rig.run()
    return rig


@pytest.fixture
def live(rig):
    """Powered on; the guest inside may run or not."""
    rig.power_on()
    return rig


@pytest.fixture
def off(rig):
    rig.host.force_off(rig.vm_id)
    return rig


def new_token():
    return f"{next(_numbers)}-a.B_c"


class Copy:
    """What a vault holds of the disks to which only the rig writes: cycle upon cycle."""

    def __init__(self, rig):
        self.rig = rig
        self.disks = {}
        self.base = None

    def open(self, host=None, **more):
        self.token = new_token()
        return (host or self.rig.host).open_cycle(self.rig.vm_id, base=self.base, new=self.token, **more)

    def read(self, cycle):
        """Take in what the cycle tells. Returns the blocks it named, by disk."""
        named = {}
        for disk in self.rig.expected:
            size = next(one.size for one in cycle.vm.disks if one.name == disk)
            held = bytearray() if self.base is None else self.disks.get(disk, bytearray())
            held = held[:size] + bytes(size - len(held))
            named[disk] = {}
            with closing(cycle.reader(disk)) as reader:
                for start, count, zero in cycle.changes(disk):
                    offset, end = start * BLOCK_SIZE, min((start + count) * BLOCK_SIZE, size)
                    data = bytearray(end - offset)
                    if not zero:
                        reader.read_into([(offset, memoryview(data))])
                    held[offset:end] = data
                    named[disk] |= dict.fromkeys(range(start, start + count), zero)
            self.disks[disk] = held
        return named

    def commit(self, cycle):
        cycle.check()
        cycle.commit()
        self.base = cycle.tracking or None

    def take(self, **more):
        with self.open(**more) as cycle:
            named = self.read(cycle)
            self.commit(cycle)
        return named

    def assert_equal(self):
        for disk, expected in self.rig.expected.items():
            assert self.disks[disk] == expected, disk


@pytest.fixture
def copy(live):
    """After a first full cycle of a VM that is on."""
    copy = Copy(live)
    copy.take()
    return copy


# --- facts --------------------------------------------------------------------------------------------


def test_facts_tell_identity_power_and_disks(running):
    facts = running.host.vm(running.vm_id)
    assert facts in running.host.vms()
    assert (facts.id, facts.name, facts.host) == (running.vm_id, "port", running.host.name)
    assert facts.power is Power.RUNNING
    sizes = {disk.name: disk.size for disk in facts.disks}
    assert {disk: sizes[disk] for disk in DISKS} == {disk: running.size(disk) for disk in DISKS}
    assert facts.memory_mib > 0
    assert facts.vcpus == 1
    assert facts.definition
    assert not facts.unsupported


def test_a_vm_that_is_not_there_is_gone(rig):
    host = rig.host
    for call in (
        host.vm,
        host.idle_mark,
        host.start,
        host.force_off,
        host.forget,
        host.autostart,
        host.pause,
        host.resume,
        lambda vm_id: host.set_autostart(vm_id, True),
        lambda vm_id: host.shutdown(vm_id, 1),
        lambda vm_id: host.open_cycle(vm_id, base=None, new=new_token()),
        lambda vm_id: host.open_cycle(vm_id, base="x", new=new_token()),
    ):
        with pytest.raises(VmGone):
            call(NOBODY)


def test_autostart_is_what_was_set_last(rig):
    for wanted in (True, True, False):
        rig.host.set_autostart(rig.vm_id, wanted)
        assert rig.restarted().autostart(rig.vm_id) is wanted


# --- cycles of a running VM ---------------------------------------------------------------------------


def test_a_full_cycle_names_all_that_is_not_zero(live):
    live.write("vdb", 3 * BLOCK_SIZE, 2 * BLOCK_SIZE, 0x11)
    live.write("vdc", live.size("vdc") - 100, 100, 0x22)
    firmware = live.firmware()
    assert live.host.vm(live.vm_id).firmware is None
    copy = Copy(live)
    before = time.time_ns()
    with copy.open() as cycle:
        assert before <= cycle.time_ns <= time.time_ns()
        assert cycle.consistency is Consistency.CRASH
        assert cycle.warnings == ()
        assert cycle.superset
        assert cycle.tracking == copy.token
        facts = live.host.vm(live.vm_id)
        assert (cycle.vm.name, cycle.vm.disks, cycle.vm.definition) == ("port", facts.disks, facts.definition)
        assert cycle.vm.firmware == firmware != FirmwareState()
        copy.read(cycle)
        copy.commit(cycle)
    copy.assert_equal()


def test_an_incremental_cycle_names_just_what_changed(live, copy):
    live.write("vdb", BLOCK_SIZE - 1, 2, 0x31)
    live.write("vdb", 9 * BLOCK_SIZE, BLOCK_SIZE, 0x32)
    with copy.open() as cycle:
        assert not cycle.superset
        assert copy.read(cycle) == {"vdb": dict.fromkeys((0, 1, 9), False), "vdc": {}}
        copy.commit(cycle)
    copy.assert_equal()
    live.write("vdc", live.size("vdc") - 1, 1, 0x33)
    assert copy.take() == {"vdb": {}, "vdc": {32: False}}
    copy.assert_equal()


def test_the_instant_stands_still_and_what_comes_after_is_in_the_next_cycle(live, copy):
    live.write("vdb", 0, MIB, 0x41)
    then = {disk: bytes(data) for disk, data in live.expected.items()}
    with copy.open() as cycle:
        live.write("vdb", BLOCK_SIZE, 3 * MIB, 0x42)
        live.zero("vdb", 0, BLOCK_SIZE)
        live.write("vdc", 0, 10, 0x42)
        copy.read(cycle)
        copy.commit(cycle)
    assert copy.disks == then
    copy.take()
    copy.assert_equal()


def test_what_was_changed_and_is_zero_now_is_told(live, copy):
    live.write("vdb", 0, 4 * BLOCK_SIZE, 0x51)
    copy.take()
    live.discard("vdb", BLOCK_SIZE, BLOCK_SIZE)
    live.zero("vdb", 2 * BLOCK_SIZE, BLOCK_SIZE)
    assert copy.take()["vdb"] == {1: True, 2: True}
    copy.assert_equal()
    live.write("vdb", 0, BLOCK_SIZE, 0)  # zeros as data: a host need not see what they are
    assert set(copy.take()["vdb"]) == {0}
    copy.assert_equal()


def test_changed_and_zeroed_between_two_cycles_is_told(live, copy):
    live.write("vdb", 5 * BLOCK_SIZE, BLOCK_SIZE, 0x52)
    live.zero("vdb", 5 * BLOCK_SIZE, BLOCK_SIZE)
    assert copy.take()["vdb"] == {5: True}
    copy.assert_equal()


def test_all_disks_are_of_one_instant_that_is_not_later_than_told(live):
    """A guest writes n to one disk and then to the other: no instant has the second ahead of the first."""
    stop, done = threading.Event(), []

    def guest():
        for number in itertools.cycle(range(1, 256)):
            for disk in DISKS:
                live.write(disk, 0, 512, number)
            done.append((time.time_ns(), number))
            if stop.is_set():
                return

    copy = Copy(live)
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(guest)
        try:
            while not done:
                assert not writer.done(), writer.result()
            for _ in range(8):
                with copy.open() as cycle:
                    copy.read(cycle)
                    copy.commit(cycle)
                first, second = (copy.disks[disk][0] for disk in DISKS)
                assert first in (second, second % 255 + 1)
                old = next(number for at, number in reversed(done) if at < cycle.time_ns)
                assert (second - old) % 255 < 128  # what was written before the instant is in it
        finally:
            stop.set()
        writer.result()
    copy.take()
    copy.assert_equal()


def test_the_instant_is_fixed_within_the_moment_that_is_given(live, copy):
    """So that several VMs can have theirs while all of them stand still."""

    @contextmanager
    def moment():
        live.write("vdb", 0, 10, 0x44)
        then.update({disk: bytes(data) for disk, data in live.expected.items()})
        yield
        live.write("vdb", BLOCK_SIZE, 10, 0x45)

    then = {}
    with copy.open(moment=moment()) as cycle:
        assert set(copy.read(cycle)["vdb"]) == {0}
        copy.commit(cycle)
    assert copy.disks == then
    assert set(copy.take()["vdb"]) == {1}
    copy.assert_equal()


def test_a_moment_that_does_not_come_leaves_nothing(live, copy):
    @contextmanager
    def moment():
        raise HostBusy("the others did not come")
        yield

    base = copy.base
    live.write("vdb", 0, 10, 0x46)
    with pytest.raises(HostBusy):
        copy.open(moment=moment())
    assert live.points() == {base}
    assert live.idle()
    assert set(copy.take()["vdb"]) == {0}
    copy.assert_equal()


def test_commit_lets_go_of_the_old_point_and_keeps_the_new(live, copy):
    old = copy.base
    assert live.points() == {old}
    with copy.open() as cycle:
        assert live.points() == {old, copy.token}
        copy.read(cycle)
        copy.commit(cycle)
    assert live.points() == {copy.token}
    assert live.idle()
    with pytest.raises(TrackingLost):
        live.host.open_cycle(live.vm_id, base=old, new=new_token())


@pytest.mark.parametrize("way", ["abort", "leave", "interrupt"])
def test_a_cycle_that_is_not_committed_keeps_the_base(live, copy, way):
    live.write("vdb", 0, 10, 0x61)
    base = copy.base
    expected = pytest.raises(KeyboardInterrupt) if way == "interrupt" else nullcontext()
    with expected, copy.open() as cycle:
        cycle.changes("vdb")
        if way == "abort":
            cycle.abort()
            cycle.abort()
        elif way == "interrupt":
            signal.raise_signal(signal.SIGINT)
    assert live.points() == {base}
    assert live.idle()
    live.write("vdb", 4 * BLOCK_SIZE, 10, 0x62)
    assert set(copy.take()["vdb"]) == {0, 4}
    copy.assert_equal()


@pytest.mark.parametrize("way", ["commit", "abort", "leave"])
def test_an_instant_that_is_let_go_cannot_be_read_and_its_points_stay(live, copy, way):
    live.write("vdb", 0, 10, 0x66)
    old = copy.base
    with copy.open() as cycle, closing(cycle.reader("vdb")) as reader:
        held = {disk: bytes(data) for disk, data in copy.disks.items()}
        copy.read(cycle)
        cycle.check()
        cycle.release()
        cycle.release()
        live.write("vdb", 4 * BLOCK_SIZE, 10, 0x67)
        with pytest.raises(HypervisorError):
            reader.read_into([(0, memoryview(bytearray(BLOCK_SIZE)))])
        assert live.points() == {old, copy.token}
        if way == "commit":
            cycle.commit()
            copy.base = cycle.tracking
        elif way == "abort":
            cycle.abort()
    assert live.idle()
    assert live.points() == {copy.base}
    if way != "commit":
        assert copy.base == old
        copy.disks = {disk: bytearray(data) for disk, data in held.items()}
    assert set(copy.take()["vdb"]) == ({4} if way == "commit" else {0, 4})
    copy.assert_equal()


def end_twice(copy):
    kept = copy.open()
    copy.commit(kept)
    kept.abort()
    dropped = copy.open()
    dropped.abort()
    for cycle in (kept, dropped):
        with pytest.raises(HypervisorError):
            cycle.commit()
    assert copy.rig.points() == {copy.base}


def test_a_cycle_ends_once(live, copy):
    end_twice(copy)
    live.write("vdb", 0, 10, 0x63)
    assert set(copy.take()["vdb"]) == {0}
    copy.assert_equal()


def test_nothing_is_read_after_the_end(live, copy):
    cycle = copy.open()
    reader = cycle.reader("vdb")
    copy.commit(cycle)
    with pytest.raises(HypervisorError):
        reader.read_into([(0, memoryview(bytearray(512)))])
    reader.close()


def test_readers_work_side_by_side_with_many_pieces_in_flight(live, copy):
    for block in range(0, 64, 3):
        live.write("vdb", block * BLOCK_SIZE + 7, BLOCK_SIZE // 2, block + 1)
    expected = bytes(live.expected["vdb"])

    def read(seed):
        step = 10_000 + seed  # pieces of any size, anywhere
        got = bytearray(len(expected))
        view = memoryview(got)
        starts = list(range(0, len(got), step))
        with closing(cycle.reader("vdb")) as reader:
            reader.read_into([(at, view[at : at + step]) for at in reversed(starts)])
        return bytes(got)

    with copy.open() as cycle, ThreadPoolExecutor(3) as pool:
        assert set(pool.map(read, range(6))) == {expected}


def test_the_host_answers_other_threads_meanwhile(live, copy):
    stop = threading.Event()

    def ask():
        asked = 0
        while not stop.is_set():
            facts = {one.id: one for one in live.host.vms()}[live.vm_id]
            assert facts.disks == live.host.vm(live.vm_id).disks
            assert live.host.idle_mark(live.vm_id) is None
            asked += 1
        return asked

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(ask) for _ in range(3)]
        try:
            for number in range(5):
                live.write("vdb", number * BLOCK_SIZE, 10, 0x64 + number)
                assert set(copy.take()["vdb"]) == {number}
        finally:
            stop.set()
        assert all(other.result() for other in others)
    copy.assert_equal()


def test_an_unknown_base_is_lost_tracking_and_a_full_cycle_mends_it(live, copy):
    live.write("vdb", 0, 10, 0x71)
    copy.base = "never-made"
    with pytest.raises(TrackingLost):
        copy.open()
    assert live.idle()
    copy.base = None
    copy.take()
    copy.assert_equal()
    assert live.points() == {copy.base}


def test_leftovers_of_a_dead_run_are_cleared(live, copy):
    live.write("vdb", 0, 10, 0x72)
    copy.open()  # never ended: our process dies here
    assert live.job()
    assert len(live.points()) == 2
    live.write("vdb", 8 * BLOCK_SIZE, 10, 0x73)
    with copy.open(live.restarted()) as cycle:
        assert live.points() == {copy.base, copy.token}
        assert set(copy.read(cycle)["vdb"]) == {0, 8}
        copy.commit(cycle)
    copy.assert_equal()
    copy.base = None
    with copy.open(live.restarted()) as cycle:
        assert live.points() == {copy.token}
    assert live.points() == set()


def test_a_foreign_job_has_the_right_of_way(live, copy):
    with live.foreign_job():
        for host in (live.host, live.restarted()):
            with pytest.raises(HostBusy):
                copy.open(host)
    live.write("vdb", 0, 10, 0x74)
    assert set(copy.take()["vdb"]) == {0}
    copy.assert_equal()


def test_a_disk_that_grew_stays_incremental(live, copy):
    size = live.size("vdb")
    live.grow("vdb", size + MIB + 512)
    live.write("vdb", size + MIB, 512, 0x81)
    with copy.open() as cycle:
        assert {disk.name: disk.size for disk in cycle.vm.disks}["vdb"] == size + MIB + 512
        named = copy.read(cycle)
        copy.commit(cycle)
    assert named["vdc"] == {}
    assert min(named["vdb"]) >= size // BLOCK_SIZE
    copy.assert_equal()
    live.write("vdb", size, 10, 0x82)
    copy.take()
    copy.assert_equal()


def test_a_disk_that_was_added_needs_a_full_cycle(running, copy):
    with running.extra_disk(tracked=True) as disk:
        running.write(disk, 0, 10, 0x83)
        with pytest.raises(TrackingLost):
            copy.open()
        copy.base = None
        copy.take()
        copy.assert_equal()
        running.write(disk, BLOCK_SIZE, 10, 0x84)
        assert copy.take() == {"vdb": {}, "vdc": {}, disk: {1: False}}
        copy.assert_equal()
    running.write("vdb", 0, 10, 0x85)
    assert set(copy.take()["vdb"]) == {0}
    copy.assert_equal()


def test_with_a_disk_that_cannot_be_tracked_there_is_no_token(running):
    with running.extra_disk(tracked=False) as disk:
        running.write(disk, 0, 10, 0x86)
        copy = Copy(running)
        with copy.open() as cycle:
            assert cycle.tracking == ""
            assert cycle.superset
            assert cycle.warnings
            copy.read(cycle)
            copy.commit(cycle)
        copy.assert_equal()
    assert running.points() == set()


def test_forget_leaves_no_trace(live, copy):
    copy.open()
    for _ in range(2):
        live.restarted().forget(live.vm_id)
        assert live.points() == set()
        assert live.idle()
    with pytest.raises(TrackingLost):
        copy.open()
    copy.base = None
    copy.take()
    copy.assert_equal()


def test_app_consistency_is_reached_with_an_agent_and_the_guest_goes_on(running, copy):
    running.write("vdb", 0, 10, 0x91)
    with copy.open(consistency=Consistency.APP) as cycle:
        assert cycle.consistency is Consistency.APP
        assert cycle.warnings == ()
        assert not running.frozen()
        copy.read(cycle)
        copy.commit(cycle)
    copy.assert_equal()


def test_without_an_agent_the_point_is_made_and_says_what_it_is(running, copy):
    with running.without_agent():
        running.write("vdb", 0, 10, 0x92)
        with copy.open(consistency=Consistency.APP) as cycle:
            assert cycle.consistency is Consistency.CRASH
            assert cycle.warnings
            copy.read(cycle)
            copy.commit(cycle)
    copy.assert_equal()


def test_a_paused_vm_is_tracked_as_a_running_one_and_start_resumes_it(live, copy):
    live.pause()
    assert live.power is Power.PAUSED
    assert live.host.idle_mark(live.vm_id) is None
    live.write("vdb", 0, 10, 0x93)  # what was under way when it was paused
    with copy.open() as cycle:
        assert not cycle.superset
        assert cycle.tracking == copy.token
        copy.read(cycle)
        copy.commit(cycle)
    copy.assert_equal()
    assert not live.host.shutdown(live.vm_id, 0.2)  # nobody inside obeys
    assert live.power is Power.PAUSED
    live.host.start(live.vm_id)
    assert live.power is Power.RUNNING
    live.pause()


# --- power --------------------------------------------------------------------------------------------


def test_shutdown_start_and_force_off(running):
    host, vm_id = running.host, running.vm_id
    assert host.shutdown(vm_id, 60)
    assert running.power is Power.OFF
    assert host.shutdown(vm_id, 1)
    for _ in range(2):
        host.start(vm_id)
        assert running.power is Power.RUNNING
    for _ in range(2):
        host.force_off(vm_id)
        assert running.power is Power.OFF


def test_pause_stops_whom_it_finds_running_and_resume_starts_nobody(running):
    host, vm_id = running.host, running.vm_id
    assert host.pause(vm_id)
    assert not host.pause(vm_id)
    assert running.power is Power.PAUSED
    assert running.restarted().resume(vm_id)
    assert not host.resume(vm_id)
    assert running.power is Power.RUNNING
    host.force_off(vm_id)
    assert not host.pause(vm_id)
    assert not host.resume(vm_id)
    assert running.power is Power.OFF


def test_one_that_is_off_keeps_to_the_moment_too(off):
    seen = []

    @contextmanager
    def moment():
        seen.append("entered")
        yield
        seen.append("left")

    copy = Copy(off)
    with copy.open(moment=moment()) as cycle:
        assert seen == ["entered", "left"]
        copy.read(cycle)
        copy.commit(cycle)
    copy.assert_equal()


def test_the_idle_mark_changes_with_disks_and_definition_only(off):
    host, vm_id = off.host, off.vm_id
    mark = host.idle_mark(vm_id)
    assert mark is not None
    with Copy(off).open() as cycle:
        cycle.changes("vdb")
    assert host.idle_mark(vm_id) == mark
    off.write("vdb", 0, 10, 0xA1)
    written = host.idle_mark(vm_id)
    assert written not in (None, mark)
    memory = host.vm(vm_id).memory_mib
    off.redefine(memory_mib=memory + 8)
    assert host.idle_mark(vm_id) not in (None, mark, written)
    off.redefine(memory_mib=memory)
    assert host.idle_mark(vm_id) == written
    off.change_firmware()
    assert host.idle_mark(vm_id) not in (None, mark, written)
    with Copy(off).open() as cycle:
        assert cycle.vm.firmware == off.firmware()
    host.start(vm_id)
    assert host.idle_mark(vm_id) is None


# --- cycles of a VM that is off -----------------------------------------------------------------------


def test_a_vm_that_is_off_is_read_since_its_base_which_stays(live, copy):
    base = copy.base
    live.write("vdb", 0, 10, 0xB1)
    live.host.force_off(live.vm_id)
    with copy.open() as cycle:
        assert cycle.tracking == base
        assert cycle.superset
        named = copy.read(cycle)
        assert 0 in named["vdb"]
        assert named["vdc"] == {}
        copy.commit(cycle)
    copy.assert_equal()
    assert live.points() == {base}
    live.write("vdb", 5 * BLOCK_SIZE, 10, 0xB2)
    with copy.open() as cycle:
        copy.read(cycle)  # and not committed
    assert live.points() == {base}
    live.power_on()
    live.write("vdb", 9 * BLOCK_SIZE, 10, 0xB3)
    assert {0, 5, 9} <= set(copy.take()["vdb"])
    copy.assert_equal()
    assert live.points() == {copy.base} != {base}


def test_first_cycle_of_a_vm_that_is_off_has_no_token(off):
    copy = Copy(off)
    with copy.open(consistency=Consistency.APP) as cycle:
        assert cycle.tracking == ""
        assert cycle.superset
        assert cycle.consistency is Consistency.CRASH
        copy.read(cycle)
        copy.commit(cycle)
    copy.assert_equal()
    assert off.points() == set()


def test_an_unknown_base_of_a_vm_that_is_off_is_lost_tracking(off):
    copy = Copy(off)
    copy.base = "never-made"
    with pytest.raises(TrackingLost):
        copy.open()


def test_a_cycle_of_a_vm_that_is_off_ends_once(live, copy):
    live.host.force_off(live.vm_id)
    end_twice(copy)


def test_forget_clears_a_vm_that_is_off(live, copy):
    live.host.force_off(live.vm_id)
    live.host.forget(live.vm_id)
    assert live.points() == set()
    with pytest.raises(TrackingLost):
        copy.open()


# --- what comes between -------------------------------------------------------------------------------


def test_a_start_in_mid_cycle_voids_it(live, copy):
    live.host.force_off(live.vm_id)
    with copy.open() as cycle:
        copy.read(cycle)
        cycle.check()
        live.power_on()
        with pytest.raises(HostBusy):
            cycle.check()
    assert live.points() == {copy.base}
    live.write("vdb", 0, 10, 0xC1)
    copy.take()
    copy.assert_equal()


def test_a_start_and_stop_in_mid_cycle_voids_it_too(off):
    with Copy(off).open() as cycle:
        off.power_on()
        off.write("vdb", 0, 10, 0xC2)
        off.host.force_off(off.vm_id)
        with pytest.raises(HostBusy):
            cycle.check()


@pytest.mark.parametrize("how", ["forced off", "killed"])
def test_the_vms_end_in_mid_cycle_voids_it(live, copy, how):
    live.write("vdb", 0, 10, 0xC3)
    with copy.open() as cycle:
        cycle.check()
        live.write("vdb", 7 * BLOCK_SIZE, 10, 0xC4)
        live.kill() if how == "killed" else live.host.force_off(live.vm_id)
        with pytest.raises(HypervisorError):
            cycle.check()
    assert live.idle()
    live.power_on()
    try:
        copy.take()
        assert how == "forced off"
    except TrackingLost:
        copy.base = None
        copy.take()
    copy.assert_equal()
    assert live.points() == {copy.base}


def test_a_host_that_was_killed_between_cycles_has_lost_tracking(live, copy):
    live.write("vdb", 0, 10, 0xC5)
    live.kill()
    live.power_on()
    with pytest.raises(TrackingLost):
        copy.open()
    copy.base = None
    copy.take()
    copy.assert_equal()
