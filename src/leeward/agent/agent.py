"""The agent: desired state in, facts out; one worker a protected VM.

`apply` may be called at any time with any generation; the agent compares wish and reality and starts, restarts or
stops workers. It holds the last wish on disk and acts on it after a restart without asking anybody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from leeward.agent.config import HostConfig
from leeward.agent.keeper import Keeper
from leeward.agent.ledger import Ledger
from leeward.agent.worker import Services, Worker
from leeward.domain.errors import LeewardError, VmGone
from leeward.domain.protection import ProtectionState
from leeward.ports.hypervisor import Hypervisor
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.wire.messages import AgentReport, DesiredState, HostReport, ProtectionMessage, ProtectionReport
from leeward.wire.translate import utc, vm_message

log = structlog.get_logger(__name__)

# A worker ends between two chunks of a copy; only a put to a slow vault can keep it longer.
STOP_TIMEOUT_S = 30.0
HOSTS_CACHE_S = 1.0


@dataclass(frozen=True, slots=True)
class Source:
    """One source host: how it was configured, and its driver."""

    config: HostConfig
    hypervisor: Hypervisor


class Agent:
    def __init__(
        self,
        name: str,
        hosts: Mapping[str, Source],
        open_vault: Callable[[str], tuple[Vault, SpoolingStore]],
        ledger: Ledger,
        services: Services,
        open_plain_vault: Callable[[], Vault],
    ) -> None:
        """open_vault: through a VM's own spool. open_plain_vault: what is really in the vault."""
        self.name = name
        self._hosts = hosts
        self._open_vault = open_vault
        self._ledger = ledger
        self._services = services
        self._workers: dict[str, Worker] = {}
        self._troubles: dict[str, str] = {}
        self._lock = threading.RLock()
        self._hosts_cache: tuple[float, list[HostReport]] | None = None
        self._running = False
        self._keeper = Keeper(self._kept, lambda: dict(ledger.epochs), open_plain_vault, self._pruned)

    def _kept(self) -> list[ProtectionMessage]:
        return [wish for wish in self._ledger.desired.protections if not wish.paused]

    def _pruned(self, vm_id: str) -> None:
        worker = self._workers.get(vm_id)
        if worker is not None:
            worker.pruned()

    def start(self) -> None:
        """Begin to act on the desired state of the last run."""
        with self._lock:
            self._running = True
            self._reconcile()
            self._keeper.start()

    def stop(self) -> None:
        """End all workers; the desired state stays."""
        with self._lock:
            self._running = False
            for worker in self._workers.values():
                worker.stop()
            for vm_id, worker in self._workers.items():
                if not worker.join(STOP_TIMEOUT_S):
                    log.warning("worker did not end in time", vm_id=vm_id)
            self._workers.clear()
        self._keeper.stop(STOP_TIMEOUT_S)

    def apply(self, desired: DesiredState) -> None:
        """Take over a newer generation, durably, and act on it. An older or equal one is ignored."""
        with self._lock:
            if desired.generation <= self._ledger.desired.generation:
                return
            before = {wish.vm_id: wish for wish in self._ledger.desired.protections}
            self._ledger.save_desired(desired)
            if self._running:
                self._reconcile()
            wanted = {wish.vm_id for wish in desired.protections}
            for vm_id, wish in before.items():
                if vm_id not in wanted:
                    self._forget(wish)

    def _reconcile(self) -> None:
        wishes = {wish.vm_id: wish for wish in self._ledger.desired.protections}
        for vm_id in list(self._workers):
            if wishes.get(vm_id) != self._workers[vm_id].wish:
                worker = self._workers.pop(vm_id)
                worker.stop()
                worker.join(STOP_TIMEOUT_S)
        for vm_id, wish in wishes.items():
            if vm_id not in self._workers:
                self._begin(wish)

    def _begin(self, wish: ProtectionMessage) -> None:
        source = self._hosts.get(wish.host)
        if source is None:
            self._troubles[wish.vm_id] = f"host {wish.host} is not among this agent's hosts"
            return
        self._troubles.pop(wish.vm_id, None)
        epoch = self._ledger.epochs.get(wish.vm_id)
        worker = Worker(wish, source.hypervisor, partial(self._open_vault, wish.vm_id), self._services, epoch)
        self._workers[wish.vm_id] = worker
        worker.start()

    def _forget(self, wish: ProtectionMessage) -> None:
        """Take our traces off a VM that is no longer to be protected. What is in the vault stays."""
        self._troubles.pop(wish.vm_id, None)
        self._ledger.forget(wish.vm_id)
        source = self._hosts.get(wish.host)
        if source is None:
            return
        try:
            source.hypervisor.forget(wish.vm_id)
        except VmGone:
            pass  # nothing is left to take off
        except LeewardError as error:
            log.warning("traces are left on the host", vm=wish.vm_name, error=str(error))

    # --- facts --------------------------------------------------------------------------------------

    def report(self) -> AgentReport:
        now = time.time_ns()
        with self._lock:
            reports = [self._noted(worker.report(now)) for worker in self._workers.values()]
            for wish in self._ledger.desired.protections:
                if wish.vm_id not in self._workers:
                    reports.append(_trouble(wish, self._troubles.get(wish.vm_id, "the agent is stopped")))
            generation = self._ledger.desired.generation
        return AgentReport(agent=self.name, generation=generation, time=utc(now), protections=tuple(reports))

    def _noted(self, report: ProtectionReport) -> ProtectionReport:
        trouble = self._keeper.troubles.get(report.vm_id)
        if not trouble or report.state is not ProtectionState.ENABLED or report.reason:
            return report
        return report.model_copy(update={"reason": f"old points could not be pruned: {trouble}"})

    def hosts(self) -> list[HostReport]:
        """Every host with its VMs, not older than a second; a host that cannot be asked says why."""
        cached = self._hosts_cache
        if cached and time.monotonic() - cached[0] < HOSTS_CACHE_S:
            return cached[1]
        reports = [_ask(source) for source in self._hosts.values()]
        self._hosts_cache = (time.monotonic(), reports)
        return reports

    def hypervisor(self, host: str) -> Hypervisor:
        return self._hosts[host].hypervisor


def _ask(source: Source) -> HostReport:
    config = source.config
    try:
        vms, error = tuple(vm_message(facts) for facts in source.hypervisor.vms()), ""
    except LeewardError as failure:
        vms, error = (), str(failure)
    return HostReport(name=config.name, site=config.site, uri=config.uri, error=error, vms=vms)


def _trouble(wish: ProtectionMessage, reason: str) -> ProtectionReport:

    return ProtectionReport(
        vm_id=wish.vm_id,
        state=ProtectionState.ERROR,
        reason=reason,
        progress=None,
        rpo_target_s=wish.policy.rpo_s,
        rpo_actual_s=None,
        verified_at=None,
        last_point=None,
        failover_possible=False,
    )
