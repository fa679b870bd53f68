"""The sentry: sees that a VM's log is still ours where its worker cannot, and so bounds how long two sites may run
it.

A worker meets a newer epoch at its next commit, or looks for one when nothing changes. But a paused one does neither,
one in the middle of a first copy not for hours, one whose host gives errors not at all: meanwhile the VM may have
been failed over by somebody who can reach the vault and not us. And a VM that has just come here has no worker before
the console wishes one, which is the last that it does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.vault.facade import Vault

# As often as a worker looks (leeward.agent.worker), and a little: where one does, there is nothing left to do here.
LOOK_S = 5.5
_PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A VM that may run on a host of ours. name: "" where nobody has told us."""

    vm_id: str
    host: str
    name: str = ""


class Sentry:
    """watched: the VMs that may run here and whose reign no worker has proven within LOOK_S. epoch_of: the one we
    reign in. open_vault: the vault itself. on_over: told a VM whose epoch is over, and that epoch; raises
    LeewardError."""

    def __init__(
        self,
        watched: Callable[[], Sequence[Watched]],
        epoch_of: Callable[[str, str], int | None],
        open_vault: Callable[[], Vault],
        on_over: Callable[[Watched, int], None],
    ) -> None:
        self._watched = watched
        self._epoch_of = epoch_of
        self._open_vault = open_vault
        self._on_over = on_over
        self._vault: Vault | None = None
        self._looked: dict[Watched, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sentry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._over.wait(_PERIOD_S):
            self.look()

    def look(self) -> None:
        now = time.monotonic()
        watched = self._watched()
        self._looked = {vm: at for vm, at in self._looked.items() if now - at < LOOK_S}
        for vm in watched:
            if vm in self._looked:
                continue
            try:
                self._look_at(vm)
                self._looked[vm] = now
            except LeewardError as error:  # away: it is asked again
                log.debug("who reigns is not known", vm=vm.name or vm.vm_id, error=str(error))
            except Exception:  # a bug here must not end the watch over all other VMs
                log.exception("the sentry stumbled", vm=vm.name or vm.vm_id)

    def _look_at(self, vm: Watched) -> None:
        if self._vault is None:
            self._vault = self._open_vault()
        newest = self._vault.log(vm.vm_id).epoch()
        ours = self._epoch_of(vm.vm_id, vm.host)  # after the look: it may be we who have just begun a new one
        if ours is not None and newest > ours:
            self._on_over(vm, ours)
