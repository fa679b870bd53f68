"""The agent: desired state in, facts out; one worker a protected VM.

`apply` may be called at any time with any generation; the agent compares wish and reality and starts, restarts or
stops workers. It holds the last wish on disk and acts on it after a restart without asking anybody. What a failover
does on a host comes as jobs (`agent/tasks`), which hold a VM's replication still or let the VM stand down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from leeward.agent.asking import surely_gone
from leeward.agent.config import HostConfig
from leeward.agent.grace import Grace
from leeward.agent.groups import Groups
from leeward.agent.guard import Guard
from leeward.agent.keeper import Keeper
from leeward.agent.ledger import Ledger, Owed, Reigned, StandDown
from leeward.agent.left_standing import LeftStanding
from leeward.agent.owing import Owing
from leeward.agent.room import room
from leeward.agent.sentry import LOOK_S, Sentry, Watched
from leeward.agent.worker import Services, Worker
from leeward.domain.errors import LeewardError, NotFound, Unavailable, VmGone
from leeward.domain.protection import ProtectionState
from leeward.logs import log
from leeward.ports.hypervisor import Hypervisor
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.wire.messages import (
    AgentReport,
    DesiredState,
    HostReport,
    ProtectionMessage,
    ProtectionReport,
)
from leeward.wire.translate import utc, vm_message

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
        groups: Groups | None = None,
    ) -> None:
        """open_vault: through a VM's own spool. open_plain_vault: what is really in the vault. groups: without them
        VMs are replicated each for itself."""
        self.name = name
        self._hosts = hosts
        self._open_vault = open_vault
        self._ledger = ledger
        self._services = services
        self._workers: dict[str, Worker] = {}
        self._troubles: dict[str, str] = {}
        self._lock = threading.RLock()
        # When, of which hosts, and what they told.
        self._hosts_cache: tuple[float, Mapping[str, Source], list[HostReport]] | None = None
        self._running = False
        self._open_plain_vault = open_plain_vault
        self._groups = groups
        self._keeper = Keeper(self._kept, ledger.epochs, open_plain_vault, self._pruned)
        self._drivers = {name: source.hypervisor for name, source in hosts.items()}
        self._guard = Guard(ledger, self._drivers, self._end_held)
        self._left = LeftStanding(groups, ledger, self._guard.keep_off, self._fenced)
        self._sentry = Sentry(self._unproven, ledger.epoch_of, open_plain_vault, self._reign_over)
        self.grace = Grace()
        self.owing = Owing(ledger, open_plain_vault, self._settled, self._beaten)

    def _kept(self) -> list[ProtectionMessage]:
        return [wish for wish in self._ledger.desired.protections if not wish.paused]

    def _unproven(self) -> list[Watched]:
        """Also what nobody wishes to be replicated from here: a VM that is just coming here runs before that."""
        with self._lock:
            workers = list(self._workers.values())
        proven = {(worker.wish.vm_id, worker.wish.host) for worker in workers if worker.reigned_within(LOOK_S)}
        reigns = self._ledger.reigns().items()
        found = {(vm_id, had.host): Watched(vm_id, had.host) for vm_id, had in reigns if had.host in self._hosts}
        for wish in self._ledger.desired.protections:
            found[wish.vm_id, wish.host] = Watched(wish.vm_id, wish.host, wish.vm_name)
        return [vm for key, vm in found.items() if key not in proven and self._ledger.standdown(*key) is None]

    def _pruned(self, vm_id: str) -> None:
        worker = self._workers.get(vm_id)
        if worker is not None:
            worker.pruned()

    def start(self) -> None:
        """Begin to act on the desired state of the last run."""
        with self._lock:
            self._running = True
            self._guard.look()  # before anything else: what runs elsewhere must not run here
            self._left.ask()
            self._left.release()  # guests that we have stopped, and died
            self._reconcile()
            self._keeper.start()
            self._guard.start()
            self._sentry.start()
            self.owing.start()

    def stop(self) -> None:
        """End all workers; the desired state stays."""
        self._guard.stop(STOP_TIMEOUT_S)
        self._sentry.stop(STOP_TIMEOUT_S)
        self.owing.stop(STOP_TIMEOUT_S)
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
            # First of all, and whether or not there is room to write it down. Without room the desired state is not
            # taken over, so that all of it is told once more.
            for off in desired.standdowns:
                if off.host not in self._hosts or self._ledger.standdown(off.vm_id, off.host) is not None:
                    continue
                if not (off.recovered and self.has_not(off.vm_id, off.host)):
                    with suppress(Unavailable):
                        self._ledger.unowe(off.vm_id, off.host)
                    with suppress(Unavailable):
                        self._ledger.stand_down(StandDown(off.vm_id, off.vm_name, off.host, off.reason))
            self._ledger.save_desired(desired)
            if self._running:
                self._reconcile()
            wanted = {wish.vm_id for wish in desired.protections}
            for vm_id, wish in before.items():
                if vm_id not in wanted and self._ledger.standdown(vm_id, wish.host) is None:
                    self._ledger.unhold(vm_id, wish.host)
                    self._left.may_be_free(wish.host, vm_id)
                    self._forget(wish)
        self._guard.wake()

    def has_not(self, vm_id: str, host: str) -> bool:
        """A host that cannot tell may have it still. Raises NotFound."""
        return surely_gone(self.source(host).hypervisor, vm_id)

    def _wishes(self) -> dict[str, ProtectionMessage]:
        """What is to be replicated now: what is held still or stands down is left out."""
        wishes = self._ledger.desired.protections
        return {wish.vm_id: wish for wish in wishes if not self._ledger.holds(wish.vm_id, wish.host)}

    def _reconcile(self) -> None:
        wishes = self._wishes()
        if self._groups is not None:
            self._groups.change(wishes.values())
        for vm_id in list(self._workers):
            if wishes.get(vm_id) != self._workers[vm_id].wish:
                worker = self._workers.pop(vm_id)
                worker.stop()
                worker.join(STOP_TIMEOUT_S)
        for vm_id, wish in wishes.items():
            if vm_id not in self._workers:
                self._begin(wish)

    def _end_held(self) -> None:
        """Workers of VMs that were found to stand down by themselves end here, in the guard's thread."""
        with self._lock:
            if self._running and self._workers.keys() - self._wishes().keys():
                self._reconcile()
        self._left.release()

    # --- what jobs do -------------------------------------------------------------------------------

    def hold(self, vm_id: str, host: str) -> None:
        """Replicate nothing of this VM until `stand_up`; when this returns its worker has ended."""
        with self._lock:
            self._ledger.hold(vm_id, host)
            if self._running:
                self._reconcile()

    def stand_down(self, standdown: StandDown) -> bool:
        """From now on the VM stays off on this host. True when it is off already. Raises NotFound."""
        self.source(standdown.host)
        self.owing.drop(standdown.vm_id, standdown.host)
        with self._lock:
            self._ledger.stand_down(standdown)
            if self._running:
                self._reconcile()
        return self._guard.keep_off(standdown)

    def stand_up(self, vm_id: str, host: str) -> None:
        """The VM may run, and be replicated, on this host again, and be started by it as it was before."""
        with self._guard.sparing(vm_id, host), self._lock:
            standdown = self._ledger.standdown(vm_id, host)
            if standdown is not None and standdown.autostart:
                self._start_by_itself(standdown)
            self._ledger.stand_up(vm_id, host)
            if self._running:
                self._reconcile()

    def _start_by_itself(self, standdown: StandDown) -> None:
        try:
            self.source(standdown.host).hypervisor.set_autostart(standdown.vm_id, True)
        except LeewardError as error:
            log.warning("its autostart could not be switched on again", vm=standdown.vm_name, error=str(error))

    def reigns(self, vm_id: str, epoch: int, host: str) -> None:
        """This host writes the VM's log in this epoch from now on; a worker of an earlier one ends."""
        self.grace.begins(vm_id, host, epoch)
        with self._lock:
            self._ledger.save_epoch(vm_id, epoch, host)
            worker = self._workers.get(vm_id)
            if worker is not None and worker.epoch != epoch:
                del self._workers[vm_id]
                worker.stop()
                worker.join(STOP_TIMEOUT_S)
            if self._running:
                self._reconcile()

    def _settled(self, owed: Owed, epoch: int) -> None:
        """An owed epoch has begun: from here on this host writes the log."""
        with self._lock:
            self._ledger.save_epoch(owed.vm_id, epoch, owed.host)
            self._ledger.unowe(owed.vm_id, owed.host)
            if self._running:
                self._reconcile()

    def _beaten(self, owed: Owed, there: str) -> None:
        # The stand-down first: dead in between, it is owed still, and found out again.
        reason = f"it runs at {there}: this one was started while the vault was away"
        self._ledger.stand_down(StandDown(owed.vm_id, owed.vm_name, owed.host, reason))
        self._ledger.unowe(owed.vm_id, owed.host)
        self._guard.wake()

    def add(self, source: Source) -> None:
        """Another host, while the agent runs; what was wished for it already begins."""
        with self._lock:
            name = source.config.name
            # Other threads go through it: it is replaced, not changed.
            self._hosts = {**self._hosts, name: source}
            self._drivers[name] = source.hypervisor
            if self._groups is not None:
                self._groups.add(name, source.hypervisor)
            if self._running:
                self._reconcile()

    def remove(self, name: str, last: Callable[[], None]) -> None:
        """Serve a host no more, while the agent runs. last: called when nothing can be wished of it any more; what it
        raises lets the host stay. Raises NotFound."""
        with self._lock:
            self.source(name)
            last()
            self._hosts = {other: source for other, source in self._hosts.items() if other != name}
            self._drivers.pop(name, None)
            if self._groups is not None:
                self._groups.remove(name)
            self._hosts_cache = None

    def configured(self) -> tuple[HostConfig, ...]:
        return tuple(source.config for source in self._hosts.values())

    def source(self, host: str) -> Source:
        """Raises NotFound."""
        if host not in self._hosts:
            raise NotFound("this agent has no such host", subject=host, hint=f"It has: {', '.join(self._hosts)}")
        return self._hosts[host]

    def _reign_over(self, vm: Watched, epoch: int) -> None:
        """What the sentry has found out. A copy that has been removed need not be looked after any more."""
        if vm.name:
            return self._fenced(vm)
        # Whoever removes a copy then lets it stand up: a stand-down must not come after that.
        with self._guard.sparing(vm.vm_id, vm.host):
            try:
                name = self.source(vm.host).hypervisor.vm(vm.vm_id).name
            except VmGone:
                return self._ledger.forget(vm.vm_id, Reigned(epoch, vm.host))
            except LeewardError:
                name = vm.vm_id
            return self._fenced(replace(vm, name=name))

    def _fenced(self, vm: Watched) -> None:
        """Another writer has this VM's log. If that is because the VM runs elsewhere now, it must not run here."""
        if self._ledger.owed(vm.vm_id, vm.host) is not None:
            return  # who has it is found out there
        move = self._open_plain_vault().log(vm.vm_id).last_move()
        if move is None or move.info.get("host") == vm.host:
            return
        host = move.info.get("host")
        reason = f"it runs at {host} since {utc(move.time_ns)}" if move.time_ns else f"it runs at {host}"
        # Not under the agent's lock: this may be a worker's thread, and whoever ends the worker holds the lock.
        if self._ledger.stand_down(StandDown(vm.vm_id, vm.name, vm.host, reason), after=move.epoch):
            log.warning("standing down: the VM was taken over while we were away", vm=vm.name, reason=reason)
            self._guard.wake()

    def _begin(self, wish: ProtectionMessage) -> None:
        source = self._hosts.get(wish.host)
        if source is None:
            self._troubles[wish.vm_id] = f"host {wish.host} is not among this agent's hosts"
            return
        self._troubles.pop(wish.vm_id, None)
        epoch = self._ledger.epoch_of(wish.vm_id, wish.host)
        services = replace(
            self._services,
            save_epoch=lambda vm_id, number: self._ledger.save_epoch(vm_id, number, wish.host),
            on_fenced=lambda wish: self._fenced(Watched(wish.vm_id, wish.host, wish.vm_name)),
            group=self._groups.of if self._groups is not None else self._services.group,
        )
        worker = Worker(wish, source.hypervisor, partial(self._open_vault, wish.vm_id), services, epoch)
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
            reports += [_idle(wish, *self._why(wish)) for wish in self._unworked()]
            generation = self._ledger.desired.generation
        return AgentReport(
            agent=self.name,
            generation=generation,
            time=utc(now),
            protections=tuple(reports),
            standdowns=self._guard.reports(),
        )

    def _unworked(self) -> list[ProtectionMessage]:
        return [wish for wish in self._ledger.desired.protections if wish.vm_id not in self._workers]

    def _why(self, wish: ProtectionMessage) -> tuple[ProtectionState, str]:
        """Why a wished VM is not replicated now."""
        standdown = self._ledger.standdown(wish.vm_id, wish.host)
        if standdown is not None:
            return ProtectionState.PAUSED, f"stays off on this host: {standdown.reason}"
        if self._ledger.owed(wish.vm_id, wish.host) is not None:
            return ProtectionState.ERROR, "the vault is away; its log is taken over first when it is back"
        if self._ledger.holds(wish.vm_id, wish.host):
            return ProtectionState.PAUSED, "held still: a failover is under way"
        return ProtectionState.ERROR, self._troubles.get(wish.vm_id, "the agent is stopped")

    def _noted(self, report: ProtectionReport) -> ProtectionReport:
        trouble = self._keeper.troubles.get(report.vm_id)
        if not trouble or report.state is not ProtectionState.ENABLED or report.reason:
            return report
        return report.model_copy(update={"reason": f"old points could not be pruned: {trouble}"})

    def hosts(self) -> list[HostReport]:
        """Every host with its VMs, not older than a second; a host that cannot be asked says why."""
        asked, cached = self._hosts, self._hosts_cache
        if cached and cached[1] is asked and time.monotonic() - cached[0] < HOSTS_CACHE_S:
            return cached[2]
        reports = [_ask(source) for source in asked.values()]
        self._hosts_cache = (time.monotonic(), asked, reports)
        return reports


def _ask(source: Source) -> HostReport:
    config = source.config
    try:
        vms, error = tuple(vm_message(facts) for facts in source.hypervisor.vms()), ""
    except LeewardError as failure:
        vms, error = (), str(failure)
    free = room(config.storage) if config.storage else None
    return HostReport(name=config.name, site=config.site, uri=config.uri, error=error, vms=vms, free=free)


def _idle(wish: ProtectionMessage, state: ProtectionState, reason: str) -> ProtectionReport:
    return ProtectionReport(
        vm_id=wish.vm_id,
        state=state,
        reason=reason,
        progress=None,
        rpo_target_s=wish.policy.rpo_s,
        rpo_actual_s=None,
        verified_at=None,
        last_point=None,
        failover_possible=False,
    )
