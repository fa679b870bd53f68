"""Replication of one VM, one cycle at a time.

The vault is the only memory: its newest commit names the tracking point that belongs to it. So whatever dies
whenever, the next cycle reads the log's tail, asks the hypervisor for the changes since just that tracking point,
and when it is gone compares everything by hash. The order that makes this safe: commit in the vault first, then let
go of the old tracking point.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from leeward.domain.errors import Fenced, HostBusy, StoreError, TrackingLost
from leeward.domain.points import Mark, RecoveryPoint
from leeward.domain.vm import Consistency
from leeward.ports.hypervisor import Cycle, Hypervisor
from leeward.replication.copy import Mode, copy_cycle
from leeward.replication.limiter import Limiter
from leeward.replication.meter import Meter
from leeward.replication.pool import CopyPool
from leeward.vault.log import LogWriter, VmLog

# Named instants at which the crash tests kill the process; each is just after what it names.
STEPS = (
    "cycle-opened",
    "copy-begun",
    "copied",
    "released",
    "committed",
    "tracking-advanced",
)


class Kind(StrEnum):
    INITIAL = "initial"  # no complete point yet
    DELTA = "delta"
    RESYNC = "resync"  # tracking lost: everything compared by hash


@dataclass(frozen=True, slots=True)
class CycleResult:
    """point: None when nothing had changed. time_ns: the instant that the vault now holds. examined: bytes read."""

    kind: Kind
    point: RecoveryPoint | None
    time_ns: int
    examined: int
    stored: int
    seconds: float
    warnings: tuple[str, ...]


class Joint(Protocol):
    """A cycle that begins at one instant with those of other VMs."""

    def moment(self) -> AbstractContextManager[None]:
        """See `leeward.ports.hypervisor.Hypervisor.open_cycle`."""

    @property
    def mark(self) -> Mark | None:
        """After the moment: what the point is to carry; None when the others did not come."""

    def withdraw(self, why: str) -> None:
        """The moment will not be entered. Nothing when it was."""


class Replicator:
    """One VM, one writer; not for several threads at once except `meter`, which anyone may read."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        log: VmLog,
        vm_id: str,
        pool: CopyPool,
        *,
        writer_name: str,
        epoch: int | None = None,
        claim: int | None = None,
        host: str = "",
        limiter: Limiter | None = None,
        stop: threading.Event | None = None,
        on_step: Callable[[str], None] = lambda step: None,
        on_kind: Callable[[Kind, str], None] = lambda kind, reason: None,
    ) -> None:
        """epoch: the epoch this writer reigned before a restart; None begins a new one on the first cycle: just after
        epoch `claim`, or, without a claim, after whatever epoch there is. host: where the VM runs, told in the epoch.

        on_step: called at every name of STEPS. on_kind: told what a cycle turns out to be, and why, before it reads.
        """
        self._hypervisor = hypervisor
        self._log = log
        self._vm_id = vm_id
        self._pool = pool
        self._writer_name = writer_name
        self._epoch = epoch
        self._claim = claim
        self._host = host
        self._limiter = limiter
        self._stop = stop
        self._on_step = on_step
        self._on_kind = on_kind
        self._writer: LogWriter | None = None
        # What the VM looked like, while off, just before the last cycle that succeeded.
        self._mark: str | None = None
        # Its disks have changed while it was off; until a cycle has compared them.
        self._shaken = False
        self.meter: Meter | None = None

    @property
    def epoch(self) -> int | None:
        """The epoch this writer reigns in; None before the first cycle of a new one."""
        return self._writer.state.epoch if self._writer else self._epoch

    def open(self) -> LogWriter:
        """The writer at the log's tail. Raises Fenced when another one has opened a newer epoch."""
        if self._writer is None:
            if self._epoch is None and self._claim is not None:
                info = {"writer": self._writer_name, "host": self._host, "reason": "protect"}
                self._writer = self._log.take_epoch(self._claim, info)
            else:
                self._writer = self._log.open_writer(
                    writer=self._writer_name, new_epoch=self._epoch is None, expect_epoch=self._epoch
                )
            self._epoch = self._writer.state.epoch
        return self._writer

    def check_reign(self) -> None:
        """Raises Fenced when another epoch than ours has begun. One small request; never begins an epoch itself."""
        if self._writer is not None:
            self._writer.check_reign()
        elif self._epoch is not None and (newest := self._log.epoch()) != self._epoch:
            raise Fenced(
                f"epoch {self._epoch} of this VM is over: epoch {newest} has begun, another place writes now",
                subject=self._vm_id,
                hint="Nothing more is written from here; see where the VM runs before you protect it again",
            )

    def cycle(self, consistency: Consistency = Consistency.CRASH, joint: Joint | None = None) -> CycleResult:
        """One incremental copy, or a full comparison where there is no tracking to go by.

        joint: together with others; when it comes to that there is a point with its mark, changed or not.

        Raises what the hypervisor or the vault raised; the vault then still has all it had, and the next cycle
        includes everything that this one would have brought.
        """
        began = time.monotonic()
        writer = self.open()
        mark = self._hypervisor.idle_mark(self._vm_id)
        try:
            if mark is not None and mark == self._mark:
                return self._idle(writer, mark, joint, began)
            # Somebody may have put back older images, and with them tracking that knows nothing of what came between:
            # two looks at a VM that is off, and something else there the second time, is as good as tracking lost.
            self._shaken |= mark is not None and self._mark is not None
            self._mark = None
            result = self._cycle(writer, consistency, began, joint)
            self._mark, self._shaken = mark, False
        except BaseException:
            self._doubt(writer)
            raise
        finally:
            self.meter = None
        return result

    def _idle(self, writer: LogWriter, mark: str, joint: Joint | None, began: float) -> CycleResult:
        """Of a VM that is off and has not changed since its newest point; that is said again where it has a mark."""
        point, time_ns = None, time.time_ns()
        if joint is not None:
            with joint.moment():
                time_ns = time.time_ns()
                if self._hypervisor.idle_mark(self._vm_id) != mark:
                    raise HostBusy("the VM was started just now", subject=self._vm_id)
            if joint.mark is not None:
                point = self._say_again(writer, time_ns, joint.mark)
        return CycleResult(Kind.DELTA, point, time_ns, 0, 0, time.monotonic() - began, ())

    def _say_again(self, writer: LogWriter, time_ns: int, mark: Mark) -> RecoveryPoint | None:
        state = writer.state
        transaction = writer.begin(
            time_ns=time_ns,
            consistency=Consistency.CRASH,
            disks=state.disks,
            definition=state.definition,
            tracking=state.tracking,
            compare=False,
            mark=mark,
        )
        return transaction.commit(keep_empty=True)

    def maintain(self) -> None:
        """Write a map checkpoint when one is due; between two cycles, once the last one's point has been told of: a
        large VM's takes its time."""
        writer = self._writer
        if writer is None:
            return
        try:
            with suppress(StoreError):  # an accelerator only; it is due again after the next point
                writer.maintain()
        except BaseException:
            self._doubt(writer)
            raise

    def compact(self, budget: int) -> int:
        """One slice of the log's compaction, between two cycles. budget: blocks. Returns blocks moved."""
        writer = self.open()
        try:
            return self._log.compact(writer, budget)
        except BaseException:
            self._doubt(writer)
            raise

    def _doubt(self, writer: LogWriter) -> None:
        """After a failure: let go of a writer that may not know the log's tail any more, so that it is read anew.

        One that does is kept: while the vault is away the tail could not be read, and a mere blip of the host would
        end the spooling of points for the whole outage.
        """
        if not writer.sure:
            self._writer = None

    def _cycle(self, writer: LogWriter, consistency: Consistency, began: float, joint: Joint | None) -> CycleResult:
        state = writer.state
        token = f"{state.seq + 1}-{secrets.token_hex(4)}"
        base = state.tracking or None
        first = state.last_point is None
        reason = "its disks have changed while it was off" if self._shaken and base else ""
        if not reason:
            try:
                opened = self._hypervisor.open_cycle(
                    self._vm_id,
                    base=base,
                    new=token,
                    consistency=consistency,
                    moment=joint.moment() if joint is not None else None,
                )
            except TrackingLost as lost:
                reason = lost.message
            else:
                # A disk that was given another name (its bus was changed) still bears our tracking, but under this
                # name the vault has nothing of it.
                unknown = {disk.name for disk in opened.vm.disks} - {disk.name for disk in state.disks}
                if base and unknown:
                    opened.abort()
                    reason = f"the vault has no disk {', '.join(sorted(unknown))} yet"
        if reason:
            base = None
            if joint is not None:
                joint.withdraw("one has lost its tracking")
                joint = None
            opened = self._hypervisor.open_cycle(self._vm_id, base=None, new=token, consistency=consistency)
        kind = Kind.INITIAL if first else Kind.DELTA if base else Kind.RESYNC
        self._on_kind(kind, reason)
        with opened as cycle:
            self._on_step("cycle-opened")
            point, examined, stored = self._copy(writer, cycle, kind, base, joint.mark if joint is not None else None)
            if point is not None:
                cycle.commit()
                self._on_step("tracking-advanced")
            return CycleResult(kind, point, cycle.time_ns, examined, stored, time.monotonic() - began, cycle.warnings)

    def _copy(
        self, writer: LogWriter, cycle: Cycle, kind: Kind, base: str | None, mark: Mark | None
    ) -> tuple[RecoveryPoint | None, int, int]:
        """Returns (point or None, bytes examined, bytes stored)."""
        mode = Mode(compare=base is None or cycle.superset, full=base is None)
        transaction = writer.begin(
            time_ns=cycle.time_ns,
            consistency=cycle.consistency,
            disks=cycle.vm.disks,
            definition=cycle.vm.definition,
            tracking=cycle.tracking,
            firmware=cycle.vm.firmware,
            compare=mode.compare,
            mark=mark,
            sender=self._pool.senders,
        )
        self._on_step("copy-begun")
        try:
            examined = copy_cycle(
                cycle,
                transaction,
                cycle.vm.disks,
                mode,
                self._pool,
                limiter=self._limiter,
                start_meter=lambda total: self._start_meter(kind, total),
                stop=self._stop,
            )
            cycle.check()
            self._on_step("copied")
            cycle.release()
            self._on_step("released")
            # A full read that found no difference still has to record the new tracking point, or the next cycle
            # would have to read everything again. An application-consistent point is worth keeping for itself.
            new_tracking = base is None and cycle.tracking != writer.state.tracking
            wanted = kind is Kind.INITIAL or cycle.consistency is Consistency.APP or mark is not None
            point = transaction.commit(keep_empty=new_tracking or wanted)
        except BaseException:
            transaction.abort()
            raise
        if point is not None:
            self._on_step("committed")
        return point, examined, transaction.stored

    def _start_meter(self, kind: Kind, total: int) -> Meter:
        self.meter = Meter(kind.value, total)
        return self.meter
