"""Definitions of the lab's guests for libvirt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

UEFI_STORE = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


@dataclass(frozen=True, slots=True)
class Shape:
    """memory_mib, vcpus; kvm: accelerated, otherwise emulated; bridge: what its card is plugged into.

    uefi: libvirt chooses the firmware; else it has a BIOS. tpm: with an emulated TPM 2.0. screen: it has one to look
    at.
    """

    memory_mib: int = 192
    vcpus: int = 1
    kvm: bool = False
    bridge: str = "br0"
    uefi: bool = False
    tpm: bool = False
    screen: bool = False


def mac_address(*parts: str) -> str:
    """A stable address in QEMU's range for these parts, e.g. lab folder and guest name."""
    h = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"52:54:00:{h[0:2]}:{h[2:4]}:{h[4:6]}"


def definition(name: str, uuid: str, mac: str, disks: Mapping[str, tuple[Path, str]], shape: Shape) -> str:
    """Domain XML. disks: target (vda, …) → (image, "qcow2" or "raw")."""
    # Without the card's boot ROM the BIOS comes to the disk two seconds earlier.
    # Nehalem is the newest model whose every feature TCG emulates quickly; newer ones boot slower.
    cpu = (
        "<cpu mode='host-passthrough'/>"
        if shape.kvm
        else "<cpu mode='custom' match='exact'><model>Nehalem</model></cpu>"
    )
    return f"""\
<domain type='{"kvm" if shape.kvm else "qemu"}'>
  <name>{escape(name)}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{shape.memory_mib}</memory>
  <vcpu>{shape.vcpus}</vcpu>
  <os{" firmware='efi'" if shape.uefi else ""}><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  {cpu}
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>restart</on_crash>
  <devices>
{"".join(_disk(target, image, form) for target, (image, form) in disks.items())}\
    <interface type='bridge'>
      <mac address='{mac}'/><source bridge={quoteattr(shape.bridge)}/><model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <serial type='pty'/>
    <controller type='usb' model='none'/>{_TPM if shape.tpm else ""}{_SCREEN if shape.screen else ""}
    <memballoon model='none'/>
  </devices>
</domain>
"""


_TPM = """
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"""


_SCREEN = """
    <video><model type='vga' vram='16384' heads='1'/></video>"""


def _disk(target: str, image: Path, form: str) -> str:
    return f"""\
    <disk type='file' device='disk'>
      <driver name='qemu' type='{form}' cache='none' discard='unmap'/>
      <source file={quoteattr(str(image))}/><target dev='{target}' bus='virtio'/>
    </disk>
"""
