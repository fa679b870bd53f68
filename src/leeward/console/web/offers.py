"""What the form of a failover offers beside the point in time, each where it means something. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leeward.console.views import ReplicaView, RunView, StatusView
from leeward.console.web.phrases import N_, Phrase, Quote, phrase
from leeward.console.web.possible import warm
from leeward.console.web.vault_door import VaultState
from leeward.domain.consistency import Choice
from leeward.domain.points import RecoveryPoint
from leeward.domain.procedures import Kind
from leeward.domain.runs import RunState


@dataclass(frozen=True, slots=True)
class Group:
    """name: of the VM's consistency group. about: the instant to which the VM goes back by itself, or why there is
    none to be chosen. at: UTC seconds, None where there is none. late: why somebody has to decide, None when nobody
    has."""

    name: str
    about: Quote | Phrase
    at: float | None = None
    late: Quote | None = None


@dataclass(frozen=True, slots=True)
class Offers:
    """group: None where the VM has none, or this kind does not ask. decline: a warm replica that may be left unused.
    alone: one from which the VM can be started while the vault is away. away: the vault is."""

    group: Group | None = None
    decline: ReplicaView | None = None
    alone: ReplicaView | None = None
    away: bool = False


def offers(
    kind: Kind,
    status: StatusView,
    points: Sequence[RecoveryPoint],
    *,
    away: bool,
    newest: bool,
    instant: Choice | None,
) -> Offers:
    """newest: the newest point is wanted. instant: what the VM's group agrees on; None: nobody can be asked."""
    if kind not in (Kind.PLANNED, Kind.UNPLANNED):
        return Offers(away=away)
    replica = warm(status)
    if kind is Kind.PLANNED:
        return Offers(decline=None if away else replica, away=away)
    name = status.policy.group if status.policy and newest else ""
    group = _group(name, status.vm_id, points, instant) if name else None
    return Offers(group, None if away else replica, replica if away else None, away)


def _group(name: str, vm_id: str, points: Sequence[RecoveryPoint], instant: Choice | None) -> Group | None:
    """None: nobody is left in it to agree with."""
    if instant is None:
        return Group(name, phrase(N_("The vault cannot be asked for an instant of its group.")))
    if not instant.note:
        return None
    late = Quote(instant.late) if instant.late else None
    at = next((point.time_ns / 1e9 for point in points if point.id == instant.points.get(vm_id)), None)
    return Group(name, Quote(instant.note), at, late)


def newest_of(instant: str) -> bool | None:
    """The form's field, as a request tells it (see `FailoverRequest`)."""
    return {"newest": True, "common": False}.get(instant)


def alone(run: RunView, status: StatusView | None, vault: VaultState) -> ReplicaView | None:
    """The warm replica out of which a run that has stalled can go on without the vault."""
    if run.kind != Kind.UNPLANNED or run.state != RunState.STALLED or vault is VaultState.OPEN or status is None:
        return None
    return warm(status)
