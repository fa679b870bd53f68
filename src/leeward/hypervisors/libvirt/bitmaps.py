"""Our bitmaps inside the images of a VM that is off.

libvirt deletes the record of a checkpoint then, and leaves its bitmap in the image. There it would go on recording in
every run, QEMU would refuse to bring back a snapshot, and after a death of QEMU's, which leaves the bitmap unfit for
use, also to resize the disk.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any

from leeward.domain.errors import TrackingLost
from leeward.hypervisors.libvirt.checkpoints import PREFIX
from leeward.hypervisors.libvirt.domain_xml import DiskXml
from leeward.logs import log


def ours(path: str) -> list[str]:
    """Names of ours in a qcow2 image; none when it cannot be read."""
    found = _qemu_img("info", "--force-share", "--output=json", "-f", "qcow2", path)
    return [name for name in _names(json.loads(found)) if name.startswith(PREFIX)] if found else []


def require_in_one(disk: DiskXml, name: str) -> None:
    """Raise TrackingLost unless the disk's uppermost image has the bitmap and none below it has one of that name.

    Whoever makes an overlay over a running disk (a snapshot) begins a bitmap of the same name in it: what was written
    before is in the one below. libvirt puts them together; a server of the image offers the uppermost that it finds.
    """
    told = _qemu_img("info", "--backing-chain", "--force-share", "--output=json", "-f", disk.format, disk.path)
    layers: list[dict[str, Any]] = json.loads(told) if told else []
    found = [name in _names(layer) for layer in layers]
    if found[:1] != [True] or any(found[1:]):
        raise TrackingLost(
            f"the tracking of disk {disk.target} is not in its uppermost image, or not in that one alone: "
            "it is gone, or the disk has been given an overlay"
        )


def _names(details: dict[str, Any]) -> list[str]:
    data = details.get("format-specific", {}).get("data", {})
    return [bitmap["name"] for bitmap in data.get("bitmaps", [])]


def remove_ours(disks: Iterable[DiskXml]) -> None:
    """As far as possible: an image of a VM that was started meanwhile is locked, and left as it is."""
    for disk in disks:
        for name in ours(disk.path) if disk.format == "qcow2" else ():
            _qemu_img("bitmap", "--remove", "-f", "qcow2", disk.path, name)


def _qemu_img(*words: str) -> str:
    """Its output, "" when it failed."""
    done = subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        log.info("a bitmap may be left in an image", command=" ".join(words), reason=done.stderr.strip())
    return done.stdout if done.returncode == 0 else ""
