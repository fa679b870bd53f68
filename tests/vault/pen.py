"""Writes points into a vault and remembers, as plain bytes, what each of them must be."""

import copy

import numpy as np
from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.retention import kept
from leeward.domain.vm import Consistency, Disk, FirmwareState
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore


def copied(store):
    """A store in memory with the same objects."""
    made = MemoryStore()
    made._objects, made._keys = dict(store._objects), list(store._keys)
    return made


class Pen:
    """disks: the current contents by name; change them with `put`, `zero`, `resize`, then `commit`."""

    def __init__(self, vault, vm_id, **how):
        self.vault, self.vm_id = vault, vm_id
        self.reopen(**how)
        self.disks, self.dirty, self.remembered, self.firmwares = {}, {}, {}, {}
        self.firmware, self.held = None, FirmwareState()  # None: not known, what is held stays
        self.time = 10**18

    def resize(self, disk, blocks, tail=0):
        size = blocks * BLOCK_SIZE + tail
        old = self.disks.get(disk, b"")
        self.disks[disk] = bytearray(old[:size].ljust(size, b"\0"))
        # A tracker reports the block that a cut or growth went through, when there is something in it.
        if size % BLOCK_SIZE or len(old) % BLOCK_SIZE:
            for edge in (size // BLOCK_SIZE, len(old) // BLOCK_SIZE):
                if edge * BLOCK_SIZE < size:
                    self.dirty.setdefault(disk, set()).add(edge)
        return self

    def remove(self, disk):
        del self.disks[disk]
        self.dirty.pop(disk, None)

    def put(self, disk, block, data):
        contents = self.disks[disk]
        at = block * BLOCK_SIZE
        data = data[: len(contents) - at]
        contents[at : at + len(data)] = data
        self.dirty.setdefault(disk, set()).update(range(block, block - (-len(data) // BLOCK_SIZE)))
        return self

    def begin(self, compare=False, mark=None):
        self.time += 10**9  # a point a second
        return self.writer.begin(
            time_ns=self.time,
            consistency=Consistency.CRASH,
            disks=[Disk(name, len(data)) for name, data in self.disks.items()],
            definition=f"<vm disks='{len(self.disks)}'/>",
            tracking=f"t{self.time}",
            firmware=self.firmware,
            compare=compare,
            mark=mark,
        )

    def fill(self, transaction, compare=False):
        """Hand over what is dirty (or, comparing, everything that differs from the base), frame by frame."""
        for disk, contents in self.disks.items():
            blocks = range(-(-len(contents) // BLOCK_SIZE)) if compare else sorted(self.dirty.get(disk, ()))
            wanted = []
            for block in blocks:
                data = bytes(contents[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]).ljust(BLOCK_SIZE, b"\0")
                digest = blake3(data).digest() if any(data) else None
                if compare and transaction.base_hashes(disk, block, 1) == [digest]:
                    continue
                if digest is None:
                    transaction.zero(disk, block, 1)
                else:
                    wanted.append((block, data, digest))
            for at in range(0, len(wanted), 16):
                some = wanted[at : at + 16]
                ticket = transaction.reserve()
                transaction.fill(
                    ticket,
                    disk,
                    np.array([block for block, _, _ in some], np.uint64),
                    memoryview(b"".join(data for _, data, _ in some)),
                    [digest for _, _, digest in some],
                )

    def commit(self, compare=False, keep_empty=True, mark=None):
        transaction = self.begin(compare, mark)
        self.fill(transaction, compare)
        point = transaction.commit(keep_empty=keep_empty)
        self.dirty = {}
        if point is not None:
            self.remembered[point.id] = self._contents()
            self.held = self.held if self.firmware is None else self.firmware
            self.firmwares[point.id] = self.held
        return point

    def _contents(self):
        """Hundreds of points share the copy of a disk that has stayed the same."""
        last = next(reversed(self.remembered.values()), {})
        return {name: last[name] if last.get(name) == data else bytes(data) for name, data in self.disks.items()}

    def prune(self, retention, on_step=lambda step: None):
        """Prune, and forget what is gone; what the rules keep must have stayed."""
        before = self.vault.log(self.vm_id).points()
        pinned = {pin.point_id for pin in self.vault.pins(self.vm_id)}
        done = self.vault.prune(self.vault.prune_plan(self.vm_id, retention, now_ns=self.time), on_step)
        left = [point.id for point in self.vault.log(self.vm_id).points()]
        assert {point.id for point in kept(before, retention, self.time, pinned)} <= set(left)
        assert len(before) - len(left) == done.points
        self.remembered = {name: self.remembered[name] for name in left}
        return done

    def copy(self):
        """Another pen on a store of its own in memory that holds the same, as if its writer had been opened anew."""
        pen = copy.copy(self)
        pen.vault = Vault.open(copied(self.vault.store), keys=self.vault.keys)
        pen.reopen(expect_epoch=self.writer.state.epoch)
        pen.disks = {name: bytearray(data) for name, data in self.disks.items()}
        pen.dirty, pen.remembered, pen.firmwares = {}, dict(self.remembered), dict(self.firmwares)
        return pen

    def reopen(self, **how):
        self.log = self.vault.log(self.vm_id)
        self.writer = self.log.open_writer(writer="pen", **how)

    def check(self, point_id):
        """The point as read equals what was remembered."""
        with self.vault.log(self.vm_id).open_point(point_id) as image:
            expected = self.remembered[point_id]
            assert {name: disk.size for name, disk in image.disks.items()} == {n: len(d) for n, d in expected.items()}
            for name, data in expected.items():
                assert image.disks[name].read(0, len(data)) == data, (point_id, name)
            assert image.firmware == self.firmwares.get(point_id, FirmwareState())

    def check_difference(self, old_id, new_id):
        """Hashes fit the content, and nothing but what the maps call different has changed between two points."""
        with self.log.open_point(old_id) as old, self.log.open_point(new_id) as new:
            differences = new.differs_from(old)
            before, after = self.remembered[old_id], self.remembered[new_id]
            assert differences.keys() == after.keys()
            for name, data in after.items():
                blocks = [
                    data[at : at + BLOCK_SIZE].ljust(BLOCK_SIZE, b"\0") for at in range(0, len(data), BLOCK_SIZE)
                ]
                hashes = [blake3(block).digest() if any(block) else None for block in blocks]
                assert new.hashes(name, 0, len(blocks)) == hashes
                named = {start + n: zero for start, count, zero in differences[name] for n in range(count)}
                ours = before.get(name, b"")
                for number, block in enumerate(blocks):
                    if number in named:
                        assert named[number] == (not any(block))
                    else:
                        assert ours[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE].ljust(BLOCK_SIZE, b"\0") == block

    def check_all(self):
        listed = [point.id for point in self.vault.log(self.vm_id).points()]
        assert listed == list(self.remembered)
        for point_id in listed:
            self.check(point_id)
