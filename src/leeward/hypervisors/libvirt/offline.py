"""One cycle of a VM that is off: its images are read by qemu-nbd.

No new checkpoint can be made while a VM is off, so the base stays, and what is found includes what earlier offline
cycles found. The images are opened with force-share: libvirt can start the VM at any time, and the cycle, which then
reads moving ground, says so in `check`.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import libvirt

from leeward.domain.blocks import Runs
from leeward.domain.errors import HostBusy, HypervisorError, TrackingLost
from leeward.domain.vm import Consistency, VmFacts
from leeward.hypervisors import extents, nbd
from leeward.hypervisors.libvirt.bitmaps import require_in_one
from leeward.hypervisors.libvirt.cycle import NbdReader
from leeward.hypervisors.libvirt.domain_xml import DiskXml

_START_S = 10.0
# In /sys/block/…/stat: writes and sectors written, discards and sectors discarded.
_WRITES = (4, 6, 11, 13)


class ImageServer:
    """A qemu-nbd process that serves one image read-only. bitmap: name of a persistent bitmap to export, or None.

    It ends with its last connection. We keep one for as long as it is to live, so that it does not outlive us when we
    are killed.
    """

    def __init__(self, disk: DiskXml, socket: Path, bitmap: str | None) -> None:
        self.socket = socket
        socket.unlink(missing_ok=True)
        # A comma in a file name is written twice in QEMU's option syntax.
        path = disk.path.replace(",", ",,")
        driver = "host_device" if disk.kind == "block" else "file"
        options = f"driver={disk.format},file.driver={driver},file.filename={path},force-share=on"
        command = ["qemu-nbd", "--read-only", "--shared=0", f"--socket={socket}"]
        command += [f"--export-name={disk.target}", "--image-opts", options]
        if bitmap:
            command.insert(1, f"--bitmap={bitmap}")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            self._lifeline = self._connect(disk, bitmap)
        except BaseException:
            self._end()
            raise

    def _connect(self, disk: DiskXml, bitmap: str | None) -> nbd.Nbd:
        """The first connection. The socket is there before qemu-nbd has looked at the image, so it proves nothing."""
        ends = time.monotonic() + _START_S
        while True:
            try:
                return nbd.Nbd(self.socket, disk.target)
            except HypervisorError as error:
                if self._process.poll() is not None:
                    raise self._failure(disk, bitmap) from error
                if time.monotonic() > ends:
                    raise HypervisorError("qemu-nbd did not start in time", subject=disk.path) from error
            time.sleep(0.005)

    def _failure(self, disk: DiskXml, bitmap: str | None) -> HypervisorError:
        assert self._process.stderr is not None
        text = self._process.stderr.read().decode(errors="replace").strip()
        if bitmap and "bitmap" in text.lower():
            return TrackingLost(f"the bitmap of disk {disk.target} cannot be used: {text}")
        return HypervisorError(f"qemu-nbd cannot read the image: {text}", subject=disk.path)

    def close(self) -> None:
        self._lifeline.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
        self.socket.unlink(missing_ok=True)


class OfflineCycle:
    """See `leeward.ports.hypervisor.Cycle`."""

    def __init__(
        self,
        find: Callable[[], libvirt.virDomain],
        facts: VmFacts,
        disks: Sequence[DiskXml],
        scratch: Path,
        *,
        base: str | None,
        tracking: str,
    ) -> None:
        """find: looks the VM up, on a new connection where libvirtd was restarted. Raises HypervisorError."""
        self._find = find
        self._base = base
        self._images = [disk.path for disk in disks]
        self.time_ns = time.time_ns()
        self._before = image_mark(self._images)
        self.consistency = Consistency.CRASH
        self.warnings: tuple[str, ...] = ()
        self.vm = facts
        self.tracking = tracking
        self.superset = True
        self.clean = False  # leftovers are looked for when it runs again
        self._servers: dict[str, ImageServer] = {}
        try:
            for disk in disks:
                if base is not None:
                    require_in_one(disk, base)
                self._servers[disk.target] = ImageServer(disk, scratch.with_suffix(f".{disk.target}"), base)
            # Asked after the images are open: a start from now on is seen by `check`.
            self.check()
        except BaseException:
            self.abort()
            raise

    def changes(self, disk: str) -> Runs:
        bitmap = f"qemu:dirty-bitmap:{self._base}"
        contexts = [nbd.ALLOCATION, *([bitmap] if self._base else [])]
        with nbd.Nbd(self._servers[disk].socket, disk, contexts) as connection:
            rows = connection.status()
            if self._base is None:
                return extents.allocated(connection.size, rows[nbd.ALLOCATION], zero_flag=nbd.ZERO)
            return extents.changed(
                connection.size, rows[bitmap], rows[nbd.ALLOCATION], dirty_flag=nbd.DIRTY, zero_flag=nbd.ZERO
            )

    def reader(self, disk: str) -> NbdReader:
        return NbdReader(nbd.Nbd(self._servers[disk].socket, disk))

    def check(self) -> None:
        """The VM must have stayed off all the time."""
        try:
            active = self._find().isActive()
        except libvirt.libvirtError as error:
            raise HypervisorError(f"libvirt does not answer: {error}", subject=self.vm.name) from error
        if active:
            raise HostBusy("the VM was started while its images were read", subject=self.vm.name)
        # It was started and stopped again; or it runs on: libvirt 9.0, when it dies in midst of a begin, may leave a
        # record of the VM that it does not understand itself when it is back («Missing required attribute»).
        if image_mark(self._images) != self._before:
            raise HostBusy(
                "the images of the VM were written to while they were read, although libvirt has it off",
                subject=self.vm.name,
                hint=f"Where this goes on, look for a QEMU that libvirt has lost: fuser -v {self._images[0]}",
            )

    def release(self) -> None:
        """A VM that is off writes nothing; its images are let go of all the same."""
        self.abort()

    def commit(self) -> None:
        """Nothing is dropped: the base's bitmap goes on collecting."""
        self.abort()

    def abort(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers = {}

    def __enter__(self) -> OfflineCycle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()


def image_mark(paths: Sequence[str]) -> str:
    """Changes whenever an image is written to or replaced: inode, size and time of the last change of each; of a
    device also what the kernel has counted of its writes."""
    marks = []
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError as error:
            raise HypervisorError(f"the image cannot be read: {error.strerror}", subject=path) from error
        written = _device_mark(status.st_rdev) if stat.S_ISBLK(status.st_mode) else ""
        marks.append(f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}{written}")
    return "|".join(marks)


def _device_mark(number: int) -> str:
    """The times of a device's file are those of this one name of it: QEMU, to which libvirt gives a /dev of its own,
    writes through another one. So: which device it is, and how often and how much was written and discarded (kernel:
    Documentation/block/stat.rst)."""
    folder = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    try:
        counted = (folder / "stat").read_text().split()
    except OSError as error:
        raise HypervisorError(f"the device cannot be asked: {error.strerror}", subject=str(folder)) from error
    sequence = folder / "diskseq"  # not of a partition
    seen = sequence.read_text().strip() if sequence.exists() else ""
    return ":".join(("", seen, *(counted[place] for place in _WRITES if place < len(counted))))
