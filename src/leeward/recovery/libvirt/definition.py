"""From the definition of a VM at home to that of its copy elsewhere. Pure: XML in, XML and warnings out."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from leeward.hypervisors.libvirt.domain_xml import HOST_DEVICES
from leeward.recovery.libvirt import links, nics
from leeward.recovery.libvirt.firmware import NOTHING_PLACED, Placed, carry
from leeward.recovery.libvirt.nics import Plug

# Tells our copies from everything else on the host, also when all our own records are lost.
NAMESPACE = "https://leeward.dev/xmlns/copy/1"
ET.register_namespace("leeward", NAMESPACE)
MARK = f"metadata/{{{NAMESPACE}}}copy"

# Tuning that names the old host's processors, memory nodes and pages. I/O threads go too, whose numbers stand in it:
# with an older QEMU they keep a VM from being replicated, but a recovered one is to be replicated back.
_HOST_BOUND = (
    "cputune",
    "numatune",
    "memoryBacking",
    "memtune",
    "blkiotune",
    "resource",
    "seclabel",
    "iothreadids",
    "iothreads",
)
# Devices that belong to the old host, with the word for the operator.
_LEFT_BEHIND = {
    **HOST_DEVICES,
    "redirdev": "a redirected USB device",
    "shmem": "shared memory",
    "smartcard": "a smart card",
    "vsock": "the vsock device",
    "nvram": "an NVRAM device",
}


@dataclass(frozen=True, slots=True)
class Overlay:
    """path: qcow2 image on the host. socket and export: where what lies under it is served; "" when it is whole."""

    path: str
    socket: str = ""
    export: str = ""


@dataclass(frozen=True, slots=True)
class Copy:
    """xml: the new definition. warnings: what the copy lacks, in words."""

    vm_id: str
    name: str
    xml: str
    warnings: tuple[str, ...]


def test_id(tag: str) -> str:
    """The UUID of the test copy that is made under a tag."""
    return _identity("copy", tag)


def test_copy(
    definition: str,
    *,
    tag: str,
    name: str,
    overlays: Mapping[str, Overlay],
    network: str,
    kvm: bool,
    placed: Placed = NOTHING_PLACED,
) -> Copy:
    """A throwaway copy: own identity, own MAC addresses, isolated network, disks as overlays on a recovery point.

    kvm: whether the recovery host can really run KVM guests; without it a KVM guest is emulated. placed: what lies
    ready of the original's firmware.
    """
    root = ET.fromstring(definition)
    warnings: list[str] = []
    _set_text(root, "uuid", test_id(tag))
    _set_text(root, "name", name)
    _remove(root, "genid")  # a copy must not pretend to be the same running generation
    _mark(root, tag)
    devices = portable(root, overlays, placed, kvm, warnings)
    nics.plug_apart(devices, tag, network)
    return _copy(root, warnings)


def failover_copy(
    definition: str,
    *,
    tag: str,
    overlays: Mapping[str, Overlay],
    plugs: Sequence[Plug],
    isolated: str,
    has: Callable[[str], bool],
    kvm: bool,
    placed: Placed = NOTHING_PLACED,
) -> Copy:
    """The VM itself at another place: same identity and addresses, its cards plugged in as planned.

    It carries the definition that it was made from, so that what it lacks here can be had again at home.
    """
    root = ET.fromstring(definition)
    warnings: list[str] = []
    new_generation(root, tag)
    _mark(root, tag, original_of(definition) or definition)
    devices = portable(root, overlays, placed, kvm, warnings)
    nics.plug(devices, plugs, isolated, has, warnings)
    mark = root.find(MARK)
    assert mark is not None
    links.unplug(root, mark)
    return _copy(root, warnings)


def _copy(root: ET.Element, warnings: list[str]) -> Copy:
    text = ET.tostring(root, encoding="unicode")
    return Copy(root.findtext("uuid", ""), root.findtext("name", ""), text, tuple(warnings))


def id_of(xml: str) -> str:
    return ET.fromstring(xml).findtext("uuid", "")


def tag_of(xml: str) -> str | None:
    """The tag of one of our copies; None for any other domain."""
    found = ET.fromstring(xml).find(MARK)
    return found.get("tag") if found is not None else None


def original_of(xml: str) -> str | None:
    """The definition that a recovered VM was made from at first; None for any other domain."""
    found = ET.fromstring(xml).find(MARK)
    return found.text if found is not None else None


def _identity(what: str, tag: str) -> str:
    """A UUID that is the same for the same tag, so that a step that is repeated makes the same VM."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"leeward {what} {tag}".encode()).digest()[:16], version=4))


def new_generation(root: ET.Element, tag: str) -> None:
    """Tell a guest that asks (Windows domain controllers do) that it was set back to an earlier state."""
    if root.find("genid") is not None:
        _set_text(root, "genid", _identity("generation", tag))


def _mark(root: ET.Element, tag: str, original: str = "") -> None:
    root.attrib.pop("id", None)
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    _remove(metadata, f"{{{NAMESPACE}}}copy")
    mark = ET.SubElement(metadata, f"{{{NAMESPACE}}}copy", {"tag": tag})
    if original:
        mark.text = _without_passwords(original)


def _without_passwords(definition: str) -> str:
    """Everybody who may look at a domain can read its metadata."""
    root = ET.fromstring(definition)
    for element in root.iter():
        for name in ("passwd", "password"):
            element.attrib.pop(name, None)
    return ET.tostring(root, encoding="unicode")


def portable(
    root: ET.Element, overlays: Mapping[str, Overlay], placed: Placed, kvm: bool, warnings: list[str]
) -> ET.Element:
    """Take out what belongs to the old host and put the disks in; returns the devices."""
    if root.get("type") == "kvm" and not kvm:
        root.set("type", "qemu")
        _emulated_cpu(root)
        warnings.append("the recovery host has no KVM: the copy is emulated and slow")
    for tagname in _HOST_BOUND:
        _remove(root, tagname)
    carry(root, placed, warnings)
    devices = root.find("devices")
    if devices is None:
        devices = ET.SubElement(root, "devices")
    _remove(devices, "emulator")
    for tagname, words in _LEFT_BEHIND.items():
        if _remove(devices, tagname):
            warnings.append(f"the copy lacks {words}")
    _disks(devices, overlays, warnings)
    _controllers(devices)
    _characters(devices)
    _screens(devices)
    return devices


def _remove(parent: ET.Element, name: str) -> int:
    found = parent.findall(name)
    for element in found:
        parent.remove(element)
    return len(found)


def _set_text(root: ET.Element, name: str, text: str) -> None:
    element = root.find(name)
    if element is None:
        element = ET.Element(name)
        root.insert(0, element)
    element.text = text


def _emulated_cpu(root: ET.Element) -> None:
    """host-passthrough and host-model exist under KVM only; QEMU's default processor is what is left."""
    cpu = root.find("cpu")
    if cpu is not None and cpu.get("mode") in ("host-passthrough", "host-model", "maximum"):
        root.remove(cpu)


def _disks(devices: ET.Element, overlays: Mapping[str, Overlay], warnings: list[str]) -> None:
    for disk in devices.findall("disk"):
        target = disk.find("target")
        name = target.get("dev", "") if target is not None else ""
        if disk.get("device", "disk") in ("cdrom", "floppy"):
            if _remove(disk, "source"):
                warnings.append(f"the medium in drive {name} is not in the copy")
            disk.set("type", "file")
            _remove(disk, "backingStore")
        elif name in overlays:
            _attach(disk, overlays[name])
        else:
            devices.remove(disk)
            warnings.append(f"disk {name} is not part of the recovery point")


def _controllers(devices: ET.Element) -> None:
    """Without I/O threads, which disks lose with their drivers."""
    for driver in devices.findall("controller/driver"):
        driver.attrib.pop("iothread", None)
        _remove(driver, "iothreads")


def _attach(disk: ET.Element, overlay: Overlay) -> None:
    disk.set("type", "file")
    disk.set("device", "disk")
    disk.attrib.pop("snapshot", None)
    for name in ("source", "backingStore", "mirror", "auth", "encryption", "driver", "readonly", "shareable"):
        _remove(disk, name)
    # error_policy stop: an I/O error pauses the copy instead of reaching its file systems; it is resumed afterwards.
    driver = {"name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap"}
    driver |= {"error_policy": "stop", "rerror_policy": "stop"}
    disk.insert(0, ET.Element("driver", driver))
    disk.insert(1, ET.Element("source", {"file": overlay.path}))
    if not overlay.socket:
        return
    backing = ET.Element("backingStore", {"type": "network"})
    ET.SubElement(backing, "format", {"type": "raw"})
    source = ET.SubElement(backing, "source", {"protocol": "nbd", "name": overlay.export})
    ET.SubElement(source, "host", {"transport": "unix", "socket": overlay.socket})
    ET.SubElement(backing, "backingStore")
    disk.insert(2, backing)


def _characters(devices: ET.Element) -> None:
    """Consoles and channels: files, sockets and ports of the old host are replaced by what libvirt chooses."""
    for name in ("serial", "console", "parallel"):
        for device in devices.findall(name):
            device.set("type", "pty")
            _remove(device, "source")
            _remove(device, "protocol")
            _remove(device, "log")
    for channel in devices.findall("channel"):
        if channel.get("type") == "unix":
            _remove(channel, "source")
        elif channel.get("type") not in ("spicevmc", "spiceport"):
            devices.remove(channel)
    for channel in devices.findall("channel"):
        if channel.get("type") in ("spicevmc", "spiceport"):
            devices.remove(channel)


def _screens(devices: ET.Element) -> None:
    """A screen of ours on loopback, if the VM had one: ports and passwords of the old one could collide."""
    if _remove(devices, "graphics"):
        screen = ET.SubElement(devices, "graphics", {"type": "vnc", "port": "-1", "autoport": "yes"})
        ET.SubElement(screen, "listen", {"type": "address", "address": "127.0.0.1"})
    for audio in devices.findall("audio"):
        audio.attrib.clear()
        audio.attrib.update({"id": "1", "type": "none"})
    for model in devices.findall("video/model[@type='qxl']"):
        model.attrib.clear()
        model.set("type", "virtio")
