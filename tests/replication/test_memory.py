"""A first copy takes no more memory for a large disk than for a small one."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

MIB = 1 << 20
# What the project promises of the whole process, the interpreter and its libraries included.
LIMIT_MIB = 300
# More than that: whoever kept what was read, or what is to be sent, would be found out.
DISK_MIB = 448

# Noise, which cannot be compressed, from nowhere into nowhere: what remains is what the copy itself holds.
COPY = """
import random, sys, time
from leeward.domain.blocks import BLOCK_SIZE, Runs
from leeward.domain.vm import Consistency, Disk, FirmwareState, Power, VmFacts
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

VM, SIZE = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11", int(sys.argv[1])
NOISE = random.Random(1).randbytes(3 << 20)


class Store(MemoryStore):
    taken = 0

    def put(self, key, parts):
        size = sum(memoryview(part).nbytes for part in parts)
        Store.taken += size
        super().put(key, parts if size < 1 << 20 else [b"gone"])


class Host:
    '''A VM with one disk full of noise; all that the replicator asks of a hypervisor and of a cycle.'''

    vm = VmFacts(VM, "big", "host", Power.RUNNING, (Disk("vda", SIZE),), 128, 1, "<vm/>", "", FirmwareState())
    time_ns, consistency, warnings, tracking, superset = 10**18, Consistency.CRASH, (), "t", True

    def idle_mark(self, vm_id):
        return None

    def open_cycle(self, vm_id, **how):
        return self

    def changes(self, disk):
        return Runs.of((0, SIZE // BLOCK_SIZE, False))

    def reader(self, disk):
        return self

    def read_into(self, pieces):
        for offset, view in pieces:
            start = offset * 7919 % (1 << 20)
            view[:] = NOISE[start : start + len(view)]

    def nothing(self, *ignored):
        pass

    check = release = commit = abort = close = __exit__ = nothing

    def __enter__(self):
        return self


vault = Vault.create(Store(), "x", cost=Argon2(1024, 1, 1))[0]
with CopyPool.make(2) as pool:
    result = Replicator(Host(), vault.log(VM), VM, pool, writer_name="test").cycle()
assert result.examined == SIZE, result
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(Store.taken, int(peak.split()[1]) * 1024)
"""


def test_what_a_first_copy_takes():
    done = subprocess.run(
        [sys.executable, "-c", COPY, str(DISK_MIB * MIB)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    taken, peak = map(int, done.stdout.split())
    assert taken > DISK_MIB * MIB  # all of it went by
    assert peak < LIMIT_MIB * MIB, f"{peak / MIB:.0f} MiB"
