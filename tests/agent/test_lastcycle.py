"""The last cycle brings everything into the vault and proves it, or says why it cannot."""

import pytest
from tests.vault.conftest import CHEAP

from leeward.agent.jobs import Cancelled, Context
from leeward.agent.lastcycle import LastCycle
from leeward.agent.ledger import Ledger
from leeward.domain.errors import LeewardError, Refused, StoreUnavailable
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore
from leeward.wire.jobs import Job, JobKind

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
BLOCK = 65536


class Line(MemoryStore):
    cut = False

    def put(self, key, parts):
        if self.cut:
            raise StoreUnavailable("the line is cut")
        super().put(key, parts)


class Bench:
    def __init__(self, folder):
        self.host = MemoryHypervisor("office")
        self.vm = self.host.add(VM, "web", {"vda": b"a" * 4 * BLOCK})
        self.line, self.spool = Line(), MemoryStore()
        vault, _ = Vault.create(self.line, "x", cost=CHEAP)
        self.keys = vault.keys
        self.ledger = Ledger(folder / "agent.json")
        self.pool = CopyPool.make(2)
        self.last = LastCycle(lambda host: self.host, self.open, self.ledger, self.pool, "agent")
        self.context = Context(Job(id="j", kind=JobKind.LAST_CYCLE, vm_id=VM, host="office"), lambda text: None)
        replicator = self.replicator()
        replicator.cycle()
        self.ledger.save_epoch(VM, replicator.epoch, "office")

    def open(self, vm_id):
        store = SpoolingStore(self.line, self.spool, 1 << 20)
        return Vault.open(store, keys=self.keys), store

    def replicator(self):
        vault, _ = self.open(VM)
        return Replicator(
            self.host, vault.log(VM), VM, self.pool, writer_name="agent", epoch=self.ledger.epoch_of(VM, "office")
        )

    def write(self, block, data=b"n"):
        self.vm.write("vda", block * BLOCK, data * BLOCK)

    def run(self):
        return self.last.run(VM, "office", self.context)

    def in_vault(self, point):
        """What the vault itself has, not what the spool shows."""
        with Vault.open(self.line, keys=self.keys).log(VM).open_point(point) as image:
            return image.disks["vda"].read(0, 4 * BLOCK)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_what_was_written_last_is_in_the_point(bench):
    bench.write(1)
    bench.host.force_off(VM)
    proof = bench.run()
    assert bench.in_vault(proof.point.id) == bytes(bench.vm.disks["vda"])
    again = bench.run()  # killed before it could tell: it proves the same once more
    assert again.point.id == proof.point.id


def test_what_was_spooled_is_sent_first(bench):
    bench.line.cut = True
    bench.write(2)
    bench.replicator().cycle()
    bench.host.force_off(VM)
    with pytest.raises(LeewardError):
        bench.run()
    bench.line.cut = False
    proof = bench.run()
    assert bench.in_vault(proof.point.id) == bytes(bench.vm.disks["vda"])
    assert bench.open(VM)[1].pending_bytes == 0


def test_lost_tracking_costs_time_and_no_byte(bench):
    bench.write(3)
    bench.vm.lose_tracking()
    bench.host.force_off(VM)
    assert bench.in_vault(bench.run().point.id) == bytes(bench.vm.disks["vda"])


def test_a_vm_that_runs_and_a_host_that_does_not_reign_are_refused(bench):
    with pytest.raises(Refused, match="not off"):
        bench.run()
    bench.host.force_off(VM)
    bench.ledger.forget(VM)
    with pytest.raises(Refused, match="not the one that replicates it"):
        bench.run()


def test_disks_that_go_on_changing_are_never_called_proven(bench, monkeypatch):
    bench.host.force_off(VM)
    real = bench.host.open_cycle

    def somebody_writes(*arguments, **how):
        bench.vm.disks["vda"][0] = (bench.vm.disks["vda"][0] + 1) % 256
        return real(*arguments, **how)

    monkeypatch.setattr(bench.host, "open_cycle", somebody_writes)
    with pytest.raises(Refused, match="go on changing"):
        bench.run()


def test_it_ends_where_it_is_when_it_is_not_wanted_any_more(bench):
    bench.host.force_off(VM)
    bench.context.cancelled.set()
    with pytest.raises(Cancelled):
        bench.run()
