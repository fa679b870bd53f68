"""Keeping a guest safe from a full scratch folder while a backup job of ours is on it.

During a pull-mode backup QEMU copies what the guest overwrites into scratch files first. When that copy fails for
want of space QEMU 7.2 fails the guest's own write, and the disk's default policy then pauses the whole VM (seen: the
guest hangs until somebody resumes it). So the guard gives the job up while there is still some room, and if it comes
too late, ends the job and lets the VM go on: QEMU then repeats the write, and nothing in the guest has noticed.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from leeward.logs import log

# A fast disk writes some hundred MB/s: at this pace of looking the reserve covers what comes between two looks.
_LOOK_S = 0.2
RESERVE = 128 << 20


class ScratchGuard:
    """Watches from `start` to `stop`. `tripped` tells why the job was given up, "" when it was not.

    ask: has a question answered by the VM; raises libvirtError.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[libvirt.virDomain], Any]], Any],
        name: str,
        scratch: Path,
        reserve: int = RESERVE,
    ) -> None:
        self._ask = ask
        self._name = name
        self._scratch = scratch
        # A folder that has less than the reserve to begin with is guarded by the second line only.
        self._reserve = reserve if shutil.disk_usage(scratch).free > 2 * reserve else 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="scratch-guard", daemon=True)
        self.tripped = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends watching; returns when nothing more will be done to the VM."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                if self._reserve and shutil.disk_usage(self._scratch).free < self._reserve:
                    self._give_up("the host's disk with the scratch files is nearly full", resume=False)
                elif self._paused_for_space():
                    self._give_up("the host's disk with the scratch files is full", resume=True)
            except (libvirt.libvirtError, OSError) as error:
                # Without an answer nothing can be decided; the cycle's own check sees a job or a host that is gone.
                log.debug("the guard got no answer", error=str(error))
            if self.tripped or not self._scratch.is_dir():
                return

    def _paused_for_space(self) -> bool:
        """Paused by an I/O error, and the scratch folder has no room left: then it is our doing."""
        state, reason = self._ask(lambda domain: domain.state())
        if (state, reason) != (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
            return False
        return shutil.disk_usage(self._scratch).free < 1 << 20

    def _give_up(self, why: str, *, resume: bool) -> None:
        self.tripped = why
        log.warning("the backup is given up", vm=self._name, reason=why)
        self._ask(lambda domain: domain.abortJob())
        if resume:
            self._ask(lambda domain: domain.resume())
