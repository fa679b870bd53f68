"""What the API answers with. `docs/cli.md` documents these shapes; the CLI's --json prints them as they are."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from leeward.domain.protection import ProtectionState
from leeward.domain.vm import Consistency, Power
from leeward.wire.messages import DiskMessage, PointMessage, PolicyMessage, ProgressMessage


class HostView(BaseModel):
    """error: why it cannot be reached. trouble: why its agent cannot use the vault's place that this console told it,
    and what to do. Both "" when all is well."""

    name: str
    site: str
    uri: str
    reachable: bool
    error: str
    vms: int
    trouble: str = ""


class VmView(BaseModel):
    """protected: whether a policy exists. unsupported: why the VM cannot be protected, "" when it can. lacks: what no
    copy of it will have, in words."""

    id: str
    name: str
    host: str
    power: Power
    memory_mib: int
    vcpus: int
    disks: list[DiskMessage]
    protected: bool
    unsupported: str
    lacks: list[str] = []


class ReplicaView(BaseModel):
    """A warm replica. state: copying, warm, behind, taken, error, or unknown while its host has not told; reason: why
    it does not follow. point, time: that it holds, None while it is not whole. lag_s: how much older that is than the
    newest point that is known. bytes: that its images take. fraction: of a first copy, 0 … 1."""

    host: str
    point: str | None
    time: str | None
    lag_s: float | None
    state: str
    reason: str
    bytes: int
    fraction: float


class StatusView(BaseModel):
    """One VM. Ages and targets in seconds; None where there is nothing to tell.

    replica: None where the policy wants none, or where the VM runs. host: where it is protected. phase: where it
    stands between its sites (docs/failover.md); home, away: their hosts.
    marked_at: the newest instant of its consistency group that its agent has brought into the vault since it was
    started; cycles, sent_bytes: also since then.
    """

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
    sent_bytes: int
    spool_bytes: int
    marked_at: str | None
    test_failover: str | None
    replica: ReplicaView | None
    phase: str
    home: str
    away: str

    def aged(self, passed: float) -> StatusView:
        """The same, so many seconds later."""
        if self.rpo_actual_s is None or passed <= 0:
            return self
        # Of ten thousand VMs twice a second: model_copy takes ten times as long.
        made = StatusView.__new__(StatusView)
        object.__setattr__(made, "__dict__", self.__dict__ | {"rpo_actual_s": self.rpo_actual_s + passed})
        for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
            object.__setattr__(made, name, getattr(self, name))
        return made


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


class ProofView(BaseModel):
    """One look at the guest of a test. what: agent, or as a plan's check says it, like "http 80 /health"."""

    what: str
    passed: bool
    detail: str


class EvidenceView(BaseModel):
    """What one test failover has shown. outcome: under-way, passed, unproven (it runs, and has nothing that could be
    asked), failed, undone. plan: that began it, "" for none. rto_s: from the request until the guest answered; rpo_s:
    how old the point was at the request. picture_bytes: 0 when there is no picture of its screen; no_picture: why."""

    run: str
    vm: str
    vm_id: str
    time: str
    ended: str | None
    by: str
    plan: str
    host: str
    copy_name: str
    point: str
    point_time: str | None
    outcome: str
    failure: str
    checks: list[ProofView]
    rto_s: float | None
    rpo_s: float | None
    rpo_target_s: float | None
    picture_bytes: int
    no_picture: str


class DrillRequest(BaseModel):
    """every_s: between good tests. mode: warn (only tell when one is due) or run (also run it). window: time of the
    day in which it is run, the console's local time, like 22:00-04:00; "" at any time. keep_s: how long the copy
    stays."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    every_s: float
    mode: Literal["warn", "run"] = "warn"
    window: str = Field(default="", max_length=32)
    keep_s: float = 600.0


class DrillView(BaseModel):
    """A schedule, as DrillRequest, of a VM or of a plan's test run: of the one the names of the other are "". vm_ids:
    of the VM, or of all that the plan has. last_good: end of the last good test, whoever asked for it. next_due: when
    the next one is due; overdue: it is. last_drill, last_outcome, last_run: of the last one that was run by itself;
    outcome: as in EvidenceView, "" while it is under way, or there was none."""

    plan: str
    vm: str
    vm_id: str
    vm_ids: list[str]
    every_s: float
    mode: str
    window: str
    keep_s: float
    last_good: str | None
    next_due: str
    overdue: bool
    last_drill: str | None
    last_outcome: str
    last_run: str


class ProtectRequest(BaseModel):
    """Only what is given changes; a new protection takes the rest from the defaults.

    warm: host that is to keep a warm replica; true lets it be the first recovery host, false ends it.
    group: name of a consistency group, "" to leave it. group_s: of the group, so of all its VMs.
    past_damage: go on behind a log that cannot be read to its end; who asks for it says that the VM runs nowhere
    else.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    rpo_s: float | None = None
    retain_s: float | None = None
    hourly_s: float | None = None
    daily_s: float | None = None
    app_interval_s: float | None = None
    bandwidth: int | None = None
    warm: bool | str | None = None
    group: str | None = None
    group_s: float | None = None
    past_damage: bool = False


class TestRequest(BaseModel):
    __test__ = False
    model_config = ConfigDict(extra="forbid")

    point: str = "latest"


class RunStepView(BaseModel):
    """tells: what the step does, for people. The rest as in StepView."""

    name: str
    tells: str
    state: str
    started: float | None
    seconds: float | None
    detail: str


class RunView(BaseModel):
    """One run of a procedure (docs/failover.md). point: what was asked for; the point's id once it is known; ""
    of a commit, which means none.

    reversible: it can still be taken back. rto_s: from the request until the guest had come up.
    """

    id: str
    vm: str
    vm_id: str
    kind: str
    state: str
    phase: str
    home: str
    away: str
    point: str
    by: str
    created: str
    ended: str | None
    steps: list[RunStepView]
    undo: list[RunStepView]
    reversible: bool
    cancelling: bool
    failure: str
    rto_s: float | None


class FailoverRequest(BaseModel):
    """point: latest, app or an id. to: name of a recovery host. force: power the VM off when it does not shut down
    within timeout_s. networks: what the VM's NICs hang on there, like {"bridge:br0": "bridge:lan"}. newest: of a VM
    of a consistency group, true: its newest point; false: the instant at which the group agrees, however old; null:
    that instant, unless it is old (planned failovers always bring the newest data). from_vault: do not use a warm
    replica. without_vault: the operator has made sure that the VM is off at home, which a vault that cannot be
    reached cannot."""

    model_config = ConfigDict(extra="forbid")

    point: str = "latest"
    to: str | None = None
    force: bool | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=3600)
    networks: dict[str, str] | None = None
    from_vault: bool | None = None
    without_vault: bool | None = None
    newest: bool | None = None


class LossRequest(BaseModel):
    """What is about to be asked for, as in FailoverRequest."""

    model_config = ConfigDict(extra="forbid")

    event: Literal["unplanned", "unplanned-failback"] = "unplanned"
    point: str = "latest"
    to: str | None = None
    from_vault: bool = False
    newest: bool | None = None


class LossView(BaseModel):
    """What the VM would be started from, and so what would be lost. point: the point's id. consistency: null where
    only a warm replica could be asked. age_s: how much time is lost. note: why it is not simply the point that was
    asked for. lossless: the site where it runs answers, so that a planned failover or failback, which loses nothing,
    would do."""

    vm: str
    vm_id: str
    point: str
    time: str
    consistency: Consistency | None
    age_s: float
    note: str
    lossless: bool


class FailbackRequest(BaseModel):
    """to: another host than the one it came from. unplanned: the recovery site is gone; point: then the one to go
    home with. The rest as in FailoverRequest."""

    model_config = ConfigDict(extra="forbid")

    unplanned: bool = False
    point: str = "latest"
    to: str | None = None
    force: bool | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=3600)


class RetryRequest(BaseModel):
    """What is to be otherwise this time. without_vault: as in FailoverRequest."""

    model_config = ConfigDict(extra="forbid")

    force: bool | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=3600)
    without_vault: bool | None = None
