"""What the console can do, independent of how it is asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import structlog
from pydantic import ValidationError

from leeward.console.views import HostView, ProtectRequest, StatusView, StepView, TestView, VmView
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.domain.protection import ProtectionState
from leeward.recovery.copies import Copies
from leeward.recovery.records import CopyRecord, Purpose
from leeward.state.database import Database
from leeward.vault.facade import Vault
from leeward.wire.messages import (
    AgentReport,
    DesiredState,
    HostReport,
    PolicyMessage,
    ProtectionMessage,
    ProtectionReport,
    VmMessage,
)

log = structlog.get_logger(__name__)

CATALOG = "catalog"  # the vault's document that lets a recovery site know a VM by name


class AgentLink(Protocol):
    """An agent as the console sees it: in this process, or far away."""

    def apply(self, desired: DesiredState) -> None: ...
    def report(self) -> AgentReport: ...
    def hosts(self) -> list[HostReport]: ...


class Service:
    """`tests`: where test failovers run; None without a recovery host. open_vault: raises while there is no key."""

    def __init__(
        self,
        database: Database,
        agent: AgentLink,
        vault: VaultOpener,
        tests: DrillOpener,
        recovery: Sequence[HostView],
    ) -> None:
        self._database = database
        self._agent = agent
        self._vault = vault
        self._tests = tests
        self._recovery = recovery
        self._running: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    # --- looking ------------------------------------------------------------------------------------

    def hosts(self) -> list[HostView]:
        found = [
            HostView(
                name=host.name,
                site=host.site,
                uri=host.uri,
                reachable=not host.error,
                error=host.error,
                vms=len(host.vms),
            )
            for host in self._agent.hosts()
        ]
        return found + list(self._recovery)

    def vms(self) -> list[VmView]:
        protected = {wish.vm_id for wish in self._database.desired().protections}
        return [
            VmView(
                id=vm.id,
                name=vm.name,
                host=vm.host,
                power=vm.power,
                memory_mib=vm.memory_mib,
                vcpus=vm.vcpus,
                disks=list(vm.disks),
                protected=vm.id in protected,
                unsupported=vm.unsupported,
            )
            for vm in self._all_vms()
        ]

    def _all_vms(self) -> list[VmMessage]:
        return [vm for host in self._agent.hosts() for vm in host.vms]

    def status(self, ref: str | None = None) -> list[StatusView]:
        """Of one VM, or of all: protected ones first as they were made known, then the others as disabled."""
        wishes = {wish.vm_id: wish for wish in self._database.desired().protections}
        reports = {report.vm_id: report for report in self._agent.report().protections}
        tests = {record.vm_id: record.copy_name for record in self._tests.existing()}
        present = {vm.id: vm for vm in self._all_vms()}
        views = [
            _status(wish, reports.get(vm_id), present.get(vm_id), tests.get(vm_id)) for vm_id, wish in wishes.items()
        ]
        views += [_disabled(vm, tests.get(vm.id)) for vm_id, vm in present.items() if vm_id not in wishes]
        if ref is None:
            return sorted(views, key=lambda view: (view.vm, view.vm_id))
        vm_id = self._resolve(ref)
        return [view for view in views if view.vm_id == vm_id]

    def _resolve(self, ref: str) -> str:
        """A VM's id from its name or id. Raises NotFound, or BadInput when a name is not unique."""
        names = {wish.vm_id: wish.vm_name for wish in self._database.desired().protections}
        names |= {vm.id: vm.name for vm in self._all_vms()}
        if ref.lower() in names:
            return ref.lower()
        found = [vm_id for vm_id, name in names.items() if name == ref]
        if len(found) > 1:
            raise BadInput(
                f"{len(found)} VMs have this name: {', '.join(sorted(found))}", subject=ref, hint="Use the id"
            )
        if not found:
            known = ", ".join(sorted(set(names.values()))) or "none"
            raise NotFound("there is no such VM", subject=ref, hint=f"Known: {known}")
        return found[0]

    def events(self, limit: int) -> list[dict[str, str]]:
        return self._database.events(limit)

    # --- protecting ---------------------------------------------------------------------------------

    def protect(self, ref: str, request: ProtectRequest) -> StatusView:
        vm_id = self._resolve(ref)
        known = {wish.vm_id: wish for wish in self._database.desired().protections}.get(vm_id)
        present = {vm.id: vm for vm in self._all_vms()}.get(vm_id)
        if present is not None and present.unsupported:
            raise Refused(f"it cannot be protected: {present.unsupported}", subject=present.name)
        policy = _policy(known.policy if known else PolicyMessage(), request, ref)
        if present is not None:
            wish = ProtectionMessage(vm_id=vm_id, vm_name=present.name, host=present.host, policy=policy)
        elif known is not None:
            wish = known.model_copy(update={"policy": policy, "paused": False})
        else:
            raise NotFound("there is no such VM", subject=ref)
        # Without the vault's key nothing could ever be replicated: say so now, not in a state that stays red.
        vault = self._vault.open()
        vault.put_document(vm_id, CATALOG, {"name": wish.vm_name, **wish.model_dump(mode="json")})
        self._agent.apply(self._database.protect(wish))
        self._database.record("protect", wish.vm_name, policy.model_dump_json())
        return self.status(vm_id)[0]

    def set_paused(self, ref: str, paused: bool) -> StatusView:
        wish = self._protected(ref)
        self._agent.apply(self._database.protect(wish.model_copy(update={"paused": paused})))
        self._database.record("pause" if paused else "resume", wish.vm_name)
        return self.status(wish.vm_id)[0]

    def unprotect(self, ref: str) -> None:
        """Stop replicating. Recovery points stay in the vault."""
        wish = self._protected(ref)
        if self._tests.record(wish.vm_id) is not None:
            raise Refused(
                "a test failover of it exists",
                subject=wish.vm_name,
                hint=f"Remove it first with `leeward failover cleanup {wish.vm_name}`",
            )
        self._agent.apply(self._database.unprotect(wish.vm_id))
        self._database.record("unprotect", wish.vm_name)

    def _protected(self, ref: str) -> ProtectionMessage:
        vm_id = self._resolve(ref)
        for wish in self._database.desired().protections:
            if wish.vm_id == vm_id:
                return wish
        raise Refused("it is not protected", subject=ref, hint=f"Protect it with `leeward protect {ref}`")

    # --- test failover ------------------------------------------------------------------------------

    def start_test(self, ref: str, point: str) -> TestView:
        """Begin in the background; look at it with `test`."""
        vm_id, name = self._known(ref)
        tests = self._tests.open()
        with self._lock:
            running = self._running.get(vm_id)
            if running is not None and running.is_alive():
                raise Refused("a test failover of it is just being started", subject=name)
            if tests.record(vm_id, Purpose.TEST) is None:
                self._vault.open().log(vm_id).point(point)  # an unknown point is refused before anything is made
            begun = threading.Event()
            thread = threading.Thread(
                target=self._run_test, args=(tests, vm_id, name, point, begun), name=f"test-{name}", daemon=True
            )
            failure: list[LeewardError] = []
            thread.failure = failure  # type: ignore[attr-defined]
            self._running[vm_id] = thread
            thread.start()
        begun.wait(30)
        if failure:
            raise failure[0]
        self._database.record("test failover", name, f"point {point}")
        return self.test(vm_id)

    def _run_test(self, tests: Copies, vm_id: str, name: str, point: str, begun: threading.Event) -> None:
        try:
            tests.rehearse(vm_id, name, point, on_step=lambda record: begun.set())
        except LeewardError as error:
            log.warning("test failover failed", vm=name, error=str(error))
            if not begun.is_set():
                threading.current_thread().failure.append(error)  # type: ignore[attr-defined]
        finally:
            begun.set()

    def _known(self, ref: str) -> tuple[str, str]:
        """(id, name) of a VM that hosts, state or the vault know."""
        try:
            vm_id = self._resolve(ref)
        except NotFound:
            return find_in_vault(self._vault.open(), ref)
        names = {vm.id: vm.name for vm in self._all_vms()}
        names |= {wish.vm_id: wish.vm_name for wish in self._database.desired().protections}
        return vm_id, names.get(vm_id, vm_id)

    def test(self, ref: str) -> TestView:
        vm_id, name = self._known(ref)
        record = self._tests.record(vm_id)
        if record is None:
            raise Refused(
                "there is no test failover of it", subject=name, hint=f"Start one: `leeward failover test {name}`"
            )
        return _test_view(record)

    def tests(self) -> list[TestView]:
        return [_test_view(record) for record in self._tests.existing()]

    def cleanup_test(self, ref: str) -> TestView:
        vm_id, name = self._known(ref)
        running = self._running.get(vm_id)
        if running is not None and running.is_alive():
            raise Refused("the test failover is just being started", subject=name, hint="Wait until it is up")
        if self._tests.record(vm_id) is None:
            raise Refused("there is no test failover of it to clean up", subject=name)
        record = self._tests.open().discard(vm_id, Purpose.TEST)
        if record is None:
            raise Refused("there is no test failover of it to clean up", subject=name)
        self._database.record("test failover cleaned up", name, f"point {record.point_id}")
        return _test_view(record)


class VaultOpener(Protocol):
    """The vault, opened when it is first needed."""

    def open(self) -> Vault: ...


class DrillOpener(Protocol):
    """Test failovers: reading their records needs no vault, starting one does."""

    def open(self) -> Copies: ...
    def record(self, vm_id: str) -> CopyRecord | None: ...
    def existing(self) -> list[CopyRecord]: ...


def find_in_vault(vault: Vault, ref: str) -> tuple[str, str]:
    """(id, name) of a VM by its name or id in the vault's catalog. Raises NotFound, BadInput."""
    names = {}
    for vm_id in vault.vm_ids():
        catalog = vault.document(vm_id, CATALOG) or {}
        names[vm_id] = str(catalog.get("name") or vm_id)
    if ref.lower() in names:
        return ref.lower(), names[ref.lower()]
    found = [vm_id for vm_id, name in names.items() if name == ref]
    if len(found) > 1:
        raise BadInput(
            f"the vault has {len(found)} VMs of this name: {', '.join(found)}", subject=ref, hint="Use the id"
        )
    if not found:
        known = ", ".join(sorted(names.values())) or "none"
        raise NotFound("the vault has no such VM", subject=ref, hint=f"It has: {known}")
    return found[0], ref


def _policy(base: PolicyMessage, request: ProtectRequest, ref: str) -> PolicyMessage:
    wanted = {name: value for name, value in request.model_dump().items() if value is not None}
    try:
        return PolicyMessage.model_validate(base.model_dump() | wanted)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{name} = {first['input']}: {first['msg'].lower()}", subject=ref) from None


def _status(
    wish: ProtectionMessage, report: ProtectionReport | None, vm: VmMessage | None, test: str | None
) -> StatusView:
    gone = "" if vm else "the VM is not on its host now"
    return StatusView(
        vm=vm.name if vm else wish.vm_name,
        vm_id=wish.vm_id,
        host=wish.host,
        state=report.state if report else ProtectionState.REPLICATING,
        reason=(report.reason if report else "starting") or gone,
        progress=report.progress if report else None,
        rpo_target_s=wish.policy.rpo_s,
        rpo_actual_s=report.rpo_actual_s if report else None,
        verified_at=report.verified_at if report else None,
        last_point=report.last_point if report else None,
        failover_possible=bool(report and report.failover_possible),
        policy=wish.policy,
        cycles=report.cycles if report else 0,
        last_cycle_ms=report.last_cycle_ms if report else None,
        last_cycle_bytes=report.last_cycle_bytes if report else 0,
        spool_bytes=report.spool_bytes if report else 0,
        test_failover=test,
    )


def _disabled(vm: VmMessage, test: str | None) -> StatusView:
    return StatusView(
        vm=vm.name,
        vm_id=vm.id,
        host=vm.host,
        state=ProtectionState.DISABLED,
        reason=f"cannot be protected: {vm.unsupported}" if vm.unsupported else "not protected",
        progress=None,
        rpo_target_s=None,
        rpo_actual_s=None,
        verified_at=None,
        last_point=None,
        failover_possible=False,
        policy=None,
        cycles=0,
        last_cycle_ms=None,
        last_cycle_bytes=0,
        spool_bytes=0,
        test_failover=test,
    )


def _test_view(record: CopyRecord) -> TestView:
    steps = [
        StepView(name=s.name, state=s.state, started=s.started, seconds=s.seconds, detail=s.detail)
        for s in record.steps
    ]
    return TestView(
        vm=record.vm_name,
        vm_id=record.vm_id,
        point=record.point_id,
        copy_name=record.copy_name,
        host=record.host,
        network=record.network,
        steps=steps,
        evidence=record.evidence,
        hydrated=record.hydrated,
        done=bool(record.failed) or record.steps[-1].state == "done",
        failed=record.failed,
    )
