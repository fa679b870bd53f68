"""Checks of VMs that were brought up, as jobs for the agent of their host: its network reaches them. Pure."""

from __future__ import annotations

from leeward.domain.plan_rides import Seen
from leeward.domain.plan_runs import PlanRun, PlanStep, StepState
from leeward.domain.plans import Check, CheckKind, PlanKind
from leeward.wire.jobs import Job, JobKind, JobReport, JobState

# How long an agent may take to begin with a check and to tell of it, on top of the check's own time.
GRACE_S = 30.0


def check_job(run: PlanRun, step: PlanStep, host: str) -> Job:
    """The same for every try of this attempt, and another one after a retry."""
    check = run.check(step)
    return Job(
        id=f"{run.id}/{step.attempt}/{step.key}",
        kind=JobKind.PROBE,
        vm_id=check.vm_id,
        host=host,
        arguments={
            "purpose": "test" if run.kind is PlanKind.TEST else "failover",
            "kind": check.kind.value,
            "port": check.port,
            "path": check.path,
            "status": check.status,
            "address": check.address,
            "timeout_s": check.timeout_s,
        },
    )


def verdict(check: Check, report: JobReport | None, started: float, now: float, host: str) -> Seen:
    """What the agent's report means. started, now: UTC seconds."""
    if report is not None and report.failure is not None:
        return Seen(StepState.FAILED, report.failure.message)
    if report is not None and report.state is JobState.DONE:
        passed = bool(report.result.get("passed"))
        return Seen(StepState.DONE if passed else StepState.FAILED, str(report.result.get("detail", "")))
    if now - started > check.timeout_s + GRACE_S:
        return Seen(StepState.FAILED, f"the agent of {host} did not tell what came of it")
    return Seen(StepState.RUNNING, report.progress if report else f"waiting for the agent of {host}")


def tells(check: Check) -> str:
    """The check in words."""
    where = f" at {check.address}" if check.address else ""
    if check.kind is CheckKind.AGENT:
        return "its guest agent answers"
    if check.kind is CheckKind.TCP:
        return f"port {check.port} can be connected to{where}"
    return f"{check.path} on port {check.port} answers with status {check.status}{where}"
