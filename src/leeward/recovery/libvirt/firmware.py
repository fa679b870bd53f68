"""What the original's firmware kept outside of its disks, put in place for a copy before its first start.

The variable store of a copy lies beside its overlays. libvirt leaves no choice of where a TPM's state lies, and takes
what it finds there for its own: it then makes no new TPM, and sets the files' owner at the start. A mark beside the
state tells for which copy it was put there.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from leeward.domain.errors import HypervisorError
from leeward.domain.vm import FirmwareState
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.hypervisors.libvirt.domain_xml import parse

_MARK = "leeward-copy"
# What a copy's variable store keeps of the original's element: all else says where the original's file was.
_STORE_ATTRIBUTES = ("template", "templateFormat", "format")


@dataclass(frozen=True, slots=True)
class Placed:
    """What lies ready for a copy. nvram: path of its variable store, "" for none. tpm: its TPM's state is there.

    no_tpm: why not, when there would be a state.
    """

    nvram: str = ""
    tpm: bool = False
    no_tpm: str = ""


NOTHING_PLACED = Placed()


class FirmwarePlacer:
    """Of one recovery host. storage: folder of the overlays."""

    def __init__(self, storage: Path, files: DaemonFiles) -> None:
        self._storage = storage
        self._files = files

    def place(self, tag: str, vm_id: str, definition: str, state: FirmwareState, *, tpm_possible: bool) -> Placed:
        """Idempotent; what was placed already is kept, since the copy may have run on it. Raises HypervisorError.

        No VM with this identity may be on the host but the copy itself: state that is there is set aside.
        """
        nvram = ""
        if state.nvram:
            nvram = str(self._store(tag))
            _write(self._store(tag), state.nvram)
        tpm = parse(definition).tpm
        if tpm is None or not state.tpm:
            return Placed(nvram)
        if not tpm_possible:
            return Placed(nvram, no_tpm="the recovery host has no TPM emulator (swtpm)")
        folder = self._files.path(self._files.tpm_folder(vm_id, tpm.version))
        try:
            _fill(folder, tag, state.tpm)
        except OSError as error:
            return Placed(nvram, no_tpm=f"its state cannot be put in place ({error.filename}: {error.strerror})")
        return Placed(nvram, tpm=True)

    def remove(self, tag: str) -> None:
        """Whatever libvirt has not removed together with the copy. Nothing when there is nothing."""
        for path in (self._store(tag), _draft(self._store(tag))):
            path.unlink(missing_ok=True)
        for mark in self._files.path(self._files.tpm_folders).glob(f"*/{_MARK}"):
            if mark.read_text() == tag:
                shutil.rmtree(mark.parent, ignore_errors=True)

    def give_back(self, tag: str, vm_id: str) -> None:
        """Undo `place`: what was set aside is in its place again. Idempotent."""
        self.remove(tag)
        aside = _aside(self._place_of(vm_id), tag)
        if aside.exists():
            shutil.rmtree(self._place_of(vm_id), ignore_errors=True)
            aside.replace(self._place_of(vm_id))

    def keep(self, tag: str, vm_id: str) -> None:
        """What was placed stays: delete what was set aside. Idempotent."""
        shutil.rmtree(_aside(self._place_of(vm_id), tag), ignore_errors=True)

    def _place_of(self, vm_id: str) -> Path:
        return self._files.path(self._files.tpm_folders / vm_id)

    def _store(self, tag: str) -> Path:
        return self._storage / f"{tag}.nvram.fd"


def at_home(definition: str, placed: Placed) -> str:
    """The definition of a VM at home with what was placed; without it, it stays as it is."""
    root = ET.fromstring(definition)
    if placed.nvram:
        _carry_store(root, placed, [])
    if placed.tpm:
        _carry_tpms(root)
    return ET.tostring(root, encoding="unicode")


def carry(root: ET.Element, placed: Placed, warnings: list[str]) -> None:
    """Let a copy's definition use what was placed, and nothing of the original's."""
    _carry_store(root, placed, warnings)
    _carry_tpms(root)
    devices = root.find("devices")
    for tpm in root.findall("devices/tpm"):
        if not placed.tpm or tpm.find("backend[@type='emulator']") is None:
            assert devices is not None
            devices.remove(tpm)
            warnings.append(f"the copy lacks the TPM{': ' if placed.no_tpm else ''}{placed.no_tpm}")


def _carry_tpms(root: ET.Element) -> None:
    """Let emulated TPMs have their state where it was put, in the daemon's usual place, and unencrypted."""
    for backend in root.findall("devices/tpm/backend[@type='emulator']"):
        for name in ("source", "encryption"):
            for element in backend.findall(name):
                backend.remove(element)


def _carry_store(root: ET.Element, placed: Placed, warnings: list[str]) -> None:
    system, nvram = root.find("os"), root.find("os/nvram")
    if system is None:
        return
    if nvram is None:
        if system.get("firmware") != "efi":
            return
        nvram = ET.SubElement(system, "nvram")  # libvirt chooses the firmware; this much may be said all the same
    for element in list(nvram):
        nvram.remove(element)
    for attribute in list(nvram.attrib):
        if attribute not in _STORE_ATTRIBUTES:
            del nvram.attrib[attribute]
    nvram.text = placed.nvram or None
    if not placed.nvram:
        nvram.attrib.pop("format", None)
        if not nvram.attrib:
            system.remove(nvram)
        warnings.append("UEFI variables (boot entries) start from the template")


def _aside(place: Path, tag: str) -> Path:
    return place.with_name(f"{place.name}.before-{tag}")


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _write(path: Path, data: bytes) -> None:
    if path.exists():
        return
    draft = _draft(path)
    try:
        draft.touch(0o600)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        raise HypervisorError(
            f"the UEFI variables cannot be put in place: {error.strerror}",
            subject=str(path),
            hint="See whether the recovery host's storage has room",
        ) from error


def _fill(folder: Path, tag: str, files: tuple[tuple[str, bytes], ...]) -> None:
    """All files or none: a TPM with half of its state would be taken for whole."""
    place = folder.parent
    mark = place / _MARK
    if mark.exists() and mark.read_text() == tag and folder.exists():
        return
    if folder.exists():
        place.replace(_aside(place, tag))
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o711)  # as libvirt makes it: its TPM emulator has a user of its own
    draft = _draft(folder)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(0o700)
    for name, data in files:
        # The name comes out of the vault: only its last part may count.
        (draft / os.path.basename(name)).write_bytes(data)  # noqa: PTH119
    mark.write_text(tag)
    draft.replace(folder)
