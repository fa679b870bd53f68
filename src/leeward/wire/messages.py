"""Messages between console and agent, version 1.

The console sends *desired state* (what is to be protected, how) with a generation; the agent persists it, works on
by itself and answers with *reports* (facts). Both are complete each time: losing one loses nothing.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from leeward.domain.protection import ProtectionState, ReplicaState
from leeward.domain.vm import Consistency, Power

# An agent and a console of different versions refuse each other in plain words, and the agent replicates on. To be
# raised with every change of what they say to each other: messages, kinds of jobs, a job's arguments and results.
WIRE_VERSION = 5
# Agents of this version are understood as well: what they cannot say has a default, and nothing that they do not know
# is said to them.
OLDEST_VERSION = 3
CENTURY_S = 100 * 366 * 86_400.0  # longer than anybody means; keeps times within what clocks and databases hold


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyMessage(Message):
    """See `leeward.domain.protection.Policy`; times in seconds, bandwidth in bytes a second (0 = none)."""

    rpo_s: float = Field(default=5.0, ge=1, le=86_400)
    retain_s: float = Field(default=86_400.0, ge=60, le=CENTURY_S)
    hourly_s: float = Field(default=0.0, ge=0, le=CENTURY_S)
    daily_s: float = Field(default=0.0, ge=0, le=CENTURY_S)
    app_interval_s: float = Field(default=3_600.0, ge=0, le=CENTURY_S)
    bandwidth: int = Field(default=0, ge=0, le=1 << 50)
    warm: str = Field(default="", max_length=255)
    group: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    group_s: float = Field(default=60.0, ge=5, le=86_400)


class ProtectionMessage(Message):
    """One VM that is to be protected. paused: keep what is there, replicate nothing.

    claim: the epoch of the VM's log that the console saw when it gave this wish (0: none yet). An agent that does not
    reign there already may begin the next epoch after just this one, and no other: a wish from before a failover
    never takes a VM back.
    """

    vm_id: str
    vm_name: str
    host: str
    policy: PolicyMessage = PolicyMessage()
    paused: bool = False
    claim: int = 0


class StandDownMessage(Message):
    """A VM of this agent's host that must stay off, because it runs elsewhere; what is on its host is kept.

    recovered: it was made there out of a recovery point, and is to be removed: then there is nothing to keep off.
    """

    vm_id: str
    vm_name: str
    host: str
    reason: str
    recovered: bool = False


class ReplicaMessage(Message):
    """A VM of which this agent's host is to keep a warm replica. rpo_s, bandwidth: of its policy."""

    vm_id: str
    vm_name: str
    host: str
    rpo_s: float = 5.0
    bandwidth: int = 0


class DesiredState(Message):
    """Everything one agent is to protect, keep off or keep warm. An agent ignores a generation older than the one it
    holds."""

    version: int = WIRE_VERSION
    generation: int
    protections: tuple[ProtectionMessage, ...] = ()
    standdowns: tuple[StandDownMessage, ...] = ()
    replicas: tuple[ReplicaMessage, ...] = ()


class PlaceMessage(Message):
    """Where the vault is and with which credentials it is opened, for an agent whose own configuration does not say.
    See `leeward.vault.place.Place`; never a folder, which would be another one on each machine."""

    revision: int
    url: str = Field(pattern="^(s3|azure|az)://")
    options: dict[str, str | bool] = Field(default_factory=dict, repr=False)


class DiskMessage(Message):
    name: str
    size: int


class MarkMessage(Message):
    """See `leeward.domain.points.Mark`; `time` is UTC, ISO 8601 with microseconds."""

    id: str
    group: str
    time: str
    members: tuple[str, ...]


class PointMessage(Message):
    """One recovery point; `time` is UTC, ISO 8601 with microseconds; bytes: what it added to the vault. mark: the
    instant of its consistency group, if it is of one."""

    id: str
    time: str
    consistency: Consistency
    disks: tuple[DiskMessage, ...]
    bytes: int
    epoch: int
    mark: MarkMessage | None = None


class ProgressMessage(Message):
    """See `leeward.domain.progress.Progress`; fraction 0 … 1."""

    phase: str
    done: int
    total: int
    sent: int
    rate: float
    eta_s: float | None
    fraction: float


class ProtectionReport(Message):
    """What the agent knows of one protected VM now.

    rpo_actual_s: age of the newest instant that the vault can bring back (None: there is none). verified_at: UTC of
    the last cycle that found the vault current, with or without changes. tracking: incremental | full, why.
    marked_at: UTC of the newest point in the vault with a mark of its consistency group, of those that the agent has
    made or sent since its start.
    cycles, sent_bytes: since then as well; what those cycles brought into the vault or the spool.
    """

    vm_id: str
    state: ProtectionState
    reason: str
    progress: ProgressMessage | None
    rpo_target_s: float
    rpo_actual_s: float | None
    verified_at: str | None
    last_point: PointMessage | None
    failover_possible: bool
    cycles: int = 0
    last_cycle_ms: float | None = None
    last_cycle_bytes: int = 0
    sent_bytes: int = 0
    spool_bytes: int = 0
    marked_at: str | None = None


class VmMessage(Message):
    """One VM of a host. unsupported: why it cannot be protected, "" when it can. lacks: what no copy of it will
    have."""

    id: str
    name: str
    host: str
    power: Power
    disks: tuple[DiskMessage, ...]
    memory_mib: int
    vcpus: int
    unsupported: str
    lacks: tuple[str, ...] = ()


class HostReport(Message):
    """One host as its agent sees it. error: why it cannot be reached, "" when it can.

    free: bytes of room for recovered VMs, rounded down so that it is seldom news; None where there is none for them.
    """

    name: str
    site: str
    uri: str
    error: str
    vms: tuple[VmMessage, ...]
    free: int | None = None


class StepMessage(Message):
    """state: waiting | running | done | failed. started: UTC seconds; seconds: how long it took."""

    name: str
    state: str
    started: float | None = None
    seconds: float | None = None
    detail: str = ""


class CopyReport(Message):
    """A VM that was made out of a recovery point and runs (or is to run) on an agent's host.

    purpose: test (apart from everything) or failover. copy_id, copy_name: of the VM that was made. network: what it
    hangs on. hydrated: it needs the vault no longer. evidence: what was seen of its boot. replica: its disks are
    those of a warm replica.
    """

    vm_id: str
    vm_name: str
    purpose: str
    point: str
    copy_id: str
    copy_name: str
    host: str
    network: str
    steps: tuple[StepMessage, ...]
    evidence: dict[str, Any]
    hydrated: bool
    failed: str
    replica: bool = False


class ReplicaReport(Message):
    """A warm replica on an agent's host. point, time: of the recovery point that it holds, "" while it is not whole.

    epoch: the newest of the VM's log that was seen, when its images were last looked at. moved_to: the host to which
    the VM had moved by then, "" when it never did. bytes: that its images take. fraction: of a first copy, 0 … 1.
    """

    vm_id: str
    host: str
    state: ReplicaState
    reason: str = ""
    point: str = ""
    time: str = ""
    epoch: int = 0
    moved_to: str = ""
    bytes: int = 0
    fraction: float = 0.0


class StandDownReport(Message):
    """A VM that this agent keeps off. running: it runs all the same (just now, or since it cannot be stopped)."""

    vm_id: str
    vm_name: str
    host: str
    reason: str
    running: bool = False
    note: str = ""


class AgentReport(Message):
    """place: why the agent cannot use the vault's place that the console told it, and what to do; "" when it can."""

    version: int = WIRE_VERSION
    agent: str
    generation: int
    time: str
    protections: tuple[ProtectionReport, ...]
    copies: tuple[CopyReport, ...] = ()
    standdowns: tuple[StandDownReport, ...] = ()
    replicas: tuple[ReplicaReport, ...] = ()
    place: str = ""
