"""Where a copy's disks come from: out of the vault, served by an export process, or from a replica that is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from leeward.domain.errors import Refused
from leeward.domain.vm import FirmwareState
from leeward.ports.hypervisor import Owner
from leeward.recovery.export import ExportJob
from leeward.recovery.records import CopyRecord, CopyRecords
from leeward.recovery.replica import Replicas
from leeward.vault.facade import Vault


@dataclass(frozen=True, slots=True)
class Content:
    """What a VM is made of. disks: name → NBD URI, or the path of a whole image. sizes: bytes."""

    definition: str
    firmware: FirmwareState
    disks: dict[str, str]
    sizes: dict[str, int]


class Source(Protocol):
    """Every method is harmless to repeat."""

    def serve(self, record: CopyRecord) -> str:
        """Have the disks ready; returns how, in words."""

    def content(self, record: CopyRecord) -> Content: ...

    def ensure(self, record: CopyRecord) -> None:
        """See that they are (still) ready: the VM is about to start."""


class VaultSource:
    """opener: of what is served. key_file: of the vault, for the export process. delay_ms, state: see `ExportJob`."""

    def __init__(
        self,
        records: CopyRecords,
        opener: Callable[[], Owner],
        vault_url: str,
        key_file: Path,
        vault: Vault,
        delay_ms: float,
        state: Path | None = None,
    ) -> None:
        self._records = records
        self._opener = opener
        self._vault_url = vault_url
        self._key_file = key_file
        self._vault = vault
        self._delay_ms = delay_ms
        self._state = state

    def serve(self, record: CopyRecord) -> str:
        export = self._records.export(record)
        opener = self._opener()
        export.prepare(
            opener,
            ExportJob(
                self._vault_url,
                str(self._key_file),
                record.vm_id,
                record.point_id,
                str(export.socket),
                uid=opener.uid,
                gid=opener.gid,
                delay_ms=self._delay_ms,
                state=str(self._state or ""),
            ),
        )
        export.ensure()
        return f"process {export.pid()}"

    def content(self, record: CopyRecord) -> Content:
        export = self._records.export(record)
        with self._vault.log(record.vm_id).open_point(record.point_id, cache_bytes=0) as image:
            sizes = {name: disk.size for name, disk in image.disks.items()}
            return Content(image.definition, image.firmware, {name: export.uri(name) for name in sizes}, sizes)

    def ensure(self, record: CopyRecord) -> None:
        self._records.export(record).ensure()


class ReplicaSource:
    """The images of a replica become the copy's disks; nothing of the vault is needed."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def serve(self, record: CopyRecord) -> str:
        replica = self._replicas.whole(record.vm_id)
        if replica is not None and replica.point != record.point_id:
            # We were killed before it was taken, and it has followed the log since.
            self._replicas.advance(record.vm_id, record.point_id)
        self._replicas.take(record.vm_id, record.tag, record.point_id)
        return "not needed: the warm replica's disks are here"

    def content(self, record: CopyRecord) -> Content:
        disks = self._replicas.take(record.vm_id, record.tag)
        replica = self._replicas.record(record.vm_id)
        if replica is None:
            raise Refused("the replica is gone", subject=record.vm_name, hint="Discard the copy and build it anew")
        return Content(replica.definition, replica.state, disks, replica.sizes)

    def ensure(self, record: CopyRecord) -> None:
        """Files need no looking after."""
