"""What the API answers with. `docs/cli.md` documents these shapes; the CLI's --json prints them as they are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from leeward.domain.protection import ProtectionState
from leeward.domain.vm import Power
from leeward.wire.messages import DiskMessage, PointMessage, PolicyMessage, ProgressMessage


class HostView(BaseModel):
    name: str
    site: str
    uri: str
    reachable: bool
    error: str
    vms: int


class VmView(BaseModel):
    """protected: whether a policy exists. unsupported: why the VM cannot be protected, "" when it can."""

    id: str
    name: str
    host: str
    power: Power
    memory_mib: int
    vcpus: int
    disks: list[DiskMessage]
    protected: bool
    unsupported: str


class StatusView(BaseModel):
    """One VM. Ages and targets in seconds; None where there is nothing to tell."""

    vm: str
    vm_id: str
    host: str
    state: ProtectionState
    reason: str
    progress: ProgressMessage | None
    rpo_target_s: float | None
    rpo_actual_s: float | None
    verified_at: str | None
    last_point: PointMessage | None
    failover_possible: bool
    policy: PolicyMessage | None
    cycles: int
    last_cycle_ms: float | None
    last_cycle_bytes: int
    spool_bytes: int
    test_failover: str | None


class StepView(BaseModel):
    """state: waiting | running | done | failed. seconds: how long it took."""

    name: str
    state: str
    started: float | None
    seconds: float | None
    detail: str


class TestView(BaseModel):
    """A test failover. done: the last step ended, well or not; hydrated: the copy needs the vault no longer."""

    __test__ = False

    vm: str
    vm_id: str
    point: str
    copy_name: str
    host: str
    network: str
    steps: list[StepView]
    evidence: dict[str, Any]
    hydrated: bool
    done: bool
    failed: str


class ProtectRequest(BaseModel):
    """Only what is given changes; a new protection takes the rest from the defaults."""

    rpo_s: float | None = None
    retain_s: float | None = None
    hourly_s: float | None = None
    daily_s: float | None = None
    app_interval_s: float | None = None
    bandwidth: int | None = None


class TestRequest(BaseModel):
    __test__ = False

    point: str = "latest"
