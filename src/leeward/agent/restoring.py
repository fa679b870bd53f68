"""Recovered VMs on a real host, as the agent's jobs want them: opened when first needed, told in messages.

Thin on purpose: everything is done in `leeward.recovery`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from leeward.agent.config import AgentConfig, HostConfig
from leeward.agent.follower import report_of
from leeward.agent.keys import key_path
from leeward.recovery.copies import Copies
from leeward.recovery.home import HomeDisks, wait_agent
from leeward.recovery.home_records import HomeRecords
from leeward.recovery.leftovers import of_another
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.recovery.records import CopyRecord, CopyRecords
from leeward.recovery.replica import Replicas
from leeward.vault.facade import Vault
from leeward.wire.messages import CopyReport, ReplicaReport, StepMessage


class HostCopies:
    """See `leeward.agent.copy_tasks.Copies`. folder: records and export processes; its path must be short.

    vault: works also while it is away. replicas: of this host. may_run: whether a failover copy that has died may be
    started again here; rpo_s: a VM's target, if it has one.
    """

    def __init__(
        self,
        host: HostConfig,
        storage: Path,
        folder: Path,
        config: AgentConfig,
        vault: Callable[[], Vault],
        replicas: Callable[[], Replicas],
        may_run: Callable[[str], bool],
        rpo_s: Callable[[str], float | None],
    ) -> None:
        self._host = host
        self._storage = storage
        self._folder = folder
        self._config = config
        self._vault = vault
        self._replicas = replicas
        self._may_run = may_run
        self._rpo_s = rpo_s
        self._opened: Copies | None = None
        self._lock = threading.Lock()

    def _open(self) -> Copies:
        with self._lock:
            if self._opened is None:
                self._opened = Copies(
                    LibvirtRecoveryHost(self._host.name, self._host.uri, self._storage, self._host.network),
                    self._folder,
                    self._config.place.url,
                    key_path(self._config.state_dir),
                    self._vault(),
                    replicas=self._replicas(),
                    rpo_s=self._rpo_s,
                    may_run=self._may_run,
                    state=None if self._config.vault_url else self._config.state_dir,
                )
            return self._opened

    def build(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        purpose: str,
        networks: Mapping[str, str],
        *,
        from_vault: bool = False,
    ) -> CopyReport:
        return copy_report(self._open().build(vm_id, vm_name, point_id, purpose, networks, from_vault=from_vault))

    def start(self, vm_id: str, purpose: str, *, offline: bool = False) -> CopyReport:
        return copy_report(self._open().start(vm_id, purpose, offline=offline))

    def plug(self, vm_id: str, purpose: str) -> CopyReport:
        return copy_report(self._open().plug(vm_id, purpose))

    def watch(self, vm_id: str, purpose: str, timeout_s: float) -> CopyReport:
        return copy_report(self._open().watch(vm_id, purpose, timeout_s))

    def picture(self, vm_id: str, purpose: str, check: Callable[[], None]) -> bytes:
        return self._open().picture(vm_id, purpose, check)

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

    def definition(self, vm_id: str, purpose: str) -> str:
        return self._open().definition(vm_id, purpose)

    def replica(self, vm_id: str) -> ReplicaReport | None:
        record = self._replicas().whole(vm_id)
        return report_of(record, self._host.name, 0) if record else None


class HostHomes:
    """See `leeward.agent.copy_tasks.Homes`. storage: for new disks whose old ones are not files."""

    def __init__(self, host: HostConfig, storage: Path, folder: Path, open_vault: Callable[[], Vault]) -> None:
        self._host = host
        self._storage = storage
        self._folder = folder
        self._open_vault = open_vault
        self._opened: HomeDisks | None = None
        self._lock = threading.Lock()

    def _open(self) -> HomeDisks:
        with self._lock:
            if self._opened is None:
                name, uri = self._host.name, self._host.uri
                self._opened = HomeDisks(name, uri, self._folder, self._storage, self._open_vault())
            return self._opened

    def prepare(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        tell: Callable[[str], None],
        check: Callable[[], None],
        *,
        afresh: bool = False,
        run: str = "",
    ) -> dict[str, Any]:
        return self._open().prepare(vm_id, vm_name, point_id, tell, check, afresh=afresh, run=run)

    def catch_up(
        self, vm_id: str, point_id: str, tell: Callable[[str], None], check: Callable[[], None]
    ) -> dict[str, Any]:
        return self._open().catch_up(vm_id, point_id, tell, check)

    def switch(self, vm_id: str, definition: str, point: str = "") -> dict[str, Any]:
        return self._open().switch(vm_id, definition, point)

    def start(self, vm_id: str, point: str = "") -> dict[str, Any]:
        return self._open().start(vm_id, point)

    def watch(self, vm_id: str, timeout_s: float) -> dict[str, Any]:
        host = LibvirtRecoveryHost(self._host.name, self._host.uri, self._storage)
        if not host.has_agent(vm_id):
            return {"agent": "none", "detail": "it runs; it has no guest agent to ask"}
        seconds = wait_agent(lambda: host.agent_answers(vm_id), timeout_s)
        if seconds is None:
            return {"agent": "silent", "detail": f"the guest's agent did not answer within {timeout_s:.0f} s"}
        return {
            "agent": "answers",
            "boot_s": round(seconds, 2),
            "detail": f"the guest answered after {seconds:.1f} s",
        }

    def settle(self, vm_id: str) -> None:
        self._open().settle(vm_id)

    def of_another(self, vm_id: str, runs: Collection[str]) -> bool:
        """Also while the vault, which all else here needs, cannot be opened: before all, a VM has to be stopped."""
        record = HomeRecords(self._folder).load(vm_id)
        return record is not None and of_another(record.run, runs)

    def revert(self, vm_id: str, runs: Collection[str] = ()) -> None:
        self._open().revert(vm_id, runs)


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
        replica=record.replica,
    )
