"""The worker of one protected VM: a thread that runs cycles at the policy's pace and keeps the facts current."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from leeward.agent.catchup import CatchUp
from leeward.agent.groups import Fellow, Group, Seat
from leeward.agent.pace import backoff, next_start, usual
from leeward.agent.status import Facts, state_of, unreadable
from leeward.domain.errors import Damaged, Fenced, LeewardError, VmGone, WrongKey
from leeward.domain.points import RecoveryPoint
from leeward.domain.protection import ProtectionState
from leeward.domain.vm import Consistency
from leeward.logs import log
from leeward.ports.hypervisor import Hypervisor
from leeward.replication.copy import Stopped
from leeward.replication.limiter import Limiter
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Kind, Replicator
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.vault.log import LogWriter
from leeward.wire.messages import ProtectionMessage, ProtectionReport
from leeward.wire.translate import point_message, progress_message, utc

# What waiting does not mend: the worker stops and says so until the operator changes something.
PERMANENT = (Fenced, WrongKey)
# A VM that puts nothing (nothing changes, its host is busy, its target is long, it is paused) would never meet the
# entry of whoever took it over: look this often. While points wait in the spool, sending them finds out.
# An unplanned failover counts on it (leeward.orchestrator.assignments.GRACE_S).
_REIGN_S = 5.0
_FENCED_RETRY_S = 5.0
# A slice of compaction: 16 MiB of disk delay the next cycle by little.
_COMPACT_BLOCKS = 256
# Longer than a store goes on trying one put; a put that is still under way then does no harm to a successor.
_CATCH_UP_S = 10.0


@dataclass(frozen=True, slots=True)
class Services:
    """What every worker of an agent shares. save_epoch: durably remembers the epoch a VM's writer reigns in.

    on_fenced: told the wish whose epoch is over; what it raises is tried again a little later. group: the consistency
    group of a wish, if it has one.
    """

    agent: str
    pool: CopyPool
    save_epoch: Callable[[str, int], None] = lambda vm_id, epoch: None
    on_step: Callable[[str], None] = lambda step: None
    on_fenced: Callable[[ProtectionMessage], None] = lambda wish: None
    group: Callable[[ProtectionMessage], Group | None] = lambda wish: None


OpenVault = Callable[[], tuple[Vault, SpoolingStore]]


@dataclass(frozen=True, slots=True)
class Opened:
    """The vault as this VM sees it, through its own spool, and the writer of its log."""

    vault: Vault
    store: SpoolingStore
    replicator: Replicator
    catch_up: CatchUp


class Worker:
    """Start once, stop once. The vault is opened by the thread, so a vault that is away delays nobody else."""

    def __init__(
        self,
        wish: ProtectionMessage,
        hypervisor: Hypervisor,
        open_vault: OpenVault,
        services: Services,
        epoch: int | None,
    ) -> None:
        self.wish = wish
        self._hypervisor = hypervisor
        self._open_vault = open_vault
        self._opened: Opened | None = None
        self._services = services
        self._epoch = epoch
        self._facts = Facts(paused=wish.paused)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._worn = threading.Event()
        self._next_app = 0.0
        self._next_look = 0.0
        self._reigned = float("-inf")
        self._due = 0.0
        self._usual: float | None = None
        self._vm_id = wish.vm_id
        self._fellow = Fellow(wish, services.group)
        self._thread = threading.Thread(target=self._run, name=f"protect-{wish.vm_name}", daemon=True)

    @property
    def epoch(self) -> int | None:
        """The epoch it began in or has begun itself."""
        return self._opened.replicator.epoch if self._opened else self._epoch

    def reigned_within(self, seconds: float) -> bool:
        """Whether the vault itself has shown so recently that nobody else has taken the log over."""
        return time.monotonic() - self._reigned < seconds

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; `join` waits for it."""
        self._stop.set()
        self._wake.set()

    def pruned(self) -> None:
        """The log has been pruned: see whether what is left is worth compacting."""
        self._worn.set()

    def join(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._replicate()
        finally:
            self._fellow.able(False)
            if self._opened:
                self._opened.catch_up.stop(_CATCH_UP_S)

    def _replicate(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._look_who_reigns()
                began = time.monotonic()
                due = self._due if self._facts.paused else self._fellow.due(self._due, began, self._usual)
                if began < due:
                    self._wake.wait(min(due - began, _REIGN_S))
                    continue
                opened = self._open()
                if self._facts.paused:
                    self._due = math.inf
                    continue
                opened.catch_up.look()
                self._cycle(opened, began)
                opened.catch_up.look()
                failures = 0
                ended = time.monotonic()
                self._usual = usual(self._usual, ended - began)
                self._compact(opened)
                self._due = next_start(began, ended, self._usual, self.wish.policy.rpo_s)
            except Stopped:
                return
            except PERMANENT as error:
                log.warning("replication stopped for good", vm=self.wish.vm_name, error=str(error))
                self._facts.fail(self._told(error), permanent=True)
                if isinstance(error, Fenced):
                    self._tell_fenced()
                return
            except LeewardError as error:
                failures += 1
                self._fellow.able(False)
                log.warning("cycle failed", vm=self.wish.vm_name, error=str(error), failures=failures)
                self._facts.fail(self._told(error), permanent=isinstance(error, VmGone))
                self._due = time.monotonic() + backoff(failures)
            except Exception as error:  # a bug of ours must not end protection silently
                failures += 1
                self._fellow.able(False)
                log.exception("cycle failed unexpectedly", vm=self.wish.vm_name)
                self._facts.fail(f"internal error: {error!r}", permanent=False)
                self._due = time.monotonic() + backoff(failures)

    def _told(self, error: LeewardError) -> str:
        """One line for people, who know the VM by its name."""
        return str(error).replace(f"{self._vm_id}: ", f"{self.wish.vm_name}: ", 1)

    def _tell_fenced(self) -> None:
        """Until whoever must know has really taken note: a VM that runs elsewhere must not run on here."""
        while not self._stop.is_set():
            try:
                self._services.on_fenced(self.wish)
            except LeewardError as error:
                log.warning("cannot find out who took the VM over", vm=self.wish.vm_name, error=str(error))
                self._stop.wait(_FENCED_RETRY_S)
            else:
                return

    def _open(self) -> Opened:
        """The vault, and the newest point that is really in it."""
        if self._opened is None:
            vault, store = self._open_vault()
            if self._epoch is not None:
                store.belong(self._epoch)
            else:
                store.begin_anew()
            vm_log = vault.log(self._vm_id)
            limiter = Limiter(
                self.wish.policy.bandwidth, sleep=self._stop.wait, exempt=lambda: store.pending_bytes > 0
            )
            replicator = Replicator(
                self._hypervisor,
                vm_log,
                self._vm_id,
                self._services.pool,
                writer_name=self._services.agent,
                epoch=self._epoch,
                claim=self.wish.claim,
                host=self.wish.host,
                limiter=limiter,
                stop=self._stop,
                on_step=self._services.on_step,
                on_kind=self._begin_kind,
            )
            points = vm_log.points()
            waiting = [point for point in points if store.is_pending(_log_key(self._vm_id, point))]
            sent = points[: len(points) - len(waiting)]
            with self._facts.lock:
                self._facts.newest, self._facts.known = (sent[-1] if sent else None), True
                self._facts.newest_at = time.monotonic()
                self._facts.unsent.extend(waiting)
                self._facts.recorded |= dict.fromkeys((point.id for point in waiting), self._facts.newest_at)
            prefix = _log_prefix(self._vm_id)
            catch_up = CatchUp(self.wish.vm_name, store, prefix, limiter, self._wake.set)
            self._opened = Opened(vault, store, replicator, catch_up)
        return self._opened

    def _begin_kind(self, kind: Kind, reason: str) -> None:
        self._facts.begin(kind, reason)
        if kind is not Kind.DELTA:
            self._fellow.able(False)  # it reads everything: nobody is to wait for that

    def _cycle(self, opened: Opened, began: float) -> None:
        seat = self._fellow.seat()
        try:
            self._cycle_with(opened, began, seat)
        finally:
            if seat is not None:
                seat.withdraw(f"{self.wish.vm_name} could not come")
        self._fellow.able(True)

    def _cycle_with(self, opened: Opened, began: float, seat: Seat | None) -> None:
        app = self.wish.policy.app_interval_s
        # Freezing takes its time, in which others would wait.
        due = app > 0 and began >= self._next_app and self._facts.newest is not None and seat is None
        # The epoch is remembered before the first point is written in it: after a kill we are its writer still.
        epoch = self._writer(opened).state.epoch
        self._services.save_epoch(self._vm_id, epoch)
        opened.store.belong(epoch)
        result = opened.replicator.cycle(Consistency.APP if due else Consistency.CRASH, seat)
        if due:
            self._next_app = began + app
        self._facts.record(result)
        self._settle(opened.store)
        if result.point is not None:
            self._next_look = time.monotonic() + _REIGN_S  # putting it has shown who reigns
            if not opened.store.pending_bytes:
                self._reigned = time.monotonic()
        log.debug(
            "cycle",
            vm=self.wish.vm_name,
            kind=result.kind,
            point=result.point.id if result.point else None,
            ms=round(result.seconds * 1000, 1),
            bytes=result.stored,
        )
        opened.replicator.maintain()

    def _writer(self, opened: Opened) -> LogWriter:
        try:
            return opened.replicator.open()
        except Damaged as error:
            raise unreadable(error, opened.vault.log(self._vm_id), self.wish.vm_name) from error

    def _look_who_reigns(self) -> None:
        opened = self._opened
        if opened is None:
            return
        opened.catch_up.check()
        if opened.store.pending_bytes or time.monotonic() < self._next_look:
            return
        try:
            opened.replicator.check_reign()
            self._reigned = time.monotonic()
        except Fenced:
            raise
        except LeewardError as error:  # away or damaged: the next cycle with changes tells
            log.debug("who reigns is not known", vm=self.wish.vm_name, error=str(error))
        self._next_look = time.monotonic() + _REIGN_S

    def _compact(self, opened: Opened) -> None:
        """One slice after a cycle, as long as there is something to gain; never while points wait in the spool."""
        if not self._worn.is_set() or opened.store.pending_bytes:
            return
        try:
            moved = opened.replicator.compact(_COMPACT_BLOCKS)
        except PERMANENT:
            raise
        except LeewardError as error:
            log.warning("compaction put off", vm=self.wish.vm_name, error=str(error))
            moved = 0
        if moved:
            log.debug("compacted", vm=self.wish.vm_name, blocks=moved)
        else:
            self._worn.clear()

    def _settle(self, store: SpoolingStore) -> None:
        """Points whose commit is in the vault itself become the newest; the spooled ones wait."""
        facts = self._facts
        with facts.lock:
            while facts.unsent and not store.is_pending(_log_key(self._vm_id, facts.unsent[0])):
                facts.in_vault(facts.unsent.popleft())
            # One that is just being kept is told of by the spool before its cycle has ended.
            facts.away = store.trouble
            facts.waiting = max(len(facts.unsent), bool(facts.away))

    # --- reports ------------------------------------------------------------------------------------

    def report(self, now_ns: int) -> ProtectionReport:
        facts = self._facts
        if self._opened:
            self._settle(self._opened.store)  # the spool is sent at any time, and the cycles may be far apart
        meter = self._opened.replicator.meter if self._opened else None
        with facts.lock:
            actual = facts.age_s(now_ns)
            state, reason = state_of(facts, self.wish.policy.rpo_s, actual)
            if state is ProtectionState.ENABLED and not reason:
                reason = self._fellow.trouble()
            bulk = facts.kind in (Kind.INITIAL, Kind.RESYNC) or facts.newest is None
            return ProtectionReport(
                vm_id=self._vm_id,
                state=state,
                reason=reason,
                progress=progress_message(meter.progress()) if meter and bulk else None,
                rpo_target_s=self.wish.policy.rpo_s,
                rpo_actual_s=actual,
                verified_at=utc(facts.verified_ns) if facts.verified_ns else None,
                last_point=point_message(facts.newest) if facts.newest else None,
                failover_possible=facts.newest is not None,
                cycles=facts.cycles,
                last_cycle_ms=round(facts.last_cycle_s * 1000, 1) if facts.last_cycle_s else None,
                last_cycle_bytes=facts.last_cycle_bytes,
                sent_bytes=facts.sent_bytes,
                spool_bytes=self._opened.store.pending_bytes if self._opened else 0,
                marked_at=utc(facts.marked_ns) if facts.marked_ns else None,
            )


def _log_prefix(vm_id: str) -> str:
    return f"vm/{vm_id}/log/"


def _log_key(vm_id: str, point: RecoveryPoint) -> str:
    return f"{_log_prefix(vm_id)}{point.seq:016d}"
