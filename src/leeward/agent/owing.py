"""Epochs that are owed: a VM was started, or is to run on, here without the vault, and its log is taken over as the
first thing when the vault is back, before anything is replicated.

Until then nobody who asks the vault can know. So whoever finds then that another one has taken the VM over gives way:
its VM is stopped and kept off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from leeward.agent.ledger import Ledger, Owed
from leeward.domain.errors import Fenced, LeewardError, StoreUnavailable
from leeward.logs import log
from leeward.vault.facade import Vault
from leeward.vault.log import Reign, VmLog

_PERIOD_S = 1.0
_TRIES = 5
# A vault that is asked all the time, and did not answer so long ago, is away: a failover need not hear it again.
_LATELY_S = 10.0


def follows(owed: Owed, reign: Reign | None, move: Reign | None) -> int | None:
    """The epoch that an owed one may follow; None: somebody else has moved the VM meanwhile. Pure.

    reign: the log's newest epoch; move: the newest that moved the VM. A former writer may have begun epochs that move
    nothing; those are closed like the one that was seen.
    """
    if reign is None:
        return 0
    if reign.info == owed.info:
        return reign.epoch - 1  # begun already; whoever began it died, or never heard of it
    if move is not None and move.epoch > owed.claim:
        ours = move.info.get("host") == owed.host or move.info.get("run") in owed.runs
        return reign.epoch if ours else None
    return reign.epoch


class Owing:
    """open_vault: the vault itself. on_settled: told what was owed and the epoch that has begun; on_beaten: that
    another one has the VM, and where it runs. Both make it durable, and take the debt off the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        open_vault: Callable[[], Vault],
        on_settled: Callable[[Owed, int], None],
        on_beaten: Callable[[Owed, str], None],
    ) -> None:
        self._ledger = ledger
        self._open_vault = open_vault
        self._on_settled = on_settled
        self._on_beaten = on_beaten
        self._away = float("-inf")  # when the vault last did not answer
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="owing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def owe(self, owed: Owed) -> None:
        """The vault has just been found to be away."""
        with self._lock:
            self._ledger.owe(owed)
            self._away = time.monotonic()

    def drop(self, vm_id: str, host: str) -> None:
        """Owe it no longer. When this returns nothing takes it any more."""
        with self._lock:
            self._ledger.unowe(vm_id, host)

    def settle(self, vm_id: str, host: str, *, patient: bool = True) -> bool:
        """Take what is owed, if anything is; False while the vault is away. patient: ask it, also where it did not
        answer a moment ago. Raises Fenced when another one has the VM, StoreError, Damaged."""
        if not patient and self._ledger.owed(vm_id, host) and time.monotonic() - self._away < _LATELY_S:
            return False
        with self._lock:
            owed = self._ledger.owed(vm_id, host)
            if owed is None:
                return True
            try:
                epoch = self._taken(self._open_vault().log(vm_id), owed)
            except StoreUnavailable:
                self._away = time.monotonic()
                return False
            self._on_settled(owed, epoch)
            log.info("an owed epoch has begun", vm=owed.vm_name, epoch=epoch)
            return True

    def _taken(self, vm_log: VmLog, owed: Owed) -> int:
        for _ in range(_TRIES):
            reign, move = vm_log.reign(), vm_log.last_move()
            claim = follows(owed, reign, move)
            if claim is None:
                there = str(move.info.get("host")) if move else "another host"
                self._on_beaten(owed, there)
                raise Fenced(
                    f"it runs at {there}: another one took it over while the vault was away",
                    subject=owed.vm_name,
                    hint="See where it runs with `leeward status`",
                )
            try:
                return vm_log.take_epoch(claim, owed.info).state.epoch
            except Fenced:
                if vm_log.epoch() == (reign.epoch if reign else 0):
                    raise
        raise Fenced("its log changes hands all the time", subject=owed.vm_name)

    def _run(self) -> None:
        while not self._over.wait(_PERIOD_S):
            self.look()

    def look(self) -> None:
        for owed in self._ledger.all_owed():
            try:
                self.settle(owed.vm_id, owed.host)
            except Fenced as beaten:
                log.warning("a VM gives way", vm=owed.vm_name, reason=str(beaten))
            except LeewardError as error:
                log.warning("an owed epoch could not be taken", vm=owed.vm_name, error=str(error))
            except Exception:  # a bug here must not leave all other debts unpaid
                log.exception("taking an owed epoch failed", vm=owed.vm_name)
