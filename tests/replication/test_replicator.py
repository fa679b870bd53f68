"""Cycles against a hypervisor in memory and a real vault: what is committed is what the VM had, byte for byte."""

import copy
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import pytest

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import Fenced, HostBusy, HypervisorError, SpoolFull, StoreUnavailable
from leeward.domain.points import Mark
from leeward.domain.vm import Consistency, Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.replication.copy import Stopped
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import STEPS, Kind, Replicator
from leeward.replication.spool import SpoolingStore
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore
from leeward.vault.writer import MAP_EVERY

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
MIB = 1 << 20


class Killed(BaseException):
    """Stands for the death of the process: nobody catches it."""


@pytest.fixture
def pool():
    with CopyPool.make(2) as executor:
        yield executor


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def vault(store):
    return Vault.create(store, "correct horse battery staple", cost=Argon2(1024, 1, 1))[0]


@cache
def noise(seed, size):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def host():
    hypervisor = MemoryHypervisor()
    data = noise(1, 3 * MIB) + bytes(5 * MIB) + noise(2, MIB + 512)
    hypervisor.add(VM, "web", {"vda": data, "vdb": noise(3, 2 * MIB)})
    return hypervisor


def replicator(host, vault, pool, **more):
    return Replicator(host, vault.log(VM), VM, pool, writer_name="test", **more)


def content(vault, point, disk):
    with vault.log(VM).open_point(point.id) as image:
        return image.disks[disk].read(0, image.disks[disk].size)


def assert_equal_now(vault, host, point):
    for disk, expected in host._vms[VM].disks.items():
        assert content(vault, point, disk) == expected, disk


def test_first_copy_then_deltas(host, vault, pool):
    engine = replicator(host, vault, pool)
    first = engine.cycle()
    assert first.kind is Kind.INITIAL
    assert_equal_now(vault, host, first.point)

    vm = host._vms[VM]
    vm.write("vda", 4 * MIB + 100, b"hello")
    vm.write("vdb", 0, bytes(BLOCK_SIZE))
    second = engine.cycle()
    assert second.kind is Kind.DELTA
    assert second.stored < 20_000
    assert_equal_now(vault, host, second.point)
    assert content(vault, first.point, "vdb")[:BLOCK_SIZE] != bytes(BLOCK_SIZE)
    assert list(vm.points) == [engine.open().state.tracking]


def test_nothing_changed_writes_nothing_and_keeps_the_base(host, vault, pool, store):
    engine = replicator(host, vault, pool)
    engine.cycle()
    before = {info.key for info in store.scan("")}
    base = list(host._vms[VM].points)
    result = engine.cycle()
    assert result.point is None
    assert {info.key for info in store.scan("")} == before
    assert list(host._vms[VM].points) == base


def test_a_block_zeroed_with_trim_or_by_writing_becomes_zero(host, vault, pool):
    engine = replicator(host, vault, pool)
    engine.cycle()
    host._vms[VM].write("vda", 0, bytes(2 * MIB))
    point = engine.cycle().point
    assert_equal_now(vault, host, point)
    with vault.log(VM).open_point(point.id) as image:
        assert image.disks["vda"].allocation(0, 2 * MIB) == [(2 * MIB, False)]


def test_lost_tracking_compares_and_sends_only_what_differs(host, vault, pool):
    engine = replicator(host, vault, pool)
    engine.cycle()
    vm = host._vms[VM]
    vm.write("vda", 8 * MIB + 7, b"after")
    vm.write("vdb", MIB, bytes(BLOCK_SIZE))
    vm.lose_tracking()
    kinds = []
    engine = replicator(host, vault, pool, epoch=engine.epoch, on_kind=lambda *what: kinds.append(what))
    result = engine.cycle()
    assert kinds == [(Kind.RESYNC, "the tracking point is gone")]
    assert result.stored < 200_000
    assert_equal_now(vault, host, result.point)
    assert engine.cycle().kind is Kind.DELTA


def test_lost_tracking_without_any_difference_still_records_the_new_tracking_point(host, vault, pool):
    engine = replicator(host, vault, pool)
    engine.cycle()
    host._vms[VM].lose_tracking()
    assert engine.cycle().point is not None
    assert engine.cycle().kind is Kind.DELTA


def test_a_disk_whose_tracking_has_outlived_its_name_is_compared(host, vault, pool):
    """Under its new name the vault has nothing that changes could be added to."""
    engine = replicator(host, vault, pool)
    engine.cycle()
    vm = host._vms[VM]
    for places in (vm.disks, *vm.points.values()):
        places["sda"] = places.pop("vdb")
    vm.tell_disks()
    vm.write("sda", MIB, b"after")
    kinds = []
    engine = replicator(host, vault, pool, epoch=engine.epoch, on_kind=lambda *what: kinds.append(what))
    point = engine.cycle().point
    assert kinds == [(Kind.RESYNC, "the vault has no disk sda yet")]
    assert_equal_now(vault, host, point)
    assert list(vm.points) == [engine.open().state.tracking]
    vm.write("sda", 0, b"later")
    assert engine.cycle().kind is Kind.DELTA


def test_full_read_zeroes_what_the_source_no_longer_names(host, vault, pool):
    engine = replicator(host, vault, pool)
    engine.cycle()
    vm = host._vms[VM]
    vm.write("vda", 0, bytes(3 * MIB))
    vm.lose_tracking()
    assert_equal_now(vault, host, engine.cycle().point)


def test_grown_and_shrunk_disks(host, vault, pool):
    engine = replicator(host, vault, pool)
    engine.cycle()
    vm = host._vms[VM]
    vm.resize("vdb", 3 * MIB + 512)
    vm.write("vdb", 3 * MIB, b"x" * 512)
    assert_equal_now(vault, host, engine.cycle().point)
    vm.resize("vdb", MIB + 100)
    vm.write("vdb", MIB, b"y" * 100)
    assert_equal_now(vault, host, engine.cycle().point)


def test_a_vm_that_is_off_is_read_once(host, vault, pool):
    engine = replicator(host, vault, pool)
    engine.cycle()
    vm = host._vms[VM]
    vm.write("vda", 0, b"last words")
    host.force_off(VM)
    result = engine.cycle()
    assert result.stored < 200_000
    assert_equal_now(vault, host, result.point)
    again = engine.cycle()
    assert (again.point, again.examined) == (None, 0)
    host.start(VM)
    vm.write("vda", 64, b"again")
    after = engine.cycle()
    assert after.kind is Kind.DELTA
    assert_equal_now(vault, host, after.point)


@pytest.mark.parametrize("trouble", [False, True])
def test_older_images_put_back_while_it_is_off_are_compared(host, vault, pool, monkeypatch, trouble):
    """A copy made while the VM was off has the same tracking point as the images in whose place it is put."""
    kinds = []
    engine = replicator(host, vault, pool, on_kind=lambda kind, reason: kinds.append((kind, reason)))
    engine.cycle()
    vm = host._vms[VM]
    host.force_off(VM)
    engine.cycle()
    disks, points = copy.deepcopy((vm.disks, vm.points))
    vm.write("vda", 5 * MIB, b"a short run")
    engine.cycle()
    vm.disks, vm.points = disks, points
    kinds.clear()
    if trouble:
        with monkeypatch.context() as patch:
            patch.setattr("leeward.hypervisors.memory.MemoryCycle.check", busy)
            with pytest.raises(HostBusy):
                engine.cycle()
    assert_equal_now(vault, host, engine.cycle().point)
    assert {kind for kind, _ in kinds} == {Kind.RESYNC}
    assert engine.cycle().examined == 0
    host.start(VM)
    vm.write("vdb", 7, b"and on")
    assert_equal_now(vault, host, engine.cycle().point)
    vm.write("vdb", 9, b"and on")
    again = engine.cycle()
    assert again.kind is Kind.DELTA
    assert_equal_now(vault, host, again.point)


def busy(cycle):
    raise HostBusy("the VM was started just now")


def test_first_copy_of_a_vm_that_is_off(host, vault, pool):
    host.force_off(VM)
    engine = replicator(host, vault, pool)
    assert_equal_now(vault, host, engine.cycle().point)
    assert engine.cycle().point is None


def test_app_consistency_where_the_guest_can_and_a_warning_where_it_cannot(host, vault, pool):
    engine = replicator(host, vault, pool)
    engine.cycle()
    result = engine.cycle(Consistency.APP)
    assert result.point.consistency is Consistency.APP
    host._vms[VM].has_agent = False
    host._vms[VM].write("vda", 0, b"z")
    result = engine.cycle(Consistency.APP)
    assert result.point.consistency is Consistency.CRASH
    assert result.warnings


def test_a_second_writer_fences_the_first(host, vault, pool):
    old = replicator(host, vault, pool)
    first = old.cycle()
    new = replicator(host, vault, pool)
    new.cycle()
    host._vms[VM].write("vda", 0, b"q")
    with pytest.raises(Fenced):
        old.cycle()
    with pytest.raises(Fenced):
        replicator(host, vault, pool, epoch=old.epoch).cycle()
    assert_equal_now(vault, host, new.cycle().point)
    assert vault.log(VM).point(first.point.id)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("which", ["initial", "delta"])
def test_death_at_every_named_step_loses_nothing(host, vault, pool, step, which):
    epoch = None
    vm = host._vms[VM]
    if which == "delta":
        engine = replicator(host, vault, pool)
        engine.cycle()
        epoch = engine.epoch
        vm.write("vda", 5 * MIB, noise(9, 300_000))
    reported = vault.log(VM).points()

    def die(name):
        if name == step:
            raise Killed

    dying = replicator(host, vault, pool, epoch=epoch, on_step=die)
    # A killed process runs no clean-up: the cycle's abort must not happen either.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leeward.hypervisors.memory.MemoryCycle.abort", lambda self: None)
        with pytest.raises(Killed):
            dying.cycle()
    vm.write("vda", MIB, b"written after the kill")
    again = replicator(host, vault, pool, epoch=dying.epoch)
    result = again.cycle()
    assert_equal_now(vault, host, result.point)
    assert {p.id for p in reported} <= {p.id for p in vault.log(VM).points()}
    assert len(vm.points) <= 1
    if which == "delta":
        assert result.kind is Kind.DELTA


def test_a_first_copy_that_died_sends_nothing_twice(vault, pool, store, monkeypatch):
    # More objects than can be on their way at once: some are still to be filled when the first has been sent.
    monkeypatch.setattr("leeward.vault.transaction.OBJECT_FRAMES", 4)
    host = MemoryHypervisor()
    host.add(VM, "big", {"vda": noise(5, 40 * MIB)})
    stop = threading.Event()

    engine = replicator(host, vault, pool, stop=stop)
    original = store.put

    def put(key, parts):
        original(key, parts)
        if "/part/" in key:
            stop.set()

    store.put = put
    with pytest.raises(Stopped):
        engine.cycle()
    store.put = original
    sent_before = sum(info.size for info in store.scan(f"vm/{VM}/part/"))
    assert sent_before > 3 * MIB
    result = replicator(host, vault, pool, epoch=engine.epoch).cycle()
    assert result.stored < 41 * MIB - sent_before
    assert_equal_now(vault, host, result.point)


class SlowStore(MemoryStore):
    """Holds back every part of one VM until it is let go; counts those that came."""

    def __init__(self, vm_id):
        super().__init__()
        self.go = threading.Event()
        self.came = 0
        self.fault = None
        self._part = f"{vm_id}/part/"

    def put(self, key, parts):
        if self._part in key:
            self.came += 1
            assert self.go.wait(20)
            if self.fault:
                raise self.fault
        super().put(key, parts)


OTHER = "9a9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b22"


@pytest.fixture
def slow(monkeypatch):
    """A store that keeps the parts of VM waiting, a vault in it, and objects of 2 MiB, so that there are many."""
    monkeypatch.setattr("leeward.vault.transaction.OBJECT_FRAMES", 2)
    store = SlowStore(VM)
    yield store, Vault.create(store, "x", cost=Argon2(1024, 1, 1))[0]
    store.go.set()


def big_host():
    host = MemoryHypervisor()
    host.add(VM, "web", {"vda": noise(1, 64 * MIB)})
    host.add(OTHER, "db", {"vda": noise(2, MIB)})
    return host


def test_a_store_that_lags_behind_holds_up_this_copy_and_no_neighbours_cycle(slow, pool):
    store, vault = slow
    host = big_host()
    engine = replicator(host, vault, pool)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(engine.cycle)
        wait_until(lambda: store.came)
        neighbour = Replicator(host, vault.log(OTHER), OTHER, pool, writer_name="test")
        assert neighbour.cycle().point is not None
        examined = {engine.meter.progress().done for _ in pause(5)}
        assert len(examined) == 1  # it waits …
        assert store.came <= 3  # … with few objects in memory
        assert examined.pop() < 32 * MIB
        store.go.set()
        point = first.result().point
    assert_equal_now(vault, host, point)


def test_a_part_that_cannot_be_sent_fails_the_cycle_and_the_next_one_brings_all(slow, pool):
    store, vault = slow
    host = big_host()
    engine = replicator(host, vault, pool)
    store.fault = StoreUnavailable("the disk is gone")
    store.go.set()
    with pytest.raises(StoreUnavailable):
        engine.cycle()
    assert vault.log(VM).points() == []
    tried = store.came
    assert tried < 32  # it did not go on to the end
    assert {store.came for _ in pause(5)} == {tried}  # nor does anything of it go on behind the error
    store.fault = None
    assert_equal_now(vault, host, engine.cycle().point)


def pause(times):
    for _ in range(times):
        time.sleep(0.05)
        yield


def wait_until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failing_reader_ends_the_cycle_and_nothing_is_committed(host, vault, pool, monkeypatch):
    engine = replicator(host, vault, pool)
    engine.cycle()
    host._vms[VM].write("vda", 0, b"w")

    def fail(self, pieces):
        raise HypervisorError("scratch space is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leeward.hypervisors.memory.MemoryReader.read_into", fail)
        with pytest.raises(HypervisorError):
            engine.cycle()
    assert len(vault.log(VM).points()) == 1
    result = engine.cycle()
    assert result.kind is Kind.DELTA
    assert_equal_now(vault, host, result.point)


def test_an_unreachable_vault_loses_no_change(host, vault, pool, store):
    engine = replicator(host, vault, pool)
    engine.cycle()
    vm = host._vms[VM]
    vm.write("vda", 0, b"during the outage")
    original = store.put

    def away(key, parts):
        raise StoreUnavailable("no route")

    store.put = away
    with pytest.raises(StoreUnavailable):
        engine.cycle()
    store.put = original
    vm.write("vdb", 77, b"and after")
    result = engine.cycle()
    assert result.kind is Kind.DELTA
    assert_equal_now(vault, host, result.point)


def test_random_life_of_a_vm(vault, pool):
    """Writes, trims, losses of tracking, restarts and power changes at random: every point equals its instant."""
    dice = random.Random(20)
    host = MemoryHypervisor()
    vm = host.add(VM, "web", {"vda": noise(1, 2 * MIB), "vdb": bytes(MIB)})
    engine, remembered = replicator(host, vault, pool), {}
    for _ in range(60):
        for _ in range(dice.randrange(4)):
            disk = dice.choice(["vda", "vdb"])
            size = len(vm.disks[disk])
            offset = dice.randrange(size)
            length = min(dice.randrange(1, 200_000), size - offset)
            vm.write(disk, offset, dice.choice([dice.randbytes(length), bytes(length)]))
        event = dice.random()
        if event < 0.1:
            vm.lose_tracking()
        elif event < 0.2:
            vm.resize("vdb", dice.randrange(1, 3 * MIB // 512) * 512)
        elif event < 0.3:
            vm.set_power(dice.choice([Power.OFF, Power.RUNNING]))
        elif event < 0.4:
            engine = replicator(host, vault, pool, epoch=engine.epoch)
        point = engine.cycle().point
        if point:
            remembered[point.id] = {disk: bytes(data) for disk, data in vm.disks.items()}
    assert len(remembered) > 20
    for point in vault.log(VM).points():
        for disk, expected in remembered[point.id].items():
            assert content(vault, point, disk) == expected


def test_a_blip_of_the_host_does_not_end_the_spooling_of_points(host, pool):
    class Line(MemoryStore):
        away = False

        def __getattribute__(self, name):
            if name in ("put", "get", "get_range", "size", "scan") and Line.away:
                raise StoreUnavailable("the vault is away")
            return super().__getattribute__(name)

    def busy(*args, **more):
        raise HostBusy("a foreign job has the right of way")

    spooled = SpoolingStore(Line(), MemoryStore(), 3 * MIB)
    vault = Vault.create(spooled, "x", cost=Argon2(1024, 1, 1))[0]
    engine = replicator(host, vault, pool)
    engine.cycle()
    Line.away = True
    vm = host._vms[VM]
    vm.write("vda", 0, b"one")
    engine.cycle()
    open_cycle, host.open_cycle = host.open_cycle, busy
    with pytest.raises(HostBusy):
        engine.cycle()
    host.open_cycle = open_cycle
    vm.write("vda", MIB, b"two")
    assert engine.cycle().point is not None
    vm.write("vda", 2 * MIB, noise(4, 6 * MIB))
    with pytest.raises(SpoolFull):
        engine.cycle()
    vm.write("vda", 2 * MIB, bytes(6 * MIB))
    point = engine.cycle().point  # what fits is spooled still, and contains what did not
    Line.away = False
    spooled.drain()
    assert_equal_now(Vault.open(spooled._remote, keys=vault.keys), host, point)


class Alone:
    """The others are always there."""

    def __init__(self):
        self.mark = None

    @contextmanager
    def moment(self):
        yield
        self.mark = Mark("m", "shop", 1, (VM,))

    def withdraw(self, why):
        raise AssertionError(why)


@pytest.mark.slow
def test_what_a_vm_that_is_off_says_again_gets_its_maps_too(host, vault, pool, store):
    host.force_off(VM)
    engine = replicator(host, vault, pool)
    engine.cycle()
    said = []
    for _ in range(MAP_EVERY + 1):
        said.append(engine.cycle(joint=Alone()).point)
        engine.maintain()
    assert all(point is not None and point.mark is not None for point in said)
    assert list(store.scan(f"vm/{VM}/map/"))
    assert_equal_now(vault, host, said[-1])
