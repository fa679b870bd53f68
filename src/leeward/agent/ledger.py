"""What an agent remembers across restarts: the desired state, and the epoch each of its writers reigns in."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from leeward.domain.errors import BadInput
from leeward.wire.messages import DesiredState


class Ledger:
    """One JSON file, replaced atomically and durably; safe from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.desired = DesiredState(generation=0)
        self.epochs: dict[str, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            try:
                stored = json.loads(path.read_text())
                self.desired = DesiredState.model_validate(stored["desired"])
                self.epochs = {str(vm): int(epoch) for vm, epoch in stored["epochs"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadInput(
                    f"the agent's ledger cannot be read ({error})",
                    subject=str(path),
                    hint="Restore it, or move it away and protect the VMs again: what is in the vault is kept",
                ) from error

    def save_desired(self, desired: DesiredState) -> None:
        with self._lock:
            self.desired = desired
            self._write()

    def save_epoch(self, vm_id: str, epoch: int) -> None:
        with self._lock:
            if self.epochs.get(vm_id) != epoch:
                self.epochs[vm_id] = epoch
                self._write()

    def forget(self, vm_id: str) -> None:
        with self._lock:
            if self.epochs.pop(vm_id, None) is not None:
                self._write()

    def _write(self) -> None:
        """Temporary file, fsync, rename, fsync of the folder: after a power cut the old or the new one is there."""
        temporary = self._path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump({"desired": self.desired.model_dump(mode="json"), "epochs": self.epochs}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
