"""Scratch images of backups: where QEMU saves what the guest overwrites while its old content is still to be read.

They are made here, empty, and not by libvirt. libvirt would let QEMU make them in a job, and for the time of that job
QEMU 7.2 dies, with the guest, of any question about its disks («qcow2_get_specific_info: Assertion `false' failed»:
the question meets a half-made image). Monitoring tools ask such questions all day, and so do we.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from leeward.domain.errors import HypervisorError

# Empty images by the disk's size, of some 200 KB each: qemu-img in each cycle would take most of its time. They are
# kept here and not in files, which a crash might leave cut short for good.
_blanks: dict[int, bytes] = {}


def short_name(vm_id: str) -> str:
    """A file name for a VM: short, since a unix socket's path is limited to 107 bytes, and no other VM's.

    Ids that were made by hand have their beginnings in common: two VMs with one name would read each other's disks.
    """
    return hashlib.sha256(vm_id.encode()).hexdigest()[:12]


class Scratch:
    """The files of one VM's backups in a folder: one image a disk, whose path begins with `prefix`."""

    def __init__(self, folder: Path, vm_id: str) -> None:
        self.folder = folder
        self._vm_id = vm_id

    @property
    def prefix(self) -> Path:
        """What an image's path begins with; a dot and the disk's name follow."""
        return self.folder / f"{short_name(self._vm_id)}.scratch"

    def make(self, sizes: Mapping[str, int]) -> None:
        """Empty images for disks of these sizes, in place of what there was. Raises HypervisorError: a full disk."""
        self.remove()
        try:
            self._make_blanks(set(sizes.values()))
            for disk, size in sizes.items():
                self._path(disk).write_bytes(_blanks[size])
        except OSError as error:
            self.remove()
            raise self._trouble(error.strerror or str(error)) from error

    def remove(self) -> None:
        for image in self.folder.glob(f"{self.prefix.name}.*"):
            image.unlink(missing_ok=True)

    def _path(self, disk: str) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.{disk}")

    def _make_blanks(self, sizes: Collection[int]) -> None:
        """All together, since starting qemu-img takes its time."""
        drafts = {size: self._path(f"blank-{size}") for size in sizes if size not in _blanks}
        command = ["qemu-img", "create", "-q", "-f", "qcow2"]
        started: list[subprocess.Popen[str]] = []
        try:
            for size, draft in drafts.items():
                started.append(subprocess.Popen([*command, str(draft), str(size)], stderr=subprocess.PIPE, text=True))
        finally:
            errors = [(one.communicate()[1], one.returncode) for one in started]
        for text, failed in errors:
            if failed:
                raise self._trouble(text.strip())
        for size, draft in drafts.items():
            _blanks[size] = draft.read_bytes()
            draft.unlink()

    def _trouble(self, why: str) -> HypervisorError:
        return HypervisorError(
            f"no scratch image can be made: {why}",
            subject=str(self.folder),
            hint="See whether the folder has room; changes stay tracked",
        )
