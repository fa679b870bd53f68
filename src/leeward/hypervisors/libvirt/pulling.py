"""Pulling a VM's disks out of their backing while the same VM is backed up again and again.

libvirt has no backup of a VM on which a disk is being pulled, and no pull during a backup. So they take turns: a pull
runs in slices, and a backup that wants to begin waits for the slice's end and stops it. What was pulled stays in the
image; the next pull begins at the disk's start again and passes over what is there, at some 50 GiB a second. A slice
therefore counts from where the last one ended: on a large disk slices of a fixed length would reach nothing new.

Disks are pulled one after the other. With two pulls on one VM, QEMU 7.2 dies now and then (in
`query-named-block-nodes`, which libvirt asks while it looks after the end of one job and the other has just been
cancelled: 5 of 60 VMs; with one pull at a time none of 110).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import libvirt

from leeward.domain.errors import HostBusy
from leeward.hypervisors.libvirt.connection import call, translate

SLICE_S = 10.0
# A pull that does not come past where the last one ended, since the vault is away or slow, is stopped all the same.
_LONGEST_S = 60.0
_LOOK_S = 0.05
# An ended pull is gone within milliseconds, unless QEMU waits for a read that the export process holds.
_END_S = 5.0


class Turns:
    """The pulls of one VM, as far as this process started them. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Held while a backup begins or a pull is started: neither can come between the other's looking and doing.
        self._lock = threading.Lock()
        self._disk = ""  # that is being pulled
        self._slice_s = SLICE_S
        self._began = 0.0
        self._looked = 0.0  # when it was last seen to be before where the last one ended
        self._fresh: float | None = None  # since when it is past that
        self._reached: dict[str, int] = {}

    def pull(self, domain: libvirt.virDomain, disks: Sequence[str], slice_s: float = SLICE_S) -> None:
        """Go on pulling the first of `disks`. Nothing while a backup begins or is under way."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if any(self._position(domain, disk) is not None for disk in disks):
                self._note(domain)
                return
            if not disks or call(domain.name(), domain.jobInfo)[0] != libvirt.VIR_DOMAIN_JOB_NONE:
                return
            call(domain.name(), domain.blockPull, disks[0], 0, 0)
            self._disk, self._slice_s, self._fresh = disks[0], slice_s, None
            self._began = self._looked = self._clock()
        except HostBusy:
            pass  # somebody else's backup, or a pull that is just ending: at the next look
        finally:
            self._lock.release()

    @contextmanager
    def backup(self, domain: libvirt.virDomain) -> Iterator[None]:
        """While this is held no pull is on the VM. Raises HostBusy when a pull cannot be stopped in time."""
        with self._lock:
            if self._disk:
                self._wait_slice(domain)
                self._end(domain)
            yield

    def _wait_slice(self, domain: libvirt.virDomain) -> None:
        while self._position(domain, self._disk) is not None:
            self._note(domain)
            now = self._clock()
            if self._fresh is not None and now >= self._fresh + self._slice_s:
                return
            if now >= self._began + self._slice_s + _LONGEST_S:
                return
            time.sleep(_LOOK_S)

    def _note(self, domain: libvirt.virDomain) -> None:
        """Remember how far the pull has come, and since when it brings something new."""
        at = self._position(domain, self._disk)
        if at is None:
            return
        if at > self._reached.get(self._disk, -1):
            self._reached[self._disk] = at
            if self._fresh is None:
                self._fresh = self._looked
        elif self._fresh is None:
            self._looked = self._clock()

    @staticmethod
    def _position(domain: libvirt.virDomain, disk: str) -> int | None:
        """Bytes that the pull has passed; None when there is none."""
        if not disk:
            return None
        info = call(domain.name(), domain.blockJobInfo, disk, 0)
        return int(info["cur"]) if info else None

    def _end(self, domain: libvirt.virDomain) -> None:
        ends = self._clock() + _END_S
        while not _ended(domain, self._disk):
            if self._clock() > ends:
                raise HostBusy(
                    f"disk {self._disk} is being pulled and waits for the vault",
                    subject=domain.name(),
                    hint="Changes stay tracked; the next point contains them",
                )
            time.sleep(0.005)
        self._disk = ""


def _ended(domain: libvirt.virDomain, disk: str) -> bool:
    """Ask for the end of a pull; True when libvirt has let go of it.

    `blockJobInfo` says nothing of a job that has ended in QEMU while libvirt still looks after it, and with such a
    job a backup is refused. Asking once more to end it tells: there is none.
    """
    try:
        domain.blockJobAbort(disk, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_INVALID_ARG:
            return True
        if not domain.isActive():
            return True
        text = str(error)
        if "still being ended" not in text and "concluded" not in text:
            raise translate(error, domain.name()) from error
    return False


_known: dict[tuple[str, str], Turns] = {}
_known_lock = threading.Lock()


def turns(uri: str, vm_id: str) -> Turns:
    """The one object of this process for a VM of a host: whoever replicates it and whoever hydrates it share it."""
    with _known_lock:
        return _known.setdefault((uri, vm_id), Turns())
