"""Protection of one VM: its policy, and the state that a person sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Less than this a second, one block, is a unit that was left out: no cycle would ever come to its end.
LEAST_BANDWIDTH = 64 << 10


class ProtectionState(StrEnum):
    DISABLED = "disabled"
    REPLICATING = "replicating"  # the first copy is not complete; no failover
    ENABLED = "enabled"  # whole image and latest delta are in the vault
    RESYNCHRONIZING = "resynchronizing"  # tracking was lost; older points stay usable
    PAUSED = "paused"
    ERROR = "error"


class ReplicaState(StrEnum):
    """Of a warm replica. In WARM and BEHIND it could be failed over to at once."""

    COPYING = "copying"  # its images are not whole yet
    WARM = "warm"
    BEHIND = "behind"  # whole, but something keeps it from following
    TAKEN = "taken"  # a failover's VM has its images
    ERROR = "error"  # not whole, and something keeps it from becoming so


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants for one VM.

    rpo_s: target seconds between recovery points (1 … 86,400). retain_s: how long all
    points are kept. hourly_s, daily_s: for how long the newest point of each hour, of each day is kept; 0 = not.
    app_interval_s: seconds between application-consistent points; 0 = never.
    bandwidth: upload limit in bytes a second, and that of what a warm replica fetches; 0 = none. Not
    less than LEAST_BANDWIDTH is taken from an operator; a policy of before may have less.
    warm: host that keeps a warm replica; "" = none. group: name of the VM's consistency group, "" = none;
    group_s: seconds between two instants at which all VMs of the group have a point, the same for each of them.
    """

    rpo_s: float = 5.0
    retain_s: float = 86_400.0
    hourly_s: float = 0.0
    daily_s: float = 0.0
    app_interval_s: float = 3_600.0
    bandwidth: int = 0
    warm: str = ""
    group: str = ""
    group_s: float = 60.0
