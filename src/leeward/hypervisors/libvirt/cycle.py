"""One cycle of a running VM: a pull-mode backup of all its disks in one transaction with a new checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import libvirt

from leeward.domain.blocks import Runs
from leeward.domain.errors import HypervisorError, LeewardError
from leeward.domain.vm import Consistency, VmFacts
from leeward.hypervisors import extents, nbd
from leeward.hypervisors.libvirt.checkpoints import delete
from leeward.hypervisors.libvirt.guard import ScratchGuard
from leeward.hypervisors.libvirt.scratch import Scratch
from leeward.logs import log

T = TypeVar("T")


class NbdReader:
    """See `leeward.ports.blocks.BlockReader`."""

    def __init__(self, connection: nbd.Nbd) -> None:
        self._connection = connection

    def read_into(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        self._connection.read_into(pieces)

    def close(self) -> None:
        self._connection.close()


@dataclass(slots=True)
class Job:
    """A running backup job of ours. socket: tells where QEMU's NBD server is, as we see it now. base and new:
    checkpoint names, None where there is none. find: looks the VM up on a connection that works. Both raise
    HypervisorError.

    libvirtd may be restarted meanwhile (its package was upgraded): QEMU's backup goes on and libvirt knows it again,
    only our connection is gone. In a first copy of hours nothing is to be begun anew for that.
    """

    domain: libvirt.virDomain
    scratch: Scratch
    socket: Callable[[], Path]
    base: str | None
    new: str | None
    find: Callable[[], libvirt.virDomain]

    def ask(self, question: Callable[[libvirt.virDomain], T]) -> T:
        """Raises libvirtError. Thread-safe."""
        domain = self.domain
        try:
            return question(domain)
        except libvirt.libvirtError:
            found = self._again(domain)
            if found is None:
                raise
        self.domain = found
        return question(found)

    def _again(self, lost: libvirt.virDomain) -> libvirt.virDomain | None:
        """The same run of the VM, with this backup on it; None unless the connection is gone and libvirtd back."""
        try:
            if lost.connect().isAlive():
                return None
            found = self.find()
            same = found.ID() == lost.ID() and f"'{self.scratch.prefix}" in found.backupGetXMLDesc(0)
        except (libvirt.libvirtError, LeewardError):
            return None
        return found if same else None


class LiveCycle:
    """See `leeward.ports.hypervisor.Cycle`.

    The connections that told the sizes serve the extents too, and then whoever reads a disk first: each one that is
    made takes some of QEMU's main thread, for which the guest's writes wait.
    """

    def __init__(
        self,
        job: Job,
        facts: VmFacts,
        connections: dict[str, nbd.Nbd],
        *,
        time_ns: int,
        consistency: Consistency,
        warnings: tuple[str, ...],
        tracking: str,
    ) -> None:
        self._job = job
        self._connections = connections  # those that nobody reads from yet
        self._ended = self._over = False
        self._guard = ScratchGuard(job.ask, facts.name, job.scratch.folder)
        self._guard.start()
        self.time_ns = time_ns
        self.consistency = consistency
        self.warnings = warnings
        self.vm = facts
        self.tracking = tracking
        self.superset = job.base is None
        self.clean = True  # False when something of ours may be left on the domain

    def changes(self, disk: str) -> Runs:
        if disk not in self._connections:
            self._connections |= connect(self._job.socket(), [disk], self._job.base is not None)
        connection = self._connections[disk]
        rows = connection.status()
        allocation = rows[nbd.ALLOCATION]
        if self._job.base is None:
            return extents.allocated(connection.size, allocation, zero_flag=nbd.ZERO)
        dirty = rows[bitmap_context(disk)]
        return extents.changed(connection.size, dirty, allocation, dirty_flag=nbd.DIRTY, zero_flag=nbd.ZERO)

    def reader(self, disk: str) -> NbdReader:
        connection = self._connections.pop(disk, None)
        return NbdReader(connection or nbd.Nbd(self._job.socket(), disk))

    def check(self) -> None:
        """The job must still be there: without it what is read is no longer the instant, and no reader would tell."""
        if self._guard.tripped:
            raise HypervisorError(
                f"the cycle was given up: {self._guard.tripped}",
                subject=self.vm.name,
                hint=f"Make room in {self._job.scratch.folder}; changes stay tracked",
            )
        try:
            alive = self._job.ask(lambda domain: domain.jobInfo()[0]) != libvirt.VIR_DOMAIN_JOB_NONE
            reason = ""
        except libvirt.libvirtError as error:
            alive, reason = False, f": {error}"
        if not alive:
            raise HypervisorError(
                f"the host ended the backup before all was read{reason}",
                subject=self.vm.name,
                hint="See whether the host's disk with the scratch files is full",
            )

    def release(self) -> None:
        """End the job. As long as it goes on, QEMU copies the old content of all that the guest overwrites."""
        self._end()

    def commit(self) -> None:
        """End the job and drop the base. Trouble here costs at most a resynchronization, never data."""
        self._over = True
        self._end()
        if self._job.base is not None:
            self._delete(self._job.base)

    def abort(self) -> None:
        if self._over:
            return
        self._over = True
        self._end()
        if self._job.new is not None:
            self._delete(self._job.new)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._guard.stop()
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.close()
        try:
            if not self._guard.tripped:
                self._job.ask(lambda domain: domain.abortJob())
        except libvirt.libvirtError as error:
            # Gone with its VM, or libvirtd restarts just now: the next cycle looks after what is left.
            log.warning("the backup job did not end cleanly", vm=self.vm.name, error=str(error))
            self.clean = False
        self._job.scratch.remove()

    def _delete(self, name: str) -> None:
        try:
            delete(self._job.ask(lambda domain: domain.checkpointLookupByName(name)))
        except (libvirt.libvirtError, LeewardError) as error:
            log.warning("a checkpoint is left for the next cycle", vm=self.vm.name, error=str(error))
            self.clean = False

    def __enter__(self) -> LiveCycle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()


def bitmap_context(disk: str) -> str:
    """The meta context of the bitmap that the backup job exports for a disk."""
    return f"qemu:dirty-bitmap:bm-{disk}"


def connect(socket: Path, disks: Sequence[str], incremental: bool) -> dict[str, nbd.Nbd]:
    """One connection a disk, with the contexts that `changes` needs. Raises HypervisorError."""
    connections: dict[str, nbd.Nbd] = {}
    try:
        for disk in disks:
            contexts = [nbd.ALLOCATION, *([bitmap_context(disk)] if incremental else [])]
            connections[disk] = nbd.Nbd(socket, disk, contexts)
    except BaseException:
        for connection in connections.values():
            connection.close()
        raise
    return connections
