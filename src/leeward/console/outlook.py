"""What the vault alone says of VMs whose home cannot be asked: their newest points, not older than a few seconds."""

from __future__ import annotations

import threading
import time

from leeward.console.checks import VaultOpener
from leeward.domain.errors import LeewardError
from leeward.domain.points import RecoveryPoint
from leeward.domain.protection import ProtectionState
from leeward.wire.messages import ProtectionMessage, ProtectionReport
from leeward.wire.translate import point_message

_FRESH_S = 5.0


class Outlook:
    """Thread-safe. A vault that cannot be read gives no point, and says why."""

    def __init__(self, vault: VaultOpener) -> None:
        self._vault = vault
        self._known: dict[str, tuple[float, RecoveryPoint | None, str]] = {}
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
        with self._lock:
            known = self._known.get(vm_id)
            if known and time.monotonic() - known[0] < _FRESH_S:
                return known[1], known[2]
        point, trouble = None, ""
        try:
            points = self._vault.open().log(vm_id).points()
            point = points[-1] if points else None
        except LeewardError as error:
            trouble = f"the vault cannot be read: {error}"
        with self._lock:
            self._known[vm_id] = (time.monotonic(), point, trouble)
        return point, trouble
