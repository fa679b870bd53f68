"""Taking a host away that was added by clicks: what stands against it, and the deed.

Nothing of Leeward is left on a host that goes: no VM is replicated from it, kept off or made there, and no policy
counts on it. What does stand there is told all at once, each with what to do about it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from leeward.console.desk import Desk
from leeward.console.fleet import Fleet, FleetView
from leeward.domain.errors import NotFound, Refused
from leeward.domain.lifecycle import Phase
from leeward.domain.plan_runs import OPEN
from leeward.domain.runs import Run
from leeward.ports.recovery_provider import OwnMachine
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.wire.messages import CopyReport, ProtectionMessage


class Why(StrEnum):
    CONFIGURED = "configured"
    AGENT = "agent"
    RUN = "run"
    PLAN = "plan"
    MOVED = "moved"
    COPY = "copy"
    MADE = "made"
    PROTECTED = "protected"
    KEPT_OFF = "kept-off"
    WARM = "warm"
    REPLICA = "replica"


# What it is, and what to do about it, on a terminal. {names}: of all; {first}: of them.
_TOLD = {
    Why.CONFIGURED: ("it stands in {names}", "Take its [[host]] out there and start the console anew"),
    Why.AGENT: ("an agent on a machine of its own has it: {names}", "Revoke that: `leeward agents revoke {first}`"),
    Why.RUN: ("runs that need it are under way: {names}", "See `leeward failover show {first}`"),
    Why.PLAN: ("recovery plans are being run: {names}", "See `leeward plan show {first}`"),
    Why.MOVED: (
        "VMs were failed over from or to it: {names}",
        "Bring them home and commit that: `leeward failover failback {first}`",
    ),
    Why.COPY: ("copies of VMs are there: {names}", "Remove them: `leeward failover cleanup {first}`"),
    Why.MADE: ("VMs that failovers had made are just being removed there: {names}", "Look again in a moment"),
    Why.PROTECTED: ("VMs are protected there: {names}", "End that: `leeward unprotect {first}`"),
    Why.KEPT_OFF: ("VMs are kept off there: {names}", "See `leeward status {first}`"),
    Why.WARM: (
        "policies want warm replicas there: {names}",
        "Let them be elsewhere or nowhere: `leeward protect {first} --no-warm`",
    ),
    Why.REPLICA: ("warm replicas are just being removed there: {names}", "Look again in a moment"),
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """names: of VMs or plans, of the agent, or of the configuration file. vm_ids: of the VMs."""

    why: Why
    names: tuple[str, ...]
    vm_ids: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[str, str]:
        """(what it is, what to do)"""
        what, hint = _TOLD[self.why]
        return what.format(names=", ".join(self.names)), hint.format(first=self.names[0])


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one host, as of one moment. copies (of tests), made (by failovers), kept_off, replicas: VM id → name, there
    now. plans: names of those that are being run and may bring VMs up there. there: by host, of all that anybody has,
    ids of the VMs that are defined there or were made there; None where that cannot be told now."""

    wishes: tuple[ProtectionMessage, ...]
    lives: tuple[Life, ...]
    runs: tuple[Run, ...]
    plans: tuple[str, ...]
    copies: Mapping[str, str]
    made: Mapping[str, str]
    kept_off: Mapping[str, str]
    replicas: Mapping[str, str]
    there: Mapping[str, Collection[str] | None]


def obstacles(host: str, facts: Facts) -> list[Obstacle]:
    """In the order in which they are best done away with. Pure."""
    ended = _ended(host, facts)
    runs = {run.vm_id: run.vm_name for run in facts.runs if host in (run.home, run.away)}
    moved = {
        life.vm_id: life.vm_name
        for life in facts.lives
        if life.phase is not Phase.HOME and host in (life.home, life.away) and life.vm_id not in ended
    }
    kept_off = {vm_id: name for vm_id, name in facts.kept_off.items() if vm_id not in ended}
    made = {vm_id: name for vm_id, name in facts.made.items() if vm_id not in ended}
    protected = {wish.vm_id: wish.vm_name for wish in facts.wishes if wish.host == host}
    warm = {wish.vm_id: wish.vm_name for wish in facts.wishes if wish.policy.warm == host}
    found = [
        _of_vms(Why.RUN, runs),
        Obstacle(Why.PLAN, facts.plans),
        _of_vms(Why.MOVED, moved, runs),
        _of_vms(Why.COPY, facts.copies, runs, moved),
        _of_vms(Why.MADE, made, runs, moved),
        _of_vms(Why.PROTECTED, protected, moved),
        _of_vms(Why.KEPT_OFF, kept_off, runs, moved),
        _of_vms(Why.WARM, warm, moved),
        _of_vms(Why.REPLICA, facts.replicas, runs, moved, warm),
    ]
    return [one for one in found if one.names]


def _ended(host: str, facts: Facts) -> set[str]:
    """Ids of VMs that were committed away and exist no more: nobody could bring them home, and they would keep their
    hosts for ever. The host away may go when it has none of the VM; home is needed as well while either has it."""
    wished = {wish.vm_id for wish in facts.wishes}
    found = set()
    for life in facts.lives:
        places = {life.away} if host == life.away else {life.away, life.home}
        gone = all(_has_not(facts.there.get(place, ()), life.vm_id) for place in places)
        if gone and life.phase is Phase.SETTLED and life.vm_id not in wished:
            found.add(life.vm_id)
    return found


def _has_not(there: Collection[str] | None, vm_id: str) -> bool:
    return there is not None and vm_id not in there


def _of_vms(why: Why, vms: Mapping[str, str], *told: Collection[str]) -> Obstacle:
    """Each VM is told once: of one that is on its way the rest follows from that."""
    left = sorted((name, vm_id) for vm_id, name in vms.items() if not any(vm_id in other for other in told))
    return Obstacle(why, tuple(name for name, _ in left), tuple(vm_id for _, vm_id in left))


@dataclass(frozen=True, slots=True)
class Outlook:
    """obstacles: none: it can be removed. alone: it is the only recovery host, and VMs are protected."""

    host: str
    site: str
    obstacles: tuple[Obstacle, ...]
    alone: bool

    @property
    def fixed(self) -> bool:
        """It is not for this console to remove, whatever is done about the rest."""
        return any(one.why in (Why.CONFIGURED, Why.AGENT) for one in self.obstacles)

    @property
    def why_not(self) -> str:
        """What stands against it, "" for nothing."""
        return "; ".join(one.told[0] for one in self.obstacles)


class HostRemoval:
    """machine: the console's own, whose hosts these are."""

    def __init__(self, database: Database, fleet: Fleet, desk: Desk, machine: OwnMachine) -> None:
        self._database, self._fleet, self._desk, self._machine = database, fleet, desk, machine
        self._lock = threading.Lock()

    def look(self, host: str) -> Outlook:
        """Raises NotFound."""
        view = self._fleet.view()
        told = view.hosts.get(host)
        if told is None:
            known = ", ".join(sorted(view.hosts)) or "none"
            raise NotFound("there is no such host", subject=host, hint=f"Known hosts: {known}")
        wishes = self._database.desired().protections
        others = any(other.site == "recovery" for other in view.hosts.values() if other.name != host)
        alone = told.site == "recovery" and not others and bool(wishes)
        return Outlook(host, told.site, tuple(self._obstacles(host, told.site, view, wishes)), alone)

    def _obstacles(
        self, host: str, site: str, view: FleetView, wishes: tuple[ProtectionMessage, ...]
    ) -> list[Obstacle]:
        try:
            file = self._machine.stands_in(host)
        except NotFound:
            return [Obstacle(Why.AGENT, (view.by_host[host].name,))]
        if file:
            return [Obstacle(Why.CONFIGURED, (file,))]
        names = {wish.vm_id: wish.vm_name for wish in wishes}
        wished = self._desk.desired().standdowns
        kept_off = {off.vm_id: off.vm_name for off in wished if off.host == host}
        kept_off |= {off.vm_id: off.vm_name for off in view.standdowns if off.host == host}
        replicas = {told.vm_id: names.get(told.vm_id, told.vm_id) for told in view.replicas_at(host)}
        facts = Facts(
            wishes,
            tuple(self._database.lives.all().values()),
            tuple(self._database.runs.unfinished()),
            self._plans(host, site),
            *copies_at(host, view.copies),
            kept_off,
            replicas,
            _there(view),
        )
        return obstacles(host, facts)

    def _plans(self, host: str, site: str) -> tuple[str, ...]:
        """A run that names no recovery host takes the first there is."""
        going = self._database.plans.find(states=OPEN, limit=1000)
        aims = [run for run in going if (run.options.get("to") or host) == host]
        return tuple(sorted({run.plan.name for run in aims})) if site == "recovery" else ()

    def remove(self, host: str) -> None:
        """At once and for good; its VMs stay as they are. Raises NotFound, Refused.

        A run that is begun with the host at this very instant is told that there is no such host, and nothing has
        been done then. Who protects a VM there at this instant is not told: nothing is sent for a host that nobody
        has, and the VM shows as an error until its protection is ended.
        """
        with self._lock:
            outlook = self.look(host)
            if outlook.obstacles:
                raise Refused(outlook.why_not, subject=host, hint=outlook.obstacles[0].told[1])
            self._machine.remove(host)
            self._database.record("host removed", host, outlook.site)


def copies_at(host: str, copies: Iterable[CopyReport]) -> tuple[dict[str, str], dict[str, str]]:
    """(of tests, made by failovers): VM id → name. Those are somebody's to clean up, these go with what they
    were made for. Pure."""
    test: dict[str, str] = {}
    made: dict[str, str] = {}
    for copy in copies:
        if copy.host == host:
            (test if copy.purpose == "test" else made)[copy.vm_id] = copy.vm_name
    return test, made


def _there(view: FleetView) -> dict[str, Collection[str] | None]:
    return {
        name: there(name, [vm.id for vm in told.vms], view.copies) if view.present(name) and not told.error else None
        for name, told in view.hosts.items()
    }


def there(host: str, defined: Iterable[str], copies: Iterable[CopyReport]) -> set[str]:
    """Ids of the VMs that a host has or is made to have. What a failover has made whole and is not defined any more
    was removed behind our back: a record is all that is left of it. Pure."""
    known = set(defined)
    found = set(known)
    for copy in copies:
        left = copy.purpose == "failover" and copy.hydrated and copy.copy_id not in known
        if copy.host == host and not left:
            found.add(copy.vm_id)
    return found
