"""What a domain's XML says. Pure: text in, values out."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree as ET


@dataclass(frozen=True, slots=True)
class DiskXml:
    """target: name inside the VM. path: image on the host, "" when it is not a file or block device. trouble: why the
    image does not tell what the disk holds, "" when it does."""

    target: str
    kind: str  # file | block | network | …
    format: str
    path: str
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class TpmXml:
    """An emulated TPM. version: "1.2" or "2.0". folder: of its state on the host, "" for the daemon's usual place.

    trouble: why its state is of no use elsewhere, "" when it is.
    """

    version: str
    folder: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class DomainXml:
    """nvram: file with the UEFI variable store, "" when none is named. tpm: None without an emulated one.

    uefi: libvirt chooses the firmware, and a store for it, which older ones name only while the VM runs.
    trims: target of a disk at whose TRIM QEMU may hang, "" when there is none; see `unsupported`.
    io_threads: threads of QEMU's own serve a protected disk, or the SCSI controller of one, or may do so: QEMU's
    command line is added to, and names them.
    lacks: what no copy of it has, in words.
    """

    name: str
    memory_mib: int
    vcpus: int
    disks: tuple[DiskXml, ...]
    agent: str = ""  # the guest agent's channel: "connected" inside or "disconnected"; "" for none
    nvram: str = ""
    uefi: bool = False
    tpm: TpmXml | None = None
    io_threads: bool = False
    trims: str = ""
    lacks: tuple[str, ...] = ()


# Devices of the host that no recovery host has, with the word for the operator.
HOST_DEVICES = {"hostdev": "a host device passed through", "filesystem": "a shared folder"}
# Of elements that say something to QEMU past libvirt.
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
_TO_MIB = {"b": 2**-20, "bytes": 2**-20, "KiB": 2**-10, "k": 2**-10, "MiB": 1, "M": 1, "GiB": 1024, "G": 1024}


def parse(xml: str) -> DomainXml:
    """Disks that can change and hold data: CD drives, floppies and read-only disks are left out."""
    root = ET.fromstring(xml)
    memory = root.find("memory")
    unit = memory.get("unit", "KiB") if memory is not None else "KiB"
    amount = int(memory.text or 0) if memory is not None else 0
    channel = root.find("devices/channel/target[@name='org.qemu.guest_agent.0']")
    disks = [disk for disk in root.findall("devices/disk") if _is_protected(disk)]
    return DomainXml(
        name=root.findtext("name", ""),
        memory_mib=int(amount * _TO_MIB.get(unit, 1 / 1024)),
        vcpus=int(root.findtext("vcpu", "1")),
        disks=tuple(map(_disk, disks)),
        agent=channel.get("state", "") if channel is not None else "",
        nvram=_nvram(root),
        uefi=root.find("os[@firmware='efi']") is not None and root.find("os/loader[@stateless='yes']") is None,
        tpm=_tpm(root),
        trims=next((_target(disk) for disk in root.findall("devices/disk") if _trims(root, disk)), ""),
        io_threads=any(_in_threads(root, disk) for disk in disks) or _by_command_line(root),
        lacks=tuple(words for tag, words in HOST_DEVICES.items() if root.find(f"devices/{tag}") is not None),
    )


def _in_threads(root: ET.Element, disk: ET.Element) -> bool:
    """A SCSI disk is served by the threads of its controller, any other by its own."""
    servers = [disk]
    if disk.find("target[@bus='scsi']") is not None:
        address = disk.find("address")
        number = address.get("controller", "0") if address is not None else "0"
        servers += root.findall(f"devices/controller[@type='scsi'][@index='{number}']")
    drivers = [driver for server in servers if (driver := server.find("driver")) is not None]
    # One thread is named in an attribute, several (since libvirt 10) in elements of their own.
    return any(driver.get("iothread") or driver.find("iothreads") is not None for driver in drivers)


def _trims(root: ET.Element, disk: ET.Element) -> bool:
    """Whether it is a disk on an IDE or SATA controller to which the guest may send TRIM. QEMU offers it unless it
    was told not to (past libvirt), whatever becomes of it."""
    target = disk.find("target")
    bus = target.get("bus", "") if target is not None else ""
    return bus in ("ide", "sata") and _is_protected(disk) and not _without_trim(root, disk, bus)


def _without_trim(root: ET.Element, disk: ET.Element, bus: str) -> bool:
    own = f"{{{_QEMU}}}"
    values = {arg.get("value", "") for arg in root.iter(f"{own}arg")}
    if "ide-hd.discard_granularity=0" in values:
        return True
    address = disk.find("address")
    place = "-".join(address.get(part, "0") for part in ("controller", "bus", "unit")) if address is not None else ""
    for device in root.iter(f"{own}device"):
        if device.get("alias") == f"{bus}{place}":
            wanted = device.iterfind(f"{own}frontend/{own}property[@name='discard_granularity']")
            return any(one.get("value") == "0" for one in wanted)
    return False


def _by_command_line(root: ET.Element) -> bool:
    own = f"{{{_QEMU}}}"
    return any("iothread" in value for one in root.iter() if one.tag.startswith(own) for value in one.attrib.values())


def _nvram(root: ET.Element) -> str:
    """Written as the element's text, or, by newer libvirts, as a source inside it."""
    source = root.find("os/nvram/source")
    text = root.findtext("os/nvram", "").strip()
    return text or (source.get("file", "") if source is not None else "")


def _tpm(root: ET.Element) -> TpmXml | None:
    backend = root.find("devices/tpm/backend[@type='emulator']")
    if backend is None:
        return None
    source = backend.find("source")
    trouble = ""
    if backend.find("encryption") is not None:
        trouble = "its state is encrypted with a secret of the host"
    elif source is not None and source.get("type", "dir") != "dir":
        trouble = f"its state is kept in a {source.get('type')}"
    folder = source.get("path", "") if source is not None else ""
    return TpmXml(backend.get("version", "2.0"), folder, trouble)


def _is_protected(disk: ET.Element) -> bool:
    # device defaults to "disk" (libvirt's documentation of the domain format).
    return disk.get("device", "disk") in ("disk", "lun") and disk.find("readonly") is None


def _target(disk: ET.Element) -> str:
    target = disk.find("target")
    return target.get("dev", "") if target is not None else ""


def _trouble(disk: ET.Element) -> str:
    """As DiskXml.trouble."""
    target = _target(disk)
    if disk.find(".//encryption") is not None:
        # While the VM is off its images are read without the secret: of LUKS that is the ciphertext.
        return f"disk {target} is encrypted by the host: encrypt it inside the guest instead"
    if disk.find("transient") is not None:
        # libvirt backs up none of these: what the guest writes goes into an overlay that is thrown away.
        return f"disk {target} is transient: what is written to it is not kept"
    if disk.find("shareable") is not None:
        # A backup keeps what this VM overwrites, not what others do.
        return f"disk {target} is shared with other VMs: it has no content of one instant"
    return ""


def _disk(disk: ET.Element) -> DiskXml:
    source, driver = disk.find("source"), disk.find("driver")
    path = ""
    if source is not None:
        path = source.get("file") or source.get("dev") or ""
    return DiskXml(
        target=_target(disk),
        kind="lun" if disk.get("device") == "lun" else disk.get("type", "file"),
        format=driver.get("type", "raw") if driver is not None else "raw",
        path=path,
        trouble=_trouble(disk),
    )


# When a client of its NBD server leaves, an older QEMU aborts, and with it the guest, if an I/O thread serves the
# disk («nbd_blockdev_client_closed: Assertion `qemu_in_main_thread() && nbd_server' failed»: seen on Debian's 7.2,
# told of others that were mended against CVE-2024-7409). Since 9.0 the main thread alone looks after clients (since
# 8.2.3 too, by its announcement: not believed unseen).
_IO_THREADS_SINCE = 9_000_000


def unsupported(domain: DomainXml, qemu: int) -> str:
    """Why the VM cannot be protected, "" when it can. qemu: the version of what runs it, 7002000 for 7.2, 0 when
    unknown; looked at only where `io_threads` is set."""
    if not domain.disks:
        return "it has no disk that could be protected"
    if domain.io_threads and qemu < _IO_THREADS_SINCE:
        version = f"{qemu // 1_000_000}.{qemu // 1_000 % 1_000}" if qemu else "?"
        return (
            f"I/O threads serve its disks, with which QEMU {version} can crash: start it without them, or on QEMU 9"
        )
    # A TRIM of several ranges counts as under way until its last range is done, and QEMU begins none while it waits
    # for all that is under way, as it does when a backup begins and when it ends: it waits for ever, and the guest
    # with it (QEMU since 7.0: «ide: Increment BB in-flight counter for TRIM BH»; in none known to be mended).
    if domain.trims:
        return (
            f"disk {domain.trims} is on an IDE or SATA controller, where QEMU hangs for good when a backup meets the"
            " guest's TRIM: give it bus virtio or scsi, or turn its TRIM off (discard_granularity=0)"
        )
    for disk in domain.disks:
        if disk.kind == "lun":
            return f"disk {disk.target} is a SCSI device passed through"
        if disk.trouble:
            return disk.trouble
        if disk.kind not in ("file", "block"):
            return f"disk {disk.target} is of type {disk.kind}; only files and block devices are supported"
    return ""


def untracked(domain: DomainXml, version: Callable[[DiskXml], int]) -> str:
    """Why changes cannot be tracked (every cycle then reads everything), "" when they can. version: of a disk's qcow2
    image, 0 when unknown.

    QEMU keeps persistent bitmaps in qcow2 only, and not in the version of before QEMU 1.1.
    """
    for disk in domain.disks:
        if disk.format != "qcow2":
            return f"disk {disk.target} is {disk.format}: without change tracking every cycle reads all of it"
        if version(disk) == 2:
            return (
                f"disk {disk.target} is an old qcow2: without change tracking every cycle reads all of it;"
                " while the VM is off, qemu-img amend -o compat=1.1 makes it a new one"
            )
    return ""


def checkpoint_xml(name: str, targets: list[str]) -> str:
    disks = "".join(f"<disk name='{target}' checkpoint='bitmap'/>" for target in targets)
    return f"<domaincheckpoint><name>{name}</name><disks>{disks}</disks></domaincheckpoint>"


def backup_xml(base: str | None, targets: list[str], socket: str, scratch: str) -> str:
    """Pull-mode backup of all disks. socket: unix socket of the NBD server; scratch: prefix of the scratch images."""
    # The VM's name is in it. Not by xml.sax, which brings a whole HTTP client along: an eighth of all our imports.
    socket = html.escape(socket)
    incremental = f"<incremental>{base}</incremental>" if base else ""
    disks = []
    for target in targets:
        bitmap = f" exportbitmap='bm-{target}'" if base else ""
        disks.append(
            f"<disk name='{target}' backup='yes' type='file' exportname='{target}'{bitmap}>"
            f"<scratch file='{scratch}.{target}'/></disk>"
        )
    return (
        f"<domainbackup mode='pull'>{incremental}<server transport='unix' socket='{socket}'/>"
        f"<disks>{''.join(disks)}</disks></domainbackup>"
    )
