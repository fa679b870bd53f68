"""Recovered VMs on a real host, as the agent's jobs want them: opened when first needed, told in messages.

Thin on purpose: everything is done in `leeward.recovery`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leeward.agent.config import AgentConfig, HostConfig
from leeward.agent.keys import key_path
from leeward.recovery.copies import Copies
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.recovery.records import CopyRecord, CopyRecords
from leeward.vault.facade import Vault
from leeward.wire.messages import CopyReport, StepMessage


class HostCopies:
    """See `leeward.agent.copy_tasks.Copies`. folder: records and export processes; its path must be short.

    may_run: whether a failover copy that has died may be started again here; rpo_s: a VM's target, if it has one.
    """

    def __init__(
        self,
        host: HostConfig,
        storage: Path,
        folder: Path,
        config: AgentConfig,
        open_vault: Callable[[], Vault],
        may_run: Callable[[str], bool],
        rpo_s: Callable[[str], float | None],
    ) -> None:
        self._host = host
        self._storage = storage
        self._folder = folder
        self._config = config
        self._open_vault = open_vault
        self._may_run = may_run
        self._rpo_s = rpo_s
        self._opened: Copies | None = None
        self._lock = threading.Lock()

    def _open(self) -> Copies:
        with self._lock:
            if self._opened is None:
                self._opened = Copies(
                    LibvirtRecoveryHost(self._host.name, self._host.uri, self._storage),
                    self._folder,
                    self._config.vault_url,
                    key_path(self._config.state_dir),
                    self._open_vault(),
                    rpo_s=self._rpo_s,
                    may_run=self._may_run,
                )
            return self._opened

    def build(self, vm_id: str, vm_name: str, point_id: str, purpose: str, networks: Mapping[str, str]) -> CopyReport:
        return copy_report(self._open().build(vm_id, vm_name, point_id, purpose, networks))

    def start(self, vm_id: str, purpose: str) -> CopyReport:
        return copy_report(self._open().start(vm_id, purpose))

    def plug(self, vm_id: str, purpose: str) -> CopyReport:
        return copy_report(self._open().plug(vm_id, purpose))

    def watch(self, vm_id: str, purpose: str, timeout_s: float) -> CopyReport:
        return copy_report(self._open().watch(vm_id, purpose, timeout_s))

    def settle(self, vm_id: str) -> None:
        self._open().settle(vm_id)

    def discard(self, vm_id: str, purpose: str) -> None:
        self._open().discard(vm_id, purpose)

    def reports(self) -> list[CopyReport]:
        """Read from the records alone: no vault and no host is asked."""
        return [copy_report(record) for record in CopyRecords(self._folder).all()]

    def supervise(self) -> None:
        if CopyRecords(self._folder).all():
            self._open().supervise()


def copy_report(record: CopyRecord) -> CopyReport:
    steps = tuple(
        StepMessage(name=step.name, state=step.state, started=step.started, seconds=step.seconds, detail=step.detail)
        for step in record.steps
    )
    evidence: dict[str, Any] = dict(record.evidence)
    return CopyReport(
        vm_id=record.vm_id,
        vm_name=record.vm_name,
        purpose=record.purpose,
        point=record.point_id,
        copy_id=record.copy_id,
        copy_name=record.copy_name,
        host=record.host,
        network=record.network,
        steps=steps,
        evidence=evidence,
        hydrated=record.hydrated,
        failed=record.failed,
    )
