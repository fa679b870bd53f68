"""The sentry: sees that a VM's log is still ours where its worker cannot, and so bounds how long two sites may run
it.

A worker meets a newer epoch at its next commit, or looks for one when nothing changes. But a paused one does neither,
one in the middle of a first copy not for hours, one whose host gives errors not at all: meanwhile the VM may have
been failed over by somebody who can reach the vault and not us.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.vault.facade import Vault
from leeward.wire.messages import ProtectionMessage

# As often as a worker looks (leeward.agent.worker), and a little: where one does, there is nothing left to do here.
LOOK_S = 5.5
_PERIOD_S = 1.0


class Sentry:
    """wishes: those of VMs that may run here and whose reign no worker has proven within LOOK_S. epoch_of: the one we
    reign in. open_vault: the vault itself. on_fenced: told a wish whose epoch is over; raises LeewardError."""

    def __init__(
        self,
        wishes: Callable[[], Sequence[ProtectionMessage]],
        epoch_of: Callable[[str, str], int | None],
        open_vault: Callable[[], Vault],
        on_fenced: Callable[[ProtectionMessage], None],
    ) -> None:
        self._wishes = wishes
        self._epoch_of = epoch_of
        self._open_vault = open_vault
        self._on_fenced = on_fenced
        self._vault: Vault | None = None
        self._looked: dict[str, float] = {}
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
        for wish in self._wishes():
            if now - self._looked.get(wish.vm_id, float("-inf")) < LOOK_S:
                continue
            try:
                self._look_at(wish)
                self._looked[wish.vm_id] = now
            except LeewardError as error:  # away: it is asked again
                log.debug("who reigns is not known", vm=wish.vm_name, error=str(error))
            except Exception:  # a bug here must not end the watch over all other VMs
                log.exception("the sentry stumbled", vm=wish.vm_name)

    def _look_at(self, wish: ProtectionMessage) -> None:
        if self._vault is None:
            self._vault = self._open_vault()
        newest = self._vault.log(wish.vm_id).epoch()
        ours = self._epoch_of(wish.vm_id, wish.host)  # after the look: it may be we who have just begun a new one
        if ours is not None and newest > ours:
            self._on_fenced(wish)
