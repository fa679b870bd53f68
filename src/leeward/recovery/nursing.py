"""Looking after copies: their export processes, their pins on the point, their hydration."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from leeward.domain.errors import LeewardError, StoreError, VmGone
from leeward.logs import log
from leeward.ports.hypervisor import RecoveryHost
from leeward.recovery.records import CopyRecord, CopyRecords, Purpose
from leeward.vault.facade import Vault

# A copy that is not hydrated keeps its point for as long as somebody looks after it, and this long after.
_PIN_S = 7 * 86_400.0
_LONGEST_SLICE_S, _SHORTEST_SLICE_S = 10.0, 1.0


def slice_s(rpo_s: float | None) -> float:
    """Seconds of hydration between two recovery points of a VM that is replicated with this target."""
    wanted = _LONGEST_SLICE_S if rpo_s is None else rpo_s / 2
    return min(max(wanted, _SHORTEST_SLICE_S), _LONGEST_SLICE_S)


class Nurse:
    """rpo_s: a VM's target, None where it is not replicated from here. may_run: see `Copies`."""

    def __init__(
        self,
        host: RecoveryHost,
        records: CopyRecords,
        vault: Vault,
        rpo_s: Callable[[str], float | None],
        may_run: Callable[[str], bool],
    ) -> None:
        self._host = host
        self._records = records
        self._vault = vault
        self._rpo_s = rpo_s
        self._may_run = may_run

    # --- the pin ------------------------------------------------------------------------------------

    def pin(self, record: CopyRecord) -> None:
        if not record.pin:
            self._renew_pin(record)

    def _renew_pin(self, record: CopyRecord) -> None:
        """The new pin first: at no instant is there none. Where none can be had, the next look tries again."""
        old = record.pin
        new = self._vault.pin(record.vm_id, record.point_id, f"{record.purpose} copy {record.tag}", _PIN_S)
        if not new:
            return
        record.pin, record.pinned = new, time.time()
        self._records.save(record)
        if old:
            self._vault.unpin(record.vm_id, old)

    def unpin(self, record: CopyRecord) -> None:
        """A pin that cannot be removed now expires by itself; nothing must hang on an absent vault."""
        if record.pin:
            with contextlib.suppress(StoreError):
                self._vault.unpin(record.vm_id, record.pin)
                record.pin = ""

    # --- the copy -----------------------------------------------------------------------------------

    def look_after(self, record: CopyRecord) -> None:
        """One look at a copy; trouble is logged and looked at again the next time."""
        try:
            if record.done("start") and not record.hydrated:
                self.look(record)
                if record.done("hydrate") and self.hydrated(record):
                    record.hydrated = True
                    self._records.save(record)
                    log.info("a copy needs the vault no longer", vm=record.copy_name)
            if record.hydrated:
                self._records.export(record).stop()
            self._keep_pin(record)
            if record.done("start") and record.hydrated:
                self.look(record)
        except VmGone:
            return  # removed behind our back; it can still be discarded
        except LeewardError as error:
            log.warning("a copy needs attention", vm=record.copy_name, error=str(error))

    def _keep_pin(self, record: CopyRecord) -> None:
        """A failover that is not settled keeps its point even when it needs it no longer: it may be taken back."""
        if record.hydrated and (record.settled or record.purpose == Purpose.TEST):
            if record.pin:
                self.unpin(record)
                self._records.save(record)
        elif record.done("pin") and time.time() - record.pinned > _PIN_S / 4:
            self._renew_pin(record)

    def look(self, record: CopyRecord) -> None:
        """See that the point is served and the copy is not held up by a server that was away, or by a disk that was
        full. One that is hydrated needs no server, and when its hypervisor dies that is not our doing."""
        if not (record.replica or record.hydrated) and self._records.export(record).ensure():
            log.warning("the export process was started again", vm=record.copy_name)
        if record.purpose == Purpose.FAILOVER and not self._may_run(record.vm_id):
            return
        if self._host.resume_after_error(record.copy_id, revive=not record.hydrated):
            log.info("resumed after an I/O error", vm=record.copy_name)

    def watch_boot(self, record: CopyRecord, timeout_s: float) -> str:
        """Until the guest's agent answers. A VM without an agent cannot tell; it is only seen to run."""
        began = time.monotonic()
        start = record.step("start").started or time.time()
        if not self._host.has_agent(record.copy_id):
            record.evidence = {"agent": "none", "running": self._host.running(record.copy_id)}
            return "it runs; it has no guest agent to ask"
        while time.monotonic() - began < timeout_s:
            self.look(record)
            if self._host.agent_answers(record.copy_id):
                seconds = round(time.time() - start, 2)
                record.evidence = {"agent": "answers", "boot_s": seconds}
                self._records.export(record).boot_is_over()
                return f"the guest answered {seconds:.1f} s after power-on"
            time.sleep(0.1)
        record.evidence = {"agent": "silent", "running": self._host.running(record.copy_id)}
        return f"the guest's agent did not answer within {timeout_s:.0f} s"

    def hydrated(self, record: CopyRecord) -> bool:
        """Carry the hydration on; True when nothing is left to copy."""
        return not self._host.hydrate(record.copy_id, slice_s(self._rpo_s(record.vm_id)))
