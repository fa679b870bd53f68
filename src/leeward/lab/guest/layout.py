"""Where things lie on a guest's first disk, and the settings block that makes one image many guests.

    0          MBR: syslinux boot code and two partitions
    4096       settings: `NAME='value'` lines in ASCII, padded with zeros to 4096 bytes
    1 MiB      partition 1: FAT16 with boot loader, kernel, initrd (never mounted by the running guest)
    17 MiB     partition 2: ext4 with a journal, the root
A second disk is one ext4 file system without a partition table. Records: /data/seq.log on the root, /seq.log on the
second disk.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from leeward.domain.errors import BadInput

MIB = 1 << 20
SECTOR = 512
SETTINGS_OFFSET = 4096
SETTINGS_SIZE = 4096
BOOT_OFFSET = MIB
BOOT_SIZE = 16 * MIB
ROOT_OFFSET = BOOT_OFFSET + BOOT_SIZE
RECORDS_PATH = "/data/seq.log"
SECOND_RECORDS_PATH = "/seq.log"

# Between two records. Twenty milliseconds cost a third of a core for each guest that runs, emulated.
INTERVAL_MS = 100

# The whole partition entry, CHS fields saturated as for every disk that is addressed by LBA.
_ENTRY = struct.Struct("<B3sB3sII")
_CHS_UNUSED = b"\xfe\xff\xff"
_FAT16_LBA, _LINUX = 0x0E, 0x83


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs between guests made of one image.

    address: IPv4 with prefix length, e.g. 10.77.0.10/24; "" leaves the card unconfigured.
    interval_ms: pause between two records. agent, acpi: whether qemu-ga and the power button work.
    """

    name: str
    address: str = ""
    gateway: str = ""
    interval_ms: int = INTERVAL_MS
    agent: bool = True
    acpi: bool = True

    def block(self) -> bytes:
        """The 4096 bytes for SETTINGS_OFFSET. Raises BadInput for characters that the guest would not accept."""
        values = {
            "NAME": self.name,
            "ADDRESS": self.address,
            "GATEWAY": self.gateway,
            "INTERVAL_MS": str(self.interval_ms),
            "AGENT": str(int(self.agent)),
            "ACPI": str(int(self.acpi)),
        }
        for key, value in values.items():
            if not re.fullmatch(r"[A-Za-z0-9./_-]*", value):
                raise BadInput(
                    f"guest setting {key.lower()} has characters outside A-Z a-z 0-9 . / _ -", subject=value
                )
        text = "".join(f"{key}='{value}'\n" for key, value in values.items())
        return text.encode("ascii").ljust(SETTINGS_SIZE, b"\0")


def master_boot_record(boot_code: bytes, root_size: int) -> bytes:
    """512 bytes: boot code, active FAT16 partition, ext4 partition of `root_size` bytes."""
    boot = _ENTRY.pack(0x80, _CHS_UNUSED, _FAT16_LBA, _CHS_UNUSED, BOOT_OFFSET // SECTOR, BOOT_SIZE // SECTOR)
    root = _ENTRY.pack(0x00, _CHS_UNUSED, _LINUX, _CHS_UNUSED, ROOT_OFFSET // SECTOR, root_size // SECTOR)
    signature = b"LWRD\0\0"
    return boot_code[:440].ljust(440, b"\0") + signature + boot + root + bytes(32) + b"\x55\xaa"


def write_settings(raw: Path, settings: Settings) -> None:
    """Put `settings` into the raw image `raw`."""
    with raw.open("r+b") as file:
        file.seek(SETTINGS_OFFSET)
        file.write(settings.block())
