"""Any sequence of writes, zeroes, resizes, changing disks, dead attempts, epochs and maps equals plain bytes."""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.domain.retention import Retention
from leeward.domain.vm import FirmwareState
from leeward.vault import checkpoint, transaction
from leeward.vault.check import check
from leeward.vault.compaction import move
from leeward.vault.facade import Vault
from leeward.vault.history import History
from leeward.vault.index import PAGE, DiskMap
from leeward.vault.stores.memory import MemoryStore

DISKS = st.sampled_from(["vda", "vdb"])
TAILS = st.sampled_from([0, 0, 0, 512, 4096])


class LogMachine(RuleBasedStateMachine):
    """The pen holds the model; after every step the newest point is compared, at the end all of them."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(transaction, "OBJECT_FRAMES", 2)
        self.vault = Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
        self.pen = Pen(self.vault, VM)
        self.pen.resize("vda", 4)
        self.in_doubt = False  # the disk set changed: only a comparing attempt may follow

    def pick(self, disk):
        return disk if disk in self.pen.disks else next(iter(self.pen.disks))

    @rule(disk=DISKS, block=st.integers(0, 60), blocks=st.integers(1, 40), seed=st.integers(0, 2**32))
    def write(self, disk, block, blocks, seed):
        disk = self.pick(disk)
        total = -(-len(self.pen.disks[disk]) // 65536)
        if total:
            self.pen.put(disk, block % total, random.Random(seed).randbytes(blocks * 65536))

    @rule(disk=DISKS, block=st.integers(0, 60), blocks=st.integers(1, 40))
    def zero(self, disk, block, blocks):
        disk = self.pick(disk)
        total = -(-len(self.pen.disks[disk]) // 65536)
        if total:
            self.pen.put(disk, block % total, bytes(blocks * 65536))

    @rule(disk=DISKS, blocks=st.integers(1, 64), tail=TAILS)
    def resize(self, disk, blocks, tail):
        self.pen.resize(disk, blocks, tail)

    @rule(seed=st.none() | st.integers(0, 3))
    def firmware(self, seed):
        made = FirmwareState(bytes([seed]) * 1000 * seed, (("state", b"tpm" * seed),) * (seed > 1)) if seed else None
        self.pen.firmware = FirmwareState() if seed == 0 else made

    @precondition(lambda self: len(self.pen.disks) > 1)
    @rule()
    def remove(self):
        # A hypervisor's tracking does not survive a change of the disk set: what follows is a comparison.
        self.pen.remove("vdb")
        self.in_doubt = True

    @rule(compare=st.booleans())
    def commit(self, compare):
        self.pen.commit(compare=compare or self.in_doubt)
        self.in_doubt = False

    @rule()
    def dead_attempt(self):
        """Parts are uploaded, the commit never comes, the guest goes on writing."""
        attempt = self.pen.begin()
        self.pen.fill(attempt)
        attempt.abort()
        self.pen.reopen(expect_epoch=self.pen.writer.state.epoch)

    @rule(new=st.booleans())
    def reopen(self, new):
        if new:
            self.pen.reopen(new_epoch=True)
        else:
            self.pen.reopen(expect_epoch=self.pen.writer.state.epoch)

    @precondition(lambda self: self.pen.writer.state.seq > 1)
    @rule()
    def write_map(self):
        self.pen.writer.write_map()

    @rule(window=st.integers(1, 20), hourly=st.sampled_from([0, 0, 7200]), pin=st.none() | st.integers(0, 30))
    def prune(self, window, hourly, pin):
        if pin is not None and self.pen.remembered:
            points = list(self.pen.remembered)
            self.vault.pin(VM, points[pin % len(points)], "model", 3600)
        self.pen.prune(Retention(float(window), float(hourly)))
        # Long after its own start, a writer must be able to go on as if nothing had happened.
        assert check(self.vault.store, keys=self.vault.keys, deep=True).troubles == []

    @rule(share=st.integers(0, 4))
    def compact(self, share):
        """Any objects at all may be moved at any time: not a byte changes."""
        numbers = [n for n in range(1, len(self.pen.writer.state.objects) + 1) if n % 5 <= share]
        if self.pen.remembered and not self.in_doubt:
            move(History(self.vault._reader, VM), self.pen.writer, numbers)

    @precondition(lambda self: self.pen.remembered)
    @rule(one=st.integers(0, 30), other=st.integers(0, 30))
    def compare_points(self, one, other):
        points = list(self.pen.remembered)
        self.pen.check_difference(points[one % len(points)], points[other % len(points)])

    @invariant()
    def newest_point_is_exact(self):
        if self.pen.remembered:
            self.pen.check(list(self.pen.remembered)[-1])

    def teardown(self):
        self.pen.check_all()
        self.patch.undo()


LogMachine.TestCase.settings = settings(
    max_examples=settings.default.max_examples * 2 // 5,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLog = LogMachine.TestCase


@pytest.mark.parametrize("seed", range(20))
def test_disk_maps_survive_encoding_across_pages(seed):
    dice = random.Random(seed)
    disk = DiskMap()
    for _ in range(60):
        start, count = dice.randrange(3 * PAGE), dice.randrange(1, PAGE)
        if dice.random() < 0.3:
            disk.zero(start, count)
        else:
            disk.put(start, count, dice.randrange(1, 9) << 32 | dice.randrange(1 << 20))
    again = DiskMap.decode(*disk.encode())
    for start in range(0, 4 * PAGE, 4096):
        assert (disk.locate(start, 4096) == again.locate(start, 4096)).all()
    assert disk.runs().blocks == sum(int((disk.locate(n, 4096) != 0).sum()) for n in range(0, 4 * PAGE, 4096))
    assert disk.objects().tolist() == again.objects().tolist()


def test_a_compacted_table_keeps_only_what_is_needed(monkeypatch):
    vault = Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
    pen = Pen(vault, VM)
    pen.resize("vda", 4)
    for n in range(20):
        pen.put("vda", 0, random.Random(n).randbytes(65536)).commit()
    assert len(pen.writer.state.objects) == 20
    assert len(checkpoint.compacted(pen.writer.state).objects) == 1
    pen.writer.write_map()
    pen.put("vda", 1, b"z" * 65536).commit()
    pen.reopen(expect_epoch=1)
    pen.check_all()


def test_unchanged_blocks_are_not_named_as_different_although_the_maps_number_objects_anew():
    vault = Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
    pen = Pen(vault, VM)
    pen.resize("vda", 40)
    for n in range(6):
        pen.put("vda", n, random.Random(n).randbytes(65536)).commit()
    old = pen.writer.state.last_point.id
    pen.writer.write_map()  # numbers what is left anew
    pen.put("vda", 2, random.Random(99).randbytes(2 * 65536)).put("vda", 5, bytes(65536))
    new = pen.commit().id
    with vault.log(VM).open_point(old) as before, vault.log(VM).open_point(new) as after:
        assert list(after.differs_from(before)["vda"]) == [(2, 2, False), (5, 1, True)]
        assert list(before.differs_from(after)["vda"]) == [(2, 2, False), (5, 1, False)]
        assert list(after.differs_from(after)["vda"]) == []


def test_the_tail_says_whether_a_machine_made_from_a_point_can_go_on_from_it():
    vault = Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
    pen = Pen(vault, VM)
    assert "not the newest" in pen.log.tail().gap("1", "t")
    pen.resize("vda", 4)
    old, new = pen.commit(), pen.put("vda", 0, b"x").commit()
    token = pen.log.tail().tracking
    assert "not over" in pen.log.tail().gap(new.id, token)  # its writer may still add to it
    pen.log.open_writer(writer="successor", new_epoch=True)
    tail = pen.log.tail()
    assert (tail.point, tail.epoch, tail.tracking) == (new, 2, token)
    assert tail.gap(new.id, token) == ""
    assert "no tracking token" in tail.gap(new.id, "")
    assert "not the newest" in tail.gap(old.id, token)
    assert "not the newest" in tail.gap(new.id, "another")
    pen.reopen()
    pen.put("vda", 0, b"y").commit()
    assert "not the newest" in pen.log.tail().gap(new.id, token)
