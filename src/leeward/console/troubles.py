"""What is wrong, as one picture of everything shows it. The one place that decides it: alerts, metrics and the home
page ask here. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leeward.console.once import once
from leeward.console.views import DrillView, StatusView
from leeward.console.web.vault_door import VaultState
from leeward.domain.alerts import AlertKind, Trouble, key_of
from leeward.domain.drills import subject_of
from leeward.domain.protection import ProtectionState
from leeward.state.clock import seconds_of

if TYPE_CHECKING:
    from leeward.console.web.watch import Moment

# An actual RPO has clearly missed its target when it is this many times the target (and the agent's own patience is
# over).
_LATE_FACTOR, _LATE_S = 3.0, 10.0
# An alert of a full vault ends only when there is this much more room than it takes to raise one.
_FULL_BAND = 0.03
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """drill_s: how old the newest good test failover of a VM may be, 0 for no matter. full: which part of the vault's
    file system may be in use."""

    drill_s: float = 90 * 86_400.0
    full: float = 0.9


@dataclass(frozen=True, slots=True)
class StalledPlan:
    """A run of a plan that waits for a person."""

    run: str
    plan: str
    failure: str


@dataclass(frozen=True, slots=True)
class Troubles:
    """unknown: keys of which nothing can be said now."""

    found: tuple[Trouble, ...]
    unknown: frozenset[str]


def overdue_s(status: StatusView) -> float:
    """By how much the actual RPO is above its target; 0 when it is met or nobody counts."""
    if status.rpo_actual_s is None or status.rpo_target_s is None or status.state is ProtectionState.PAUSED:
        return 0.0
    return max(0.0, status.rpo_actual_s - status.rpo_target_s)


def late(status: StatusView) -> bool:
    """Whether the actual RPO has clearly missed its target, without waiting whether it stays so."""
    over, target = overdue_s(status), status.rpo_target_s
    return target is not None and over > max(target * _LATE_FACTOR, _LATE_S) - target


@once
def behind(moment: Moment) -> frozenset[str]:
    """Ids of the VMs that are late."""
    return frozenset(one.vm_id for one in moment.statuses if late(one))


@once
def undrilled(moment: Moment) -> list[StatusView]:
    """VMs that could be tested, and have not been since too long ago; one never tested counts from when it was
    protected. Those with a schedule of their own, or in a plan with one, are told by that."""
    if moment.limits.drill_s <= 0:
        return []
    oldest = moment.taken - moment.limits.drill_s
    lately = {vm_id for drill in moment.drills for vm_id in drill.vm_ids}
    for times in (moment.tested, moment.protected):
        lately |= {vm_id for vm_id, at in times.items() if at >= oldest}
    return [
        one for one in moment.statuses if one.policy is not None and one.failover_possible and one.vm_id not in lately
    ]


def troubles(moment: Moment, open_keys: Collection[str] = ()) -> Troubles:
    """open_keys: of alerts that are open; what ends an alert may be more than what does not raise one."""
    return Troubles(wrong(moment, open_keys), frozenset(_unknown(moment)))


def wrong(moment: Moment, open_keys: Collection[str] = ()) -> tuple[Trouble, ...]:
    """The same without what cannot be known."""
    return (
        *_vault(moment, open_keys),
        *_hosts(moment),
        *_runs(moment),
        *_vms(moment),
        *(Trouble(AlertKind.DRILL, one.vm_id, one.vm, host=one.host) for one in undrilled(moment)),
        *_drills(moment),
    )


def _drills(moment: Moment) -> Iterator[Trouble]:
    """By schedules. One that is run by itself has a day's time, since it may have to wait for its window."""
    for drill in moment.drills:
        late_s = moment.taken - seconds_of(drill.next_due)
        subject, name = (subject_of(drill.plan), drill.plan) if drill.plan else (drill.vm_id, drill.vm)
        if drill_failed(drill):
            yield Trouble(AlertKind.DRILL_FAILED, subject, name)
        elif late_s >= (_DAY_S if drill.mode == "run" else 0.0):
            yield Trouble(AlertKind.DRILL_DUE, subject, name)


def drill_failed(drill: DrillView) -> bool:
    """Its last one, and nobody has tested the VM or plan well since."""
    if drill.last_outcome not in ("failed", "undone") or drill.last_drill is None:
        return False
    return drill.last_good is None or drill.last_good < drill.last_drill


def _vault(moment: Moment, open_keys: Collection[str]) -> Iterator[Trouble]:
    if moment.vault is VaultState.AWAY:
        yield Trouble(AlertKind.VAULT, "", "")
    if moment.vault is VaultState.LOCKED:
        yield Trouble(AlertKind.VAULT_LOCKED, "", "")
    if moment.damaged:
        yield Trouble(AlertKind.VAULT_DAMAGED, "", "", f"{moment.damaged} damaged objects")
    if moment.room is not None:
        is_open = key_of(AlertKind.VAULT_FULL, "") in open_keys
        if moment.room.used >= moment.limits.full - (_FULL_BAND if is_open else 0.0):
            percent, free = int(moment.room.used * 100), moment.room.free / (1 << 30)
            yield Trouble(AlertKind.VAULT_FULL, "", "", f"{percent} % in use, {free:.1f} GiB free")


def _hosts(moment: Moment) -> Iterator[Trouble]:
    for host in moment.hosts:
        if not host.reachable:
            yield Trouble(AlertKind.HOST, host.name, host.name, host.error)
        elif host.trouble:
            yield Trouble(AlertKind.VAULT_PLACE, host.name, host.name, host.trouble)


def _runs(moment: Moment) -> Iterator[Trouble]:
    for run in moment.open_runs:
        if run.state == "stalled":
            yield Trouble(AlertKind.RUN, run.id, run.vm, run.failure)
    for plan in moment.stalled_plans:
        yield Trouble(AlertKind.PLAN, plan.run, plan.plan, plan.failure)


def _vms(moment: Moment) -> Iterator[Trouble]:
    answering = {host.name for host in moment.hosts if host.reachable}
    for one in moment.statuses:
        if one.policy is None:
            continue
        if one.state is ProtectionState.ERROR:
            yield Trouble(AlertKind.PROTECTION, one.vm_id, one.vm, one.reason, one.host)
        over = overdue_s(one)
        if over > 0:
            # A console that was away knows old news only until the agents have told it newer ones.
            held = over if one.host in answering else 0.0
            yield Trouble(AlertKind.RPO, one.vm_id, one.vm, one.reason, one.host, held)


def _unknown(moment: Moment) -> Iterator[str]:
    if moment.vault is VaultState.UNKNOWN:
        yield from (key_of(kind, "") for kind in (AlertKind.VAULT, AlertKind.VAULT_LOCKED))
    if moment.room is None and moment.vault is not VaultState.OPEN:
        yield key_of(AlertKind.VAULT_FULL, "")
    # What an agent that is silent has told last is old news.
    yield from (key_of(AlertKind.VAULT_PLACE, host.name) for host in moment.hosts if not host.reachable)
    for one in moment.statuses:
        if one.policy is not None and one.rpo_actual_s is None and one.state is not ProtectionState.PAUSED:
            yield key_of(AlertKind.RPO, one.vm_id)
