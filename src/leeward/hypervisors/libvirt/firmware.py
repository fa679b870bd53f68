"""What a VM's firmware keeps outside of its disks: the UEFI variable store and the state of an emulated TPM.

libvirt's backups do not cover them, so they are read beside the instant: while the guest is frozen if it is, else
just after. What a guest binds to its TPM is there before its disk relies on it: slightly newer state fits the disks,
older might not.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from leeward.domain.errors import HypervisorError, LeewardError
from leeward.domain.vm import FirmwareState
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.hypervisors.libvirt.domain_xml import DomainXml

T = TypeVar("T")

# x86 stores have 128 to 528 KiB, a TPM's state some KB. Larger ones (64 MiB on ARM) would be too much for each cycle.
_LARGEST = 4 << 20
_TRIES = 5
_PAUSE_S = 0.002


class FirmwareReader:
    """Of one host."""

    def __init__(self, files: DaemonFiles) -> None:
        self._files = files

    def read(self, vm_id: str, domain: DomainXml, *, running: bool) -> tuple[FirmwareState | None, list[str]]:
        """The state now and warnings in words; None when it cannot be read: then nothing is known of it.

        libvirt makes the files at a VM's first start: there is no state before it. Files that are missing while the
        VM runs, or in a place that we had to guess, are only hidden from us.
        """
        warnings = []
        if domain.tpm is not None and domain.tpm.trouble:
            warnings.append(f"the TPM is not carried along: {domain.tpm.trouble}")
        try:
            return FirmwareState(self._nvram(domain, running), self._tpm(vm_id, domain, running)), warnings
        except LeewardError as error:
            warnings.append(f"the state of the firmware cannot be read, the vault keeps what it has of it: {error}")
            return None, warnings

    def mark(self, vm_id: str, domain: DomainXml) -> str:
        """Of a VM that is off: stays the same for as long as the state does."""
        return hashlib.sha256(repr(self.read(vm_id, domain, running=False)).encode()).hexdigest()

    def _nvram(self, domain: DomainXml, running: bool) -> bytes:
        if not domain.nvram and not domain.uefi:
            return b""
        path = self._files.path(domain.nvram or self._files.variable_store(domain.name))
        if domain.nvram and not running and not path.exists():
            return b""
        return _settled(lambda: _contents(path))

    def _tpm(self, vm_id: str, domain: DomainXml, running: bool) -> tuple[tuple[str, bytes], ...]:
        if domain.tpm is None or domain.tpm.trouble:
            return ()
        folder = self._files.path(domain.tpm.folder or self._files.tpm_folder(vm_id, domain.tpm.version))
        if not running and not folder.exists():
            return ()
        return _settled(lambda: _folder(folder))


def _folder(folder: Path) -> tuple[tuple[str, bytes], ...]:
    """swtpm replaces its files atomically; its lock and drafts are no state."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise HypervisorError(f"the folder cannot be read: {error.strerror}", subject=str(folder)) from error
    return tuple((name, _contents(folder / name)) for name in names if not name.startswith((".", "TMP")))


def _contents(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise HypervisorError(f"the file cannot be read: {error.strerror}", subject=str(path)) from error
    if len(data) > _LARGEST:
        raise HypervisorError(f"it is larger than {_LARGEST >> 20} MiB", subject=str(path))
    return data


def _settled(read: Callable[[], T]) -> T:
    """What two readings in a row agree on: nobody wrote meanwhile, so it is a state as after a power cut, for which
    firmware is made. Firmware writes rarely and little."""
    before = read()
    for _ in range(_TRIES):
        after = read()
        if after == before:
            return after
        before = after
        time.sleep(_PAUSE_S)
    raise HypervisorError("it changes too fast")
