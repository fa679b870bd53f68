"""From what agents and database tell to what the API answers with. Pure."""

from __future__ import annotations

from datetime import datetime

from leeward.console.views import (
    HostView,
    ReplicaView,
    RunStepView,
    RunView,
    StatusView,
    StepView,
    TestView,
    VmView,
)
from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import UNDO_TELLS, Kind, steps
from leeward.domain.protection import ProtectionState
from leeward.domain.runs import Run, RunState, StepRecord, StepState
from leeward.state.lives import Life
from leeward.wire.messages import (
    CopyReport,
    HostReport,
    ProtectionMessage,
    ProtectionReport,
    ReplicaReport,
    StepMessage,
    VmMessage,
)
from leeward.wire.translate import utc_of, when


def host_view(host: HostReport, *, present: bool, trouble: str = "") -> HostView:
    error = host.error or ("" if present else "its agent does not answer")
    return HostView(
        name=host.name,
        site=host.site,
        uri=host.uri,
        reachable=not error,
        error=error,
        vms=len(host.vms),
        trouble=trouble,
    )


def vm_view(vm: VmMessage, *, protected: bool, copy: CopyReport | None) -> VmView:
    return VmView(
        id=vm.id,
        name=vm.name,
        host=vm.host,
        power=vm.power,
        memory_mib=vm.memory_mib,
        vcpus=vm.vcpus,
        disks=list(vm.disks),
        protected=protected,
        unsupported=f"a test copy of {copy.vm_name}" if copy else vm.unsupported,
        lacks=list(vm.lacks),
    )


def status_view(
    wish: ProtectionMessage,
    report: ProtectionReport | None,
    vm: VmMessage | None,
    test: CopyReport | None,
    life: Life | None,
    replica: ReplicaReport | None = None,
    elsewhere: str = "",
) -> StatusView:
    """elsewhere: what a host that keeps this VM off has to say of it."""
    gone = "" if vm else "the VM is not on its host now"
    phase = life.phase if life else Phase.HOME
    return StatusView(
        vm=vm.name if vm else wish.vm_name,
        vm_id=wish.vm_id,
        host=wish.host,
        state=report.state if report else ProtectionState.REPLICATING,
        reason=(report.reason if report else "starting") or gone or elsewhere,
        progress=report.progress if report else None,
        rpo_target_s=wish.policy.rpo_s,
        rpo_actual_s=report.rpo_actual_s if report else None,
        verified_at=report.verified_at if report else None,
        last_point=report.last_point if report else None,
        failover_possible=phase is Phase.HOME and bool(report and report.failover_possible),
        policy=wish.policy,
        cycles=report.cycles if report else 0,
        last_cycle_ms=report.last_cycle_ms if report else None,
        last_cycle_bytes=report.last_cycle_bytes if report else 0,
        sent_bytes=report.sent_bytes if report else 0,
        spool_bytes=report.spool_bytes if report else 0,
        marked_at=report.marked_at if report else None,
        test_failover=test.copy_name if test else None,
        replica=_replica_view(wish, replica, report),
        **_whereabouts(life, wish.host),
    )


def _replica_view(
    wish: ProtectionMessage, replica: ReplicaReport | None, report: ProtectionReport | None
) -> ReplicaView | None:
    host = wish.policy.warm
    if host in ("", wish.host):
        return None
    if replica is None:
        reason = f"the agent of {host} has not told of it"
        return ReplicaView(
            host=host, point=None, time=None, lag_s=None, state="unknown", reason=reason, bytes=0, fraction=0.0
        )
    newest = report.last_point if report else None
    return ReplicaView(
        host=host,
        point=replica.point or None,
        time=replica.time or None,
        lag_s=_between(replica.time, newest.time) if newest and replica.time else None,
        state=replica.state.value,
        reason=replica.reason,
        bytes=replica.bytes,
        fraction=replica.fraction,
    )


def _between(earlier: str, later: str) -> float:
    """Seconds, never less than 0: the replica may have heard of the newest point before we did."""
    return max(0.0, round((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds(), 3))


def disabled_view(vm: VmMessage, test: CopyReport | None, life: Life | None) -> StatusView:
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
        sent_bytes=0,
        spool_bytes=0,
        marked_at=None,
        test_failover=test.copy_name if test else None,
        replica=None,
        **_whereabouts(life, vm.host),
    )


def _whereabouts(life: Life | None, host: str) -> dict[str, str]:
    if life is None:
        return {"phase": Phase.HOME.value, "home": host, "away": ""}
    return {"phase": life.phase.value, "home": life.home, "away": life.away}


def test_view(run: Run | None, copy: CopyReport | None) -> TestView:
    """A test as its run and the copy's host tell it; at least one of them is there."""
    failed = run.failure if run else ""
    if copy is None:
        assert run is not None
        shown = [_step(record) for record in run.steps]
        return TestView(
            vm=run.vm_name,
            vm_id=run.vm_id,
            point=run.point,
            copy_name="",
            host=run.away,
            network="",
            steps=shown,
            evidence={},
            hydrated=False,
            done=run.over or run.state is RunState.STALLED,
            failed=failed,
        )
    return TestView(
        vm=copy.vm_name,
        vm_id=copy.vm_id,
        point=copy.point,
        copy_name=copy.copy_name,
        host=copy.host,
        network=copy.network,
        steps=[_step_message(step) for step in copy.steps],
        evidence=copy.evidence,
        hydrated=copy.hydrated,
        done=run is None or run.over or run.state is RunState.STALLED,
        failed=copy.failed or failed,
    )


def _step(record: StepRecord) -> StepView:
    return StepView(
        name=record.name,
        state=record.state.value,
        started=record.started,
        seconds=_seconds(record),
        detail=record.detail,
    )


def _step_message(step: StepMessage) -> StepView:
    return StepView(name=step.name, state=step.state, started=step.started, seconds=step.seconds, detail=step.detail)


def _seconds(record: StepRecord) -> float | None:
    if record.started is None or record.ended is None:
        return None
    return round(record.ended - record.started, 3)


def run_view(run: Run, phase: Phase) -> RunView:
    tells = {step.name: step.tells for step in steps(run.kind)}
    return RunView(
        id=run.id,
        vm=run.vm_name,
        vm_id=run.vm_id,
        kind=run.kind.value,
        state=run.state.value,
        phase=phase.value,
        home=run.home,
        away=run.away,
        point="" if run.kind in (Kind.COMMIT, Kind.FINISH) else _point_of(run),
        by=run.by,
        created=utc_of(run.created),
        ended=when(run.ended),
        steps=[_run_step(record, tells, run.over) for record in run.steps],
        undo=[_run_step(record, UNDO_TELLS, run.over) for record in run.undo],
        reversible=run.reversible,
        cancelling=run.cancel,
        failure=run.failure,
        rto_s=rto_of(run),
    )


def _point_of(run: Run) -> str:
    found = (run.result(step).get("point") for step in ("build", "epoch", "last-cycle-away", "epoch-home"))
    return str(next((point for point in found if point), run.point))


def _run_step(record: StepRecord, tells: dict[str, str], over: bool) -> RunStepView:
    # Of a run that turned round in the middle of a step nothing is under way any more: it came to nothing.
    left = over and record.state is StepState.RUNNING
    return RunStepView(
        name=record.name,
        tells=tells.get(record.name, record.name),
        state=(StepState.WAITING if left else record.state).value,
        started=record.started,
        seconds=_seconds(record),
        detail=record.detail,
    )


def rto_of(run: Run) -> float | None:
    """From the request to a guest that has come up."""
    for record in run.steps:
        if record.name in ("boot", "boot-home") and record.state is StepState.DONE and record.ended:
            return round(record.ended - run.created, 2)
    return None
