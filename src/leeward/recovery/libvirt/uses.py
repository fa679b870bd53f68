"""Which files the VMs of a host use, what lies under their images included: before anything is deleted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

from leeward.domain.errors import HypervisorError
from leeward.hypervisors.libvirt.connection import Connection, translate


def files_in_use(connection: Connection) -> set[Path]:
    """Real paths. Raises HypervisorError when it cannot be told: then nothing may be deleted."""
    used: set[Path] = set()
    for domain in connection.ask(lambda opened: opened.listAllDomains(0), connection.name):
        try:
            texts = (domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                continue  # undefined since the list was made
            raise translate(error, connection.name) from error
        for path in {path for text in texts for path in _named(text)}:
            used |= {path.resolve()} | _under(path)
    return used


def _named(xml: str) -> Iterator[Path]:
    """All that any element names as a file or a device."""
    for element in ET.fromstring(xml).iter():
        for name in ("file", "dev"):
            text = element.get(name, "")
            if text.startswith("/"):
                yield Path(text)


def _under(path: Path) -> set[Path]:
    """The images that an image rests on. libvirt's definitions do not tell these of a VM that is off."""
    found: set[Path] = set()
    while path.resolve() not in found and (path.is_file() or path.is_block_device()):
        found.add(path.resolve())
        command = ["qemu-img", "info", "-U", "--output=json", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HypervisorError(
                f"what an image rests on cannot be told: {done.stderr.strip()}",
                subject=str(path),
                hint="Nothing is deleted before it can",
            )
        path = Path(json.loads(done.stdout).get("full-backing-filename", ""))
    return found
