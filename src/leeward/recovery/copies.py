"""Copies: VMs made out of recovery points. A test copy is booted apart from everything, while replication goes on; a
failover copy is the VM itself, from now on here.

Small steps, each recorded on disk before and after, each harmless to repeat: whatever dies in between, the same call
goes on where it stood, and `discard` removes all that was made.

Before a failover copy is started the log's next epoch must have been opened: from then on the former writer can add
nothing. If the point is the newest, its tracking token then becomes a checkpoint of the copy before the guest's first
write, and whoever replicates the copy goes on incrementally.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import HostBusy, LeewardError, Refused, Unavailable
from leeward.logs import log
from leeward.ports.hypervisor import RecoveryHost
from leeward.recovery.durable import exclusive
from leeward.recovery.nursing import Nurse
from leeward.recovery.picture import settled_picture
from leeward.recovery.records import CopyRecord, CopyRecords, Purpose
from leeward.recovery.replica import Replicas
from leeward.recovery.sources import ReplicaSource, Source, VaultSource
from leeward.recovery.supervisor import ExportProcess
from leeward.vault.facade import Vault
from leeward.vault.log import PointImage

BOOT_TIMEOUT_S = 180.0
# What the images take besides the disks' data, with some room for the host itself.
_RESERVE = 256 << 20
# How long a failover waits for a replica that has not quite followed; see `_catch_up`.
_CATCH_UP_S = 5.0

EVERY_CARD = "*"

OnStep = Callable[[CopyRecord], None]


class Copies:
    """All copies of one recovery host; at most one of a VM for each purpose.

    folder: records and export processes; keep its path short. replicas: of this host, used for failovers where they
    hold the point. rpo_s: a VM's target, None where it is not replicated from here. may_run: asked before a failover
    copy that has died is started again. on_instant: see `starting.STEPS`. state: the folder whose file says where the
    vault is and with which credentials it is opened; None: vault_url alone does.
    """

    def __init__(
        self,
        host: RecoveryHost,
        folder: Path,
        vault_url: str,
        key_file: Path,
        vault: Vault,
        *,
        delay_ms: float = 0.0,
        replicas: Replicas | None = None,
        rpo_s: Callable[[str], float | None] = lambda vm_id: None,
        may_run: Callable[[str], bool] = lambda vm_id: True,
        on_instant: Callable[[str], None] = lambda name: None,
        state: Path | None = None,
    ) -> None:
        self._host = host
        self._records = CopyRecords(folder)
        self._vault = vault
        self._replicas = replicas
        self._served = VaultSource(self._records, host.opener, vault_url, key_file, vault, delay_ms, state)
        self._on_instant = on_instant
        self._nurse = Nurse(host, self._records, vault, rpo_s, may_run)

    # --- records ------------------------------------------------------------------------------------

    def record(self, vm_id: str, purpose: str) -> CopyRecord | None:
        return self._records.load(vm_id, Purpose.of(purpose))

    def records(self) -> list[CopyRecord]:
        return self._records.all()

    def _require(self, vm_id: str, purpose: str, step: str) -> CopyRecord:
        record = self.record(vm_id, purpose)
        if record is None or not record.done(step):
            raise Refused(f"there is no {purpose} copy of it that went through the step {step}", subject=vm_id)
        return record

    def _source(self, record: CopyRecord) -> Source:
        if record.replica and self._replicas is not None:
            return ReplicaSource(self._replicas)
        return self._served

    def export(self, record: CopyRecord) -> ExportProcess:
        return self._records.export(record)

    # --- making -------------------------------------------------------------------------------------

    def build(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        purpose: str,
        networks: Mapping[str, str] | None = None,
        on_step: OnStep = lambda record: None,
        *,
        from_vault: bool = False,
    ) -> CopyRecord:
        """Pin the point, serve it, define the copy. point_id: an id, or "latest".

        networks, for a failover: what a card hangs on → where it goes here; see `leeward.recovery.libvirt.nics`. For
        a test: {"*": "isolated:NAME"} lets copies that are told the same be on one isolated network. from_vault: a
        warm replica that holds the point is left alone. Raises Refused when a copy of another point exists, or a VM
        of this identity that is not ours; StoreFull; LeewardError when a step fails: then the record says which.
        """
        purpose = Purpose.of(purpose)
        with exclusive(self._records.place(vm_id, purpose)):
            record = self.record(vm_id, purpose)
            if record is None:
                record = self._new(vm_id, vm_name, point_id, purpose, networks or {}, from_vault)
            elif point_id not in ("latest", record.point_id):
                raise Refused(
                    f"a {purpose} copy of it exists already, of point {record.point_id}",
                    subject=vm_name,
                    hint="Discard it first",
                )
            self._run(record, {"pin": self._pin, "export": self._serve, "define": self._define}, on_step)
            return record

    def _new(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        purpose: Purpose,
        networks: Mapping[str, str],
        from_vault: bool,
    ) -> CopyRecord:
        tag = uuid.uuid4().hex[:10]
        name = vm_name if purpose is Purpose.FAILOVER else f"{vm_name}-test-{tag[:4]}"
        record = CopyRecord(vm_id, vm_name, purpose, point_id, tag, name, self._host.name, dict(networks))
        if purpose is Purpose.FAILOVER:
            self._host.require_free(tag, vm_id, vm_name)
        if purpose is not Purpose.FAILOVER or from_vault or not self._from_replica(record):
            self._from_vault(record)
        self._records.save(record)
        return record

    def _from_vault(self, record: CopyRecord) -> None:
        with self._vault.log(record.vm_id).open_point(record.point_id, cache_bytes=0) as image:
            # How much of what others need they have already is not looked up: rather refuse too early.
            promised = sum(record.bytes for record in self.records() if not record.hydrated)
            self._host.require_room(room_for(image), promised)
            record.point_id, record.token, record.bytes = image.point.id, image.tracking, _data(image)

    def _from_replica(self, record: CopyRecord) -> bool:
        """Whether a replica here holds the point, or is quickly brought to it; without the vault its own must do."""
        replica = self._replicas.whole(record.vm_id) if self._replicas is not None else None
        if replica is None or self._replicas is None:
            return False
        wanted = record.point_id
        if wanted != replica.point:  # else the vault need not be asked, which may be away
            try:
                wanted = self._vault.log(record.vm_id).point(wanted).id
            except Unavailable:
                wanted = replica.point if wanted == "latest" else wanted
        if wanted != replica.point:
            self._catch_up(self._replicas, record.vm_id, wanted)
            replica = self._replicas.whole(record.vm_id)
        if replica is None or replica.point != wanted:
            return False
        record.replica, record.point_id, record.token = True, replica.point, replica.token
        return True

    def _catch_up(self, replicas: Replicas, vm_id: str, point_id: str) -> None:
        """Or not: out of the vault the VM boots at once, so it must not wait for more than a moment's worth."""
        ends = time.monotonic() + _CATCH_UP_S

        def told(done: int, total: int, fetched: int) -> None:
            if time.monotonic() > ends:
                raise Unavailable(f"it is not there within {_CATCH_UP_S:.0f} s")

        try:
            replicas.advance(vm_id, progress=told)  # cheaper than to a point by name, which it mostly is
            held = replicas.whole(vm_id)
            if held is not None and held.point != point_id:
                replicas.advance(vm_id, point_id, told)
        except LeewardError as error:
            log.info("the warm replica is not used", vm_id=vm_id, point=point_id, reason=str(error))

    def _run(self, record: CopyRecord, actions: Mapping[str, Callable[[CopyRecord], str]], on_step: OnStep) -> None:
        for name, action in actions.items():
            if not record.done(name):
                self._step(record, name, action, on_step)

    def _step(self, record: CopyRecord, name: str, action: Callable[[CopyRecord], str], on_step: OnStep) -> None:
        step = record.step(name)
        step.state, step.started, record.failed = "running", time.time(), ""
        began = time.monotonic()
        self._records.save(record)
        on_step(record)
        try:
            step.detail = action(record)
            step.state = "done"
        except LeewardError as error:
            step.state, step.detail = "failed", str(error)
            record.failed = f"{name}: {error}"
            raise
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            self._records.save(record)
            on_step(record)

    def _pin(self, record: CopyRecord) -> str:
        if record.replica:
            # Nothing is read of it; for whoever takes this back it is kept from the next look on.
            return f"point {record.point_id}, on the disks of the warm replica"
        self._nurse.pin(record)
        free = "" if record.pin else ", not kept from pruning: the vault cannot be written now"
        return f"point {record.point_id}{free}"

    def _serve(self, record: CopyRecord) -> str:
        return self._source(record).serve(record)

    def _define(self, record: CopyRecord) -> str:
        tag, content = record.tag, self._source(record).content(record)
        if record.purpose == Purpose.TEST:
            made = self._host.create_test_vm(
                tag=tag,
                name=record.copy_name,
                definition=content.definition,
                disks=content.disks,
                sizes=content.sizes,
                firmware=content.firmware,
                shared=record.networks.get(EVERY_CARD, ""),
            )
        else:
            self._host.require_free(tag, record.vm_id, record.vm_name)
            made = self._host.create_failover_vm(
                tag=tag,
                definition=content.definition,
                disks=content.disks,
                sizes=content.sizes,
                networks=record.networks,
                firmware=content.firmware,
            )
        record.copy_id, record.copy_name, record.network = made.vm_id, made.name, made.network
        record.made, record.hydrated = made.marks, record.replica
        apart = "isolated " if record.purpose == Purpose.TEST else ""
        return "; ".join((f"{made.name} on {record.host}, {apart}on {made.network}", *made.warnings))

    def definition(self, vm_id: str, purpose: str) -> str:
        """Of the VM that a copy is made of, as it was at its point. Raises Refused when there is no such copy."""
        record = self._require(vm_id, purpose, "define")
        return self._source(record).content(record).definition

    # --- running ------------------------------------------------------------------------------------

    def start(
        self, vm_id: str, purpose: str, on_step: OnStep = lambda record: None, *, offline: bool = False
    ) -> CopyRecord:
        """Power on. offline: the vault is known to be away, and is not waited for. Raises Refused when it is not
        built."""
        with exclusive(self._records.place(vm_id, Purpose.of(purpose))):
            record = self._require(vm_id, purpose, "define")
            self._run(record, {"start": lambda record: self._power_on(record, offline)}, on_step)
            return record

    def _power_on(self, record: CopyRecord, offline: bool) -> str:
        self._source(record).ensure(record)
        if record.purpose == Purpose.TEST or record.released:
            self._host.start(record.copy_id)
            return ""
        reason = (
            "the vault is away" if offline else self._vault.log(record.vm_id).untracked(record.point_id, record.token)
        )
        if reason:
            self._release(record)
            self._host.start(record.copy_id)
            return f"the next cycle compares everything: {reason}"
        tracked = self._host.start_tracked(
            record.copy_id, record.token, record.made, lambda: self._release(record), self._on_instant
        )
        return "changes are tracked from the first write" if tracked else "the next cycle compares everything"

    def _release(self, record: CopyRecord) -> None:
        record.released = True
        self._records.save(record)

    def plug(self, vm_id: str, purpose: str) -> CopyRecord:
        """Connect the network of a failover copy, which was started without: from here on clients reach it."""
        with exclusive(self._records.place(vm_id, Purpose.of(purpose))):
            record = self._require(vm_id, purpose, "start")
            self._host.plug(record.copy_id)
            return record

    def watch(
        self, vm_id: str, purpose: str, timeout_s: float = BOOT_TIMEOUT_S, on_step: OnStep = lambda record: None
    ) -> CopyRecord:
        """Until the guest has come up, or time is over, which the evidence says; then hydration begins."""
        with exclusive(self._records.place(vm_id, Purpose.of(purpose))):
            record = self._require(vm_id, purpose, "start")
            actions = {
                "boot": lambda record: self._nurse.watch_boot(record, timeout_s),
                "hydrate": self._begin_hydration,
            }
            self._run(record, actions, on_step)
            return record

    def picture(self, vm_id: str, purpose: str, check: Callable[[], None] = lambda: None) -> bytes:
        """PNG of what the copy's screen shows once its guest is up; see `leeward.recovery.picture`. check: raises to
        end early. Raises LeewardError when no picture can be had."""
        record = self._require(vm_id, purpose, "start")
        up = record.evidence.get("agent") == "answers"
        return settled_picture(lambda: self._host.screenshot(record.copy_id), up=up, check=check)

    def _begin_hydration(self, record: CopyRecord) -> str:
        record.hydrated = self._nurse.hydrated(record)
        return "nothing left to copy" if record.hydrated else "goes on in the background"

    def rehearse(
        self, vm_id: str, vm_name: str, point_id: str = "latest", on_step: OnStep = lambda record: None
    ) -> CopyRecord:
        """A whole test failover. Raises Refused when there is one already that is not of a dead run."""
        record = self.record(vm_id, Purpose.TEST)
        if record is not None and (record.done("boot") or record.failed):
            raise Refused(
                f"a test failover exists already ({record.copy_name}, point {record.point_id})",
                subject=vm_name,
                hint=f"Remove it with `leeward failover cleanup {vm_name}`",
            )
        self.build(vm_id, vm_name, "latest" if record else point_id, Purpose.TEST, on_step=on_step)
        self.start(vm_id, Purpose.TEST, on_step)
        return self.watch(vm_id, Purpose.TEST, on_step=on_step)

    # --- afterwards ---------------------------------------------------------------------------------

    def supervise(self) -> None:
        """One look at all copies: dead exports restarted, paused copies resumed, hydration and pins carried on."""
        for found in self.records():
            with contextlib.suppress(HostBusy), exclusive(self._records.place(found.vm_id, found.purpose), 0):
                record = self.record(found.vm_id, found.purpose)
                if record is not None:
                    self._nurse.look_after(record)

    def settle(self, vm_id: str) -> CopyRecord:
        """The operator has committed the failover: once the copy is hydrated its point is kept no longer."""
        with exclusive(self._records.place(vm_id, Purpose.FAILOVER)):
            record = self._require(vm_id, Purpose.FAILOVER, "start")
            record.settled = True
            if record.hydrated:
                self._nurse.unpin(record)
            self._records.save(record)
            return record

    def discard(self, vm_id: str, purpose: str) -> CopyRecord | None:
        """Remove everything that was made for a copy. Returns its record; None when there is nothing left to remove.

        A failover copy goes as well, with all that its guest has written.
        """
        with exclusive(self._records.place(vm_id, Purpose.of(purpose))):
            record = self.record(vm_id, purpose)
            if record is None:
                return None
            self._host.destroy(record.tag, keep_images=record.replica)
            if record.replica and self._replicas is not None:
                self._replicas.give_back(vm_id, record.tag)
            self.export(record).stop()
            self._nurse.unpin(record)
            place = self._records.place(vm_id, purpose)
            shutil.rmtree(place / "x", ignore_errors=True)  # the record last: without it nobody would come again
            shutil.rmtree(place, ignore_errors=True)
            return record


def room_for(image: PointImage) -> int:
    """Bytes that the storage must have free for a copy of this point."""
    return _data(image) + _RESERVE


def _data(image: PointImage) -> int:
    """Bytes of data on the disks of a point."""
    return sum(disk.runs().blocks for disk in image.disks.values()) * BLOCK_SIZE
