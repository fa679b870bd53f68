"""How large the disks of a host's VMs are, and what else the beginning of an image tells."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import libvirt

from leeward.domain.vm import Disk
from leeward.hypervisors.libvirt.domain_xml import DiskXml

# The beginning of a qcow2 image (QEMU: docs/interop/qcow2.txt): magic, version, backing file's place and length,
# cluster bits, virtual size.
_HEADER = struct.Struct(">4sIQIIQ")
_MAGIC = b"QFI\xfb"
_PAGE = 4096


def image_size(path: Path) -> int:
    """The virtual size in bytes that a qcow2 image names, 0 when it does not."""
    return _header(path)[1]


def image_version(path: Path) -> int:
    """2 (as made before QEMU 1.1, or with compat=0.10) or 3; 0 when it is no qcow2 image, or cannot be read."""
    return _header(path)[0]


def _header(path: Path) -> tuple[int, int]:
    """Version and virtual size.

    Read past the page cache, as QEMU may write; what it wrote into the cache, Linux brings to the disk before.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return 0, 0
    try:
        with closing(mmap.mmap(-1, _PAGE)) as page:  # aligned, as such reads need it
            read = os.preadv(handle, [page], 0)
            if read < _HEADER.size:
                return 0, 0
            magic, version, *_, size = _HEADER.unpack_from(page)
    except OSError:
        return 0, 0
    finally:
        os.close(handle)
    return (int(version), int(size)) if magic == _MAGIC else (0, 0)


class DiskSizes:
    """Of the VMs of a host. Remembers what was seen last."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}

    def note(self, vm_id: str, disks: Iterable[Disk]) -> None:
        self._last |= {(vm_id, disk.name): disk.size for disk in disks}

    def last(self, vm_id: str, target: str) -> int:
        """0 when unknown."""
        return self._last.get((vm_id, target), 0)

    def now(self, vm_id: str, domain: libvirt.virDomain, disk: DiskXml, image: Path) -> int:
        """In bytes. image: where the disk's lies. Raises libvirt.libvirtError.

        For each disk libvirt asks QEMU three questions about all disks, for which the guest's writes wait. So an
        image that still names the size that was seen last is believed. Guessing would not do: libvirt 9.0 dies of a
        backup into scratch images of other sizes.
        """
        last = self.last(vm_id, disk.target)
        if last and disk.format == "qcow2" and image_size(image) == last:
            return last
        return int(domain.blockInfo(disk.target)[0])
