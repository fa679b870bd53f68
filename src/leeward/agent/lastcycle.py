"""The last cycle of a VM that was shut down: everything into the vault, and the proof that it is all there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from leeward.agent.jobs import Context
from leeward.agent.ledger import Ledger
from leeward.domain.errors import HostBusy, Refused
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Power
from leeward.ports.hypervisor import Hypervisor
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import CycleResult, Replicator
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault

# Cycles until nothing differs; two are the rule: one that brings the rest, one that finds nothing.
_ROUNDS = 8
_BUSY_S = 60.0
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Proof:
    """point: the newest, which holds the VM's disks as they are. compared: bytes looked at in the proving pass."""

    point: RecoveryPoint
    compared: int


@dataclass(frozen=True, slots=True)
class LastCycle:
    """hypervisor: the driver of a host. open_vault: the VM's log through its own spool."""

    hypervisor: Callable[[str], Hypervisor]
    open_vault: Callable[[str], tuple[Vault, SpoolingStore]]
    ledger: Ledger
    pool: CopyPool
    agent: str

    def run(self, vm_id: str, host: str, context: Context) -> Proof:
        """The VM is off and its worker has ended. Raises Refused when it runs, Unavailable when the vault is away."""
        hypervisor = self.hypervisor(host)
        facts = hypervisor.vm(vm_id)
        if facts.power is not Power.OFF:
            raise Refused("it is not off", subject=facts.name, hint="Shut it down first")
        epoch = self.ledger.epoch_of(vm_id, host)
        if epoch is None:
            raise Refused("this host is not the one that replicates it", subject=facts.name)
        vault, store = self.open_vault(vm_id)
        store.belong(epoch)
        log = vault.log(vm_id)
        for _ in range(_ROUNDS):
            context.check()
            store.drain()
            mark = hypervisor.idle_mark(vm_id)
            # A replicator of its own each time: one that remembers the mark would not look at the disks again.
            replicator = Replicator(hypervisor, log, vm_id, self.pool, writer_name=self.agent, epoch=epoch)
            context.tell("bringing the last changes into the vault")
            result = _patiently(replicator, context)
            replicator.maintain()
            point = replicator.open().state.last_point
            quiet = mark is not None and hypervisor.idle_mark(vm_id) == mark
            if result.point is None and point is not None and quiet and not store.pending_bytes:
                return Proof(point, result.examined)
        raise Refused("its disks go on changing although it is off", subject=facts.name)


def _patiently(replicator: Replicator, context: Context) -> CycleResult:
    """Another job may still be letting go of the VM that was just shut down."""
    ends = time.monotonic() + _BUSY_S
    while True:
        context.check()
        try:
            return replicator.cycle()
        except HostBusy:
            if time.monotonic() > ends:
                raise
            time.sleep(_PAUSE_S)
