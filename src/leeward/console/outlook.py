"""What the vault alone says of VMs whose home cannot be asked: their newest points, not older than a few seconds."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait

from leeward.console.checks import VaultOpener
from leeward.domain.errors import LeewardError
from leeward.domain.points import RecoveryPoint
from leeward.domain.protection import ProtectionState
from leeward.network.apart import apart
from leeward.wire.messages import ProtectionMessage, ProtectionReport
from leeward.wire.translate import point_message

_FRESH_S = 5.0
# One that swallows packets would keep everybody who asks for a thousand VMs for as long as its timeouts last.
_PATIENCE_S = 2.0
_SILENT = "the vault cannot be read: it does not answer"


class Outlook:
    """Thread-safe. A vault that cannot be read gives no point, and says why; one that does not answer, what was known
    before."""

    def __init__(self, vault: VaultOpener) -> None:
        self._vault = vault
        self._known: dict[str, tuple[float, RecoveryPoint | None, str]] = {}
        self._asked: tuple[float, Future[None]] | None = None
        self._lock = threading.Lock()

    def report(self, wish: ProtectionMessage) -> ProtectionReport:
        """As the VM's agent would report, if it could."""
        point, trouble = self._newest(wish.vm_id)
        reason = trouble or f"its host {wish.host} cannot be asked; it can be recovered from the vault"
        if point is None and not trouble:
            reason = f"its host {wish.host} cannot be asked, and the vault has no recovery point of it"
        return ProtectionReport(
            vm_id=wish.vm_id,
            state=ProtectionState.ERROR,
            reason=reason,
            progress=None,
            rpo_target_s=wish.policy.rpo_s,
            rpo_actual_s=round(max(0.0, time.time() - point.time_ns / 1e9), 3) if point else None,
            verified_at=None,
            last_point=point_message(point) if point else None,
            failover_possible=point is not None,
        )

    def _newest(self, vm_id: str) -> tuple[RecoveryPoint | None, str]:
        ends = time.monotonic() + _PATIENCE_S
        while True:
            with self._lock:
                now, known = time.monotonic(), self._known.get(vm_id)
                if known and now - known[0] < _FRESH_S:
                    return known[1], known[2]
                if self._asked is None or self._asked[1].done():
                    self._asked = now, apart(lambda: self._read(vm_id), "outlook")
                began, asked = self._asked
            # Nobody waits for an answer for which another one has waited long enough.
            patience_s = min(ends, began + _PATIENCE_S) - time.monotonic()
            if patience_s <= 0 or not wait([asked], patience_s).done:
                return known[1] if known else None, _SILENT
            asked.result()

    def _read(self, vm_id: str) -> None:
        point, trouble = None, ""
        try:
            points = self._vault.open().log(vm_id).points()
            point = points[-1] if points else None
        except LeewardError as error:
            trouble = f"the vault cannot be read: {error}"
        with self._lock:
            self._known[vm_id] = (time.monotonic(), point, trouble)
