"""The definition of a VM that comes home: as it was there, with other disks. Pure: XML in, XML out."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from leeward.domain.errors import Refused
from leeward.recovery.libvirt.definition import MARK, Overlay, new_generation, original_of, portable
from leeward.recovery.libvirt.firmware import Placed


def first_definition(definition: str) -> str:
    """As the VM was before it was brought up elsewhere for the first time."""
    return original_of(definition) or definition


def with_images(definition: str, paths: Mapping[str, str], tag: str) -> str:
    """The definition with these qcow2 images as its disks (target → path); all else stays, but the generation.

    Raises Refused for a disk that the definition does not have.
    """
    root = ET.fromstring(definition)
    disks = _disks(root)
    missing = sorted(paths.keys() - disks.keys())
    if missing:
        raise Refused(
            f"its definition at home has no disk {', '.join(missing)}",
            subject=root.findtext("name", ""),
            hint="Add the disk to the VM's definition (an empty image will do) and retry",
        )
    for name, path in paths.items():
        _give(disks[name], path)
    new_generation(root, tag)
    return ET.tostring(root, encoding="unicode")


def for_new_host(
    definition: str, paths: Mapping[str, str], tag: str, placed: Placed, *, kvm: bool
) -> tuple[str, list[str]]:
    """The definition for a host that does not know the VM, and warnings in words.

    As it was before it was brought up elsewhere for the first time; its cards hang where they hung then.
    """
    root = ET.fromstring(first_definition(definition))
    metadata = root.find("metadata")
    mark = root.find(MARK)
    if metadata is not None and mark is not None:
        metadata.remove(mark)
    root.attrib.pop("id", None)
    warnings: list[str] = []
    devices = portable(root, {name: Overlay(path) for name, path in paths.items()}, placed, kvm, warnings)
    for interface in devices.findall("interface"):
        for target in interface.findall("target"):
            interface.remove(target)
    new_generation(root, tag)
    return ET.tostring(root, encoding="unicode"), warnings


def _disks(root: ET.Element) -> dict[str, ET.Element]:
    found = {}
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        found[target.get("dev", "") if target is not None else ""] = disk
    return found


def _give(disk: ET.Element, path: str) -> None:
    driver = disk.find("driver")
    options = dict(driver.attrib) if driver is not None else {"name": "qemu"}
    for name in ("driver", "source", "backingStore", "mirror", "auth", "encryption"):
        for element in disk.findall(name):
            disk.remove(element)
    disk.set("type", "file")
    now = ET.Element("driver", options | {"type": "qcow2"})
    now.extend(driver.findall("iothreads") if driver is not None else [])
    disk.insert(0, now)
    disk.insert(1, ET.Element("source", {"file": path}))
