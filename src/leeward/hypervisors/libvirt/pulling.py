"""Pulling a VM's disks out of their backing while the same VM is backed up again and again.

libvirt has no backup of a VM on which a disk is being pulled, and no pull during a backup. So they take turns: a pull
runs in slices, and a backup that wants to begin waits for the slice's end and stops it. What was pulled stays in the
image; the next pull begins at the disk's start again and passes over what is there, at some 50 GiB a second. A slice
therefore counts from where the last one ended: on a large disk slices of a fixed length would reach nothing new.

The end of a pull is a dangerous moment. From when QEMU 7.2 has ended it until libvirt has put it away, some
milliseconds later, QEMU dies of `query-named-block-nodes`, which libvirt asks whenever somebody wants to know how
large a disk is, begins a backup or deletes a checkpoint (asked without pause: 20 of 29 VMs died). So:

- a pull is stopped by the call that waits: libvirt then lets nobody else at the VM until all is over (none of 590);
- disks are pulled one after the other;
- while one is being pulled, nothing of ours asks such a question: see `asking`. A pull that comes to its end by
  itself, once a disk, can still meet somebody else's question.

The beginning of a backup is another such moment: for as long as QEMU makes the scratch images.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import libvirt

from leeward.domain.errors import HostBusy
from leeward.hypervisors.libvirt.connection import call, call_within, translate
from leeward.logs import log

SLICE_S = 10.0
# A pull that does not come past where the last one ended is stopped all the same.
_LONGEST_S = 60.0
_LOOK_S = 0.02
# Stopping waits for the read that is under way. One that the export process holds, since the vault is away, may take
# for ever, and the VM would be closed to everybody. So a pull is only stopped when it has just been seen to move.
_MOVES_S = 0.3
_END_S = 10.0


class BackupTurn:
    """While it is held no pull is on the VM. Given back once, at the latest when nobody knows of it any more."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def close(self) -> None:
        release, self._release = self._release, None
        if release:
            release()

    def __del__(self) -> None:
        self.close()


class Turns:
    """The pulls of one VM. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # for short moments: between looking and doing nothing else may begin
        self._stopping = threading.Lock()
        self._backups = 0
        self._asking = 0
        self._disk = ""  # that is being pulled, until libvirt has put the pull away
        self._slice_s = SLICE_S
        self._began = 0.0
        self._looked = 0.0  # when it was last seen to be before where the last one ended
        self._fresh: float | None = None  # since when it is past that
        self._at: int | None = None
        self._moved = 0.0  # when it was last seen to have come on
        self._reached: dict[str, int] = {}

    def pull(self, domain: libvirt.virDomain, disks: Sequence[str], slice_s: float = SLICE_S) -> None:
        """Go on pulling the first of `disks`. Nothing while a backup begins or is under way."""
        with self._lock:
            self._adopt(domain, disks)
            if self._disk:
                if self._note(domain) is None and _put_away(domain, self._disk):
                    self._disk = ""
                return
            if not disks or self._backups or self._asking:
                return
            if call(domain.name(), domain.jobInfo)[0] != libvirt.VIR_DOMAIN_JOB_NONE:
                return
            self._start(disks[0], slice_s)
            try:
                call(domain.name(), domain.blockPull, disks[0], 0, 0)
            except HostBusy:
                self._disk = ""  # somebody else's backup: at the next look
            except BaseException:
                self._disk = ""
                raise

    def _adopt(self, domain: libvirt.virDomain, disks: Sequence[str]) -> None:
        """A pull that a former run of ours started is ours."""
        if self._disk:
            return
        for disk in disks:
            if _position(domain, disk) is not None:
                self._start(disk, self._slice_s)
                return

    def _start(self, disk: str, slice_s: float) -> None:
        self._disk, self._slice_s, self._fresh, self._at = disk, slice_s, None, None
        self._began = self._looked = self._clock()

    @contextmanager
    def asking(self) -> Iterator[bool]:
        """True: no pull and no backup is on the VM, nor begins meanwhile; libvirt may be asked about its disks."""
        with self._lock:
            allowed = not self._disk and not self._backups
            self._asking += allowed
        try:
            yield allowed
        finally:
            with self._lock:
                self._asking -= allowed

    def wait_backups(self, timeout_s: float) -> None:
        """Until no backup of ours is under way, or the time is over."""
        ends = self._clock() + timeout_s
        while self._backups and self._clock() < ends:
            time.sleep(_LOOK_S)

    def backup(self, domain: libvirt.virDomain) -> BackupTurn:
        """Wait for the slice's end and stop the pull. Raises HostBusy when it cannot be stopped in time."""
        with self._lock:
            self._backups += 1
        turn = BackupTurn(self._release)
        try:
            self._wait_answers()
            with self._stopping:
                if self._disk:
                    self._wait_slice(domain)
                    self._stop(domain)
        except BaseException:
            turn.close()
            raise
        return turn

    def _release(self) -> None:
        with self._lock:
            self._backups -= 1

    def _wait_answers(self) -> None:
        """Until nobody is asking any more; a question takes milliseconds."""
        ends = self._clock() + _END_S
        while self._asking and self._clock() < ends:
            time.sleep(0.001)

    def _wait_slice(self, domain: libvirt.virDomain) -> None:
        while self._note(domain) is not None:
            now = self._clock()
            if self._fresh is not None and now >= self._fresh + self._slice_s:
                return
            if now >= self._began + self._slice_s + _LONGEST_S:
                return
            time.sleep(_LOOK_S)

    def _note(self, domain: libvirt.virDomain) -> int | None:
        """Where the pull is, None when it has ended; remembers since when it brings something new."""
        at = _position(domain, self._disk)
        if at is None:
            return None
        now = self._clock()
        if self._at is not None and at > self._at:
            self._moved = now
        self._at = at
        if at > self._reached.get(self._disk, -1):
            self._reached[self._disk] = at
            if self._fresh is None:
                self._fresh = self._looked
        elif self._fresh is None:
            self._looked = now
        return at

    def _stop(self, domain: libvirt.virDomain) -> None:
        ends = self._clock() + _END_S
        while not self._stopped(domain):
            if self._clock() > ends:
                raise HostBusy(
                    f"disk {self._disk} is being pulled and waits for the vault",
                    subject=domain.name(),
                    hint="Changes stay tracked; the next point contains them",
                )
            time.sleep(_LOOK_S)
        self._disk = ""

    def _stopped(self, domain: libvirt.virDomain) -> bool:
        """Stop it, unless it stands still."""
        if self._note(domain) is not None and self._clock() > self._moved + _MOVES_S:
            return False
        return _put_away(domain, self._disk)


def _position(domain: libvirt.virDomain, disk: str) -> int | None:
    """Bytes that the pull has passed; None when there is none. Not one of the dangerous questions."""
    try:
        info = domain.blockJobInfo(disk, 0)
    except libvirt.libvirtError as error:
        if not domain.isActive():
            return None
        raise translate(error, domain.name()) from error
    return int(info["cur"]) if info else None


def _put_away(domain: libvirt.virDomain, disk: str) -> bool:
    """Stop the pull if it still runs; True when libvirt has put it away.

    Of one that has ended in QEMU, and that libvirt still looks after, `blockJobInfo` says nothing; stopping it tells.
    """
    try:
        call_within(_END_S, domain.name(), _abort, domain, disk)
    except HostBusy:
        return False
    return True


def _abort(domain: libvirt.virDomain, disk: str) -> None:
    try:
        domain.blockJobAbort(disk, 0)
    except libvirt.libvirtError as error:
        code, text = error.get_error_code(), str(error)
        if code == libvirt.VIR_ERR_INVALID_ARG or not domain.isActive():
            return  # there is none
        if "still being ended" in text or "concluded" in text:
            raise HostBusy("a pull is just ending", subject=domain.name()) from error
        log.warning("a pull could not be stopped", vm=domain.name(), disk=disk, error=text)
        raise translate(error, domain.name()) from error


_known: dict[tuple[str, str], Turns] = {}
_known_lock = threading.Lock()


def turns(uri: str, vm_id: str) -> Turns:
    """The one object of this process for a VM of a host: whoever replicates it and whoever hydrates it share it."""
    with _known_lock:
        return _known.setdefault((uri, vm_id), Turns())
