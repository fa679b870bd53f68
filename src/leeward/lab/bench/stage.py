"""What benches run on: a lab of their own, a paused VM with a disk full of files, and a work folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt

from leeward.lab.bench.dataset import tree_disk
from leeward.lab.guests import Guest
from leeward.lab.lab import Lab

ROOT = Path("/var/tmp/leeward-bench")
DATA_DISK = "vdc"
# Between two records of the guest: a load that is felt, and that every figure was taken with.
INTERVAL_MS = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """raw: the data as a raw image. guest: a VM of the office that has it as its disk vdc. work: emptied folder."""

    lab: Lab
    guest: Guest
    raw: Path
    work: Path

    @property
    def uri(self) -> str:
        return self.lab.libvirt("office")

    def fresh(self, name: str) -> Path:
        """An empty folder below the work folder."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


@contextmanager
def stage(*, data: bool, disks: int = 2) -> Iterator[Stage]:
    """A lab of the bench's own; taken down afterwards. data: with the file tree's disk and the VM started paused.
    disks: how many the guest has besides."""
    lab = Lab(ROOT / "lab")
    lab.down()
    work = ROOT / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    raw = ROOT / "tree.raw"
    lab.up(guests=())
    try:
        guest = lab.define_guest(
            "office", "bench", disks=(64, 32)[:disks], ip="10.77.0.90", interval_ms=INTERVAL_MS, start=False
        )
        if data:
            tree_disk(raw)
            _attach(lab, guest, raw)
        yield Stage(lab, guest, raw, work)
    finally:
        lab.down()
        shutil.rmtree(work, ignore_errors=True)


def _attach(lab: Lab, guest: Guest, raw: Path) -> None:
    image = Path(lab.places.images("office")) / "bench-data.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image)], check=True)
    connection = libvirt.open(lab.libvirt("office"))
    try:
        domain = connection.lookupByUUIDString(guest.uuid)
        xml = (
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{image}'/>"
            f"<target dev='{DATA_DISK}' bus='virtio'/></disk>"
        )
        domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    finally:
        connection.close()
