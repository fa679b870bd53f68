"""Test failover: a copy of a VM is booted from a recovery point, apart from everything, while replication goes on.

Small steps, each recorded on disk before and after, each harmless to repeat; whatever dies in between, `start` goes
on where it stood and `cleanup` removes all that was made.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from leeward.domain.errors import LeewardError, Refused, StoreError, VmGone
from leeward.logs import log
from leeward.recovery.export import ExportJob
from leeward.recovery.supervisor import ExportProcess
from leeward.vault.facade import Vault

# Each step and what takes it back.
STEPS = {
    "pin": "unpin",  # keep the point from being pruned
    "export": "stop the export process",
    "define": "undefine the copy, remove overlays and network",
    "start": "power the copy off",
    "boot": "nothing: only looked",
    "hydrate": "nothing: goes with the overlays",
}
# A copy that is not hydrated keeps its point for as long as somebody looks after it, and this long after.
_PIN_S = 7 * 86_400.0
_BOOT_TIMEOUT_S = 180.0


class CopyHost(Protocol):
    """What a drill needs of a recovery host; see `leeward.recovery.libvirt.host`."""

    name: str

    def create_test_vm(
        self, *, tag: str, name: str, definition: str, disks: dict[str, str], sizes: dict[str, int]
    ) -> str: ...
    def start(self, vm_id: str) -> None: ...
    def running(self, vm_id: str) -> bool: ...
    def resume_after_error(self, vm_id: str) -> bool: ...
    def has_agent(self, vm_id: str) -> bool: ...
    def agent_answers(self, vm_id: str) -> bool: ...
    def bridge(self, tag: str) -> str: ...
    def hydrate(self, vm_id: str) -> list[str]: ...
    def destroy(self, tag: str) -> None: ...
    def exists(self, vm_id: str) -> bool: ...


@dataclass(slots=True)
class StepRecord:
    """state: waiting | running | done | failed. started: UTC seconds; seconds: how long it took."""

    name: str
    state: str = "waiting"
    started: float | None = None
    seconds: float | None = None
    detail: str = ""


@dataclass(slots=True)
class TestRecord:
    """One test failover. tag: marks all that it made. vm_name, copy_id, bridge: of the copy. evidence: what was seen.

    hydrated: the copy no longer needs the vault.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    vm_id: str
    source_name: str
    point_id: str
    tag: str
    vm_name: str
    host: str
    bridge: str = ""
    copy_id: str = ""
    pin: str = ""
    pinned: float = 0.0
    steps: list[StepRecord] = field(default_factory=lambda: [StepRecord(name) for name in STEPS])
    evidence: dict[str, Any] = field(default_factory=dict)
    hydrated: bool = False
    failed: str = ""

    def step(self, name: str) -> StepRecord:
        return next(step for step in self.steps if step.name == name)


class TestFailover:
    """All test failovers of one recovery host. folder: records and export processes; keep its path short."""

    __test__ = False

    def __init__(
        self,
        host: CopyHost,
        folder: Path,
        vault_url: str,
        key_file: Path,
        vault: Vault,
        *,
        delay_ms: float = 0.0,
        boot_timeout_s: float = _BOOT_TIMEOUT_S,
    ) -> None:
        self._host = host
        self._folder = folder
        self._vault_url = vault_url
        self._key_file = key_file
        self._vault = vault
        self._delay_ms = delay_ms
        self._boot_timeout_s = boot_timeout_s

    # --- records ------------------------------------------------------------------------------------

    @staticmethod
    def load(folder: Path, vm_id: str) -> TestRecord | None:
        """The record of a VM's test, read without anything else of a test failover."""
        try:
            raw = json.loads((folder / vm_id / "record.json").read_text())
        except FileNotFoundError:
            return None
        raw["steps"] = [StepRecord(**step) for step in raw["steps"]]
        return TestRecord(**raw)

    @staticmethod
    def load_all(folder: Path) -> list[TestRecord]:
        found = (TestFailover.load(folder, path.parent.name) for path in sorted(folder.glob("*/record.json")))
        return [record for record in found if record is not None]

    def record(self, vm_id: str) -> TestRecord | None:
        return self.load(self._folder, vm_id)

    def records(self) -> list[TestRecord]:
        return self.load_all(self._folder)

    def _record_file(self, vm_id: str) -> Path:
        return self._folder / vm_id / "record.json"

    def _save(self, record: TestRecord) -> None:
        path = self._record_file(record.vm_id)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(record), indent=1))
        draft.replace(path)

    def _export(self, record: TestRecord) -> ExportProcess:
        # Short on purpose: the socket's whole path must stay below 108 bytes.
        return ExportProcess(self._folder / record.vm_id / "x")

    # --- start --------------------------------------------------------------------------------------

    def start(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str = "latest",
        on_step: Callable[[TestRecord], None] = lambda record: None,
    ) -> TestRecord:
        """Boot a copy; returns when it has come up (or did not in time, which the evidence says).

        Raises Refused when a test of this VM exists that is not of a dead run; LeewardError when a step fails: then
        the record says which, and `cleanup` removes what was made.
        """
        record = self.record(vm_id)
        if record is not None:
            if record.step("boot").state == "done" or record.failed:
                raise Refused(
                    f"a test failover exists already ({record.vm_name}, point {record.point_id})",
                    subject=vm_name,
                    hint=f"Remove it with `leeward failover cleanup {vm_name}`",
                )
        else:
            point = self._vault.log(vm_id).point(point_id)
            tag = uuid.uuid4().hex[:10]
            copy_name = f"{vm_name}-test-{tag[:4]}"
            record = TestRecord(vm_id, vm_name, point.id, tag, copy_name, self._host.name)
            record.bridge = self._host.bridge(tag)
            self._save(record)
        actions: dict[str, Callable[[TestRecord], str]] = {
            "pin": self._pin,
            "export": self._serve,
            "define": self._define,
            "start": self._power_on,
            "boot": self._watch_boot,
            "hydrate": self._begin_hydration,
        }
        for name, action in actions.items():
            if record.step(name).state != "done":
                self._run(record, name, action, on_step)
        return record

    def _run(
        self,
        record: TestRecord,
        name: str,
        action: Callable[[TestRecord], str],
        on_step: Callable[[TestRecord], None],
    ) -> None:
        step = record.step(name)
        step.state, step.started = "running", time.time()
        began = time.monotonic()
        self._save(record)
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
            self._save(record)
            on_step(record)

    def _pin(self, record: TestRecord) -> str:
        if not record.pin:
            self._renew_pin(record)
        free = "" if record.pin else ", not kept from pruning: the vault cannot be written now"
        return f"point {record.point_id}{free}"

    def _renew_pin(self, record: TestRecord) -> None:
        """The new pin first: at no instant is there none. Where none can be had, the next look tries again."""
        old, new = record.pin, self._vault.pin(record.vm_id, record.point_id, f"test failover {record.tag}", _PIN_S)
        if not new:
            return
        record.pin, record.pinned = new, time.time()
        self._save(record)
        if old:
            self._vault.unpin(record.vm_id, old)

    def _serve(self, record: TestRecord) -> str:
        export = self._export(record)
        export.prepare(
            ExportJob(
                self._vault_url,
                str(self._key_file),
                record.vm_id,
                record.point_id,
                str(export.socket),
                delay_ms=self._delay_ms,
            )
        )
        export.ensure()
        return f"process {export.pid()}"

    def _define(self, record: TestRecord) -> str:
        export = self._export(record)
        with self._vault.log(record.vm_id).open_point(record.point_id, cache_bytes=0) as image:
            definition = image.definition
            sizes = {name: disk.size for name, disk in image.disks.items()}
        record.copy_id = self._host.create_test_vm(
            tag=record.tag,
            name=record.vm_name,
            definition=definition,
            disks={name: export.uri(name) for name in sizes},
            sizes=sizes,
        )
        return f"{record.vm_name} on {record.host}, isolated on {record.bridge}"

    def _power_on(self, record: TestRecord) -> str:
        self._host.start(record.copy_id)
        return ""

    def _watch_boot(self, record: TestRecord) -> str:
        """Until the guest's agent answers. A VM without an agent cannot tell; it is only seen to run."""
        began = time.monotonic()
        start = record.step("start").started or time.time()
        if not self._host.has_agent(record.copy_id):
            record.evidence = {"agent": "none", "running": self._host.running(record.copy_id)}
            return "it runs; it has no guest agent to ask"
        while time.monotonic() - began < self._boot_timeout_s:
            self._nurse(record)
            if self._host.agent_answers(record.copy_id):
                seconds = round(time.time() - start, 2)
                record.evidence = {"agent": "answers", "boot_s": seconds}
                self._export(record).boot_is_over()
                return f"the guest answered {seconds:.1f} s after power-on"
            time.sleep(0.1)
        record.evidence = {"agent": "silent", "running": self._host.running(record.copy_id)}
        return f"the guest's agent did not answer within {self._boot_timeout_s:.0f} s"

    def _begin_hydration(self, record: TestRecord) -> str:
        left = self._host.hydrate(record.copy_id)
        record.hydrated = not left
        return "goes on in the background" if left else "nothing left to copy"

    # --- afterwards ---------------------------------------------------------------------------------

    def supervise(self) -> None:
        """One look at all test copies: dead exports restarted, paused copies resumed, hydration carried on."""
        for record in self.records():
            if record.hydrated or record.failed or record.step("start").state != "done":
                continue
            try:
                self._nurse(record)
                if record.step("hydrate").state == "done" and not self._host.hydrate(record.copy_id):
                    fresh = self.record(record.vm_id)
                    if fresh is not None:
                        fresh.hydrated = True
                        self._save(fresh)
                        self._export(record).stop()
                elif time.time() - record.pinned > _PIN_S / 4 and self.record(record.vm_id) is not None:
                    self._renew_pin(record)
            except VmGone:
                continue  # removed behind our back; cleanup still works
            except LeewardError as error:
                log.warning("a test copy needs attention", vm=record.vm_name, error=str(error))

    def _nurse(self, record: TestRecord) -> None:
        if self._export(record).ensure():
            log.warning("the export process was started again", vm=record.vm_name)
        if self._host.resume_after_error(record.copy_id):
            log.info("resumed after an I/O error", vm=record.vm_name)

    def cleanup(self, vm_id: str) -> TestRecord:
        """Remove everything that the test made. Idempotent until it succeeded; Refused when there is nothing."""
        record = self.record(vm_id)
        if record is None:
            raise Refused("there is no test failover to clean up", subject=vm_id)
        self._host.destroy(record.tag)
        self._export(record).stop()
        if record.pin:
            # A pin that cannot be removed now expires by itself; cleanup must not hang on an absent vault.
            with contextlib.suppress(StoreError):
                self._vault.unpin(vm_id, record.pin)
        shutil.rmtree(self._folder / vm_id, ignore_errors=True)
        return record
