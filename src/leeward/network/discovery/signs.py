"""What a scan looks for, and what it may see: doors and signs. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum

_MAX_WORDS = 200


class Role(StrEnum):
    """What is expected behind a door, and so how it is spoken to."""

    SSH = "ssh"
    LIBVIRT = "libvirt"
    LIBVIRT_TLS = "libvirt-tls"
    WINRM = "winrm"
    WINRM_TLS = "winrm-tls"
    VMCONNECT = "vmconnect"

    @property
    def is_tls(self) -> bool:
        return self in (Role.LIBVIRT_TLS, Role.WINRM_TLS)


class Speech(StrEnum):
    """What was really spoken there. NOTHING: the door opened, but no byte came. OTHER: nothing that we know."""

    NOTHING = "nothing"
    OTHER = "other"
    SSH = "ssh"
    LIBVIRT = "libvirt"
    TLS = "tls"
    HTTP = "http"
    WINRM = "winrm"


@dataclass(frozen=True, slots=True)
class Door:
    """A TCP port to knock at."""

    port: int
    role: Role


# Most telling first. SSH leads because nearly every machine answers there, if only by refusing.
DOORS = (
    Door(22, Role.SSH),
    Door(16509, Role.LIBVIRT),
    Door(16514, Role.LIBVIRT_TLS),
    Door(5985, Role.WINRM),
    Door(5986, Role.WINRM_TLS),
    Door(2179, Role.VMCONNECT),
)


@dataclass(frozen=True, slots=True)
class LibvirtFacts:
    """What a libvirt daemon tells before sign-in. Versions are (major, minor, release), or None when not told.

    auth: ways to sign in: none, sasl, polkit. qemu: whether it opened QEMU's driver; None when it was not asked.
    """

    auth: tuple[str, ...]
    qemu: bool | None = None
    refusal: str = ""
    version: tuple[int, int, int] | None = None
    qemu_version: tuple[int, int, int] | None = None
    host_name: str = ""


@dataclass(frozen=True, slots=True)
class Sign:
    """One open door of one address. words: what was said, or how it failed to; certificate: whose, for TLS."""

    door: Door
    speech: Speech
    words: str = ""
    certificate: str = ""
    vendor: str = ""
    libvirt: LibvirtFacts | None = None


def printable(text: str | bytes) -> str:
    """What a stranger sent, safe to show: one short line, nothing that a terminal would obey."""
    if isinstance(text, bytes):
        text = text[: 4 * _MAX_WORDS].decode("utf-8", errors="replace")
    kept = "".join(mark if not unicodedata.category(mark).startswith("C") else " " for mark in text[: 4 * _MAX_WORDS])
    return " ".join(kept.split())[:_MAX_WORDS]
