"""Consistency groups of one agent: when their VMs are to meet, and who is able to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from leeward.agent.meeting import HOLD_S, Meeting
from leeward.agent.standstill import Standstill
from leeward.domain.durations import show
from leeward.domain.points import Mark
from leeward.logs import log
from leeward.ports.hypervisor import Hypervisor
from leeward.wire.messages import ProtectionMessage

# How long those who have come wait for the others: a share of the interval, within bounds. Their guests run on.
_SHARE, _SHORTEST_S, _LONGEST_S = 0.1, 1.0, 3.0
# Longer than any worker sleeps before it looks again, so that all of them hear of a first round in time.
_HEARD_S = 6.0
# Intervals without a mark after which that is told.
_MISSED = 3


class Seat:
    """One VM's place in a round; see `leeward.replication.replicator.Joint`."""

    def __init__(self, meeting: Meeting, vm_id: str) -> None:
        self._meeting = meeting
        self._vm_id = vm_id

    def moment(self) -> AbstractContextManager[None]:
        return self._meeting.moment(self._vm_id)

    @property
    def mark(self) -> Mark | None:
        return self._meeting.mark

    def withdraw(self, why: str) -> None:
        self._meeting.withdraw(self._vm_id, why)


class Group:
    """members, every_s: as of now; `Groups` changes them. Thread-safe.

    A round is held only while every member's last cycle went well: a first copy, or a VM in trouble, keeps nobody
    waiting.
    """

    def __init__(
        self,
        host: str,
        name: str,
        hypervisor: Hypervisor,
        standstill: Standstill,
        hold_s: float = HOLD_S,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.host, self.name = host, name
        self.members: frozenset[str] = frozenset()
        self.every_s = 60.0
        self._hypervisor = hypervisor
        self._standstill = standstill
        self._hold_s = hold_s
        self._on_step = on_step
        self._lock = threading.Lock()
        self._able: set[str] = set()
        self._seated: set[str] = set()
        self._names: dict[str, str] = {}
        self._next = 0.0
        self._meeting: Meeting | None = None
        self._told: Meeting | None = None
        self._since = time.monotonic()
        self._missed = ""

    def change(self, wishes: Iterable[ProtectionMessage]) -> None:
        wishes = list(wishes)
        with self._lock:
            self._names = {wish.vm_id: wish.vm_name for wish in wishes}
            self.members = frozenset(self._names)
            # They are told to be alike; should they ever differ, the shortest is meant.
            self.every_s = min((wish.policy.group_s for wish in wishes), default=60.0)
            self._able &= self.members

    def able(self, vm_id: str) -> None:
        """Its last cycle went well."""
        with self._lock:
            if vm_id in self.members and vm_id not in self._able:
                self._able.add(vm_id)
                if self._able == self.members:
                    self._next = max(self._next, time.monotonic() + min(_HEARD_S, self.every_s))

    def unable(self, vm_id: str) -> None:
        with self._lock:
            self._able.discard(vm_id)

    def due(self, vm_id: str) -> float:
        """Monotonic time at which this one is to come; infinite while there can be no round."""
        with self._lock:
            if self._waits_for(vm_id):
                return 0.0
            return self._next if self._can() else float("inf")

    def _waits_for(self, vm_id: str) -> bool:
        meeting = self._meeting
        return meeting is not None and meeting.gathering and vm_id in meeting.members and vm_id not in self._seated

    def _can(self) -> bool:
        return len(self.members) > 1 and self._able == self.members

    def join(self, vm_id: str) -> Seat | None:
        """A seat in the round that is due; None when there is none, or it has begun without this one."""
        now = time.monotonic()
        with self._lock:
            if self._meeting is not None and self._waits_for(vm_id):
                self._seated.add(vm_id)
                return Seat(self._meeting, vm_id)
            gathering = self._meeting is not None and self._meeting.gathering
            if gathering or not self._can() or now < self._next or vm_id not in self.members:
                return None
            self._settle()
            self._seated = {vm_id}
            self._next = max(self._next + self.every_s, now + self.every_s / 2)
            patience = min(max(self.every_s * _SHARE, _SHORTEST_S), _LONGEST_S)
            self._meeting = Meeting(
                self.host,
                self.name,
                self.members,
                self._hypervisor,
                self._standstill,
                patience,
                self._hold_s,
                self._on_step,
            )
            return Seat(self._meeting, vm_id)

    def _settle(self) -> None:
        """Remember what came of the last round."""
        meeting = self._meeting
        if meeting is None or meeting is self._told or not meeting.over:
            return
        self._told = meeting
        if meeting.mark is not None:
            self._since, self._missed = time.monotonic(), ""
            log.debug("common instant", group=self.name, ms=round(meeting.stood_s * 1000, 1))
        else:
            self._missed = meeting.why
            log.info("no common instant", group=self.name, reason=meeting.why)

    def last(self) -> Meeting | None:
        """The last round that is over."""
        meeting = self._meeting
        return meeting if meeting is not None and meeting.over else None

    def trouble(self) -> str:
        """Why there has been no common instant lately, "" when there has."""
        with self._lock:
            self._settle()
            late = time.monotonic() - self._since
            if len(self.members) < 2 or late < max(self.every_s * _MISSED, _HEARD_S * 2):
                return ""
            missing = sorted(self._names[vm_id] for vm_id in self.members - self._able)
            why = (
                f"{', '.join(missing)} cannot take part"
                if missing
                else self._missed or "its rounds do not come about"
            )
            return f"no common instant of group {self.name} for {show(late)}: {why}"


class Groups:
    """All groups of one agent. drivers: by host. A VM that is alone in its group meets nobody."""

    def __init__(
        self,
        drivers: Mapping[str, Hypervisor],
        standstill: Standstill,
        hold_s: float = HOLD_S,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._drivers = dict(drivers)
        self._standstill = standstill
        self._hold_s = hold_s
        self._on_step = on_step
        self._lock = threading.Lock()
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, host: str, driver: Hypervisor) -> None:
        """A host that was not there at first."""
        self._drivers[host] = driver

    def remove(self, host: str) -> None:
        """A host from which nothing is replicated any more."""
        with self._lock:
            self._drivers = {name: driver for name, driver in self._drivers.items() if name != host}
            self._groups = {key: group for key, group in self._groups.items() if key[0] != host}

    def change(self, wishes: Iterable[ProtectionMessage]) -> None:
        """wishes: of all VMs that are replicated now. Those that are paused or held take no part."""
        found: dict[tuple[str, str], list[ProtectionMessage]] = {}
        for wish in wishes:
            if wish.policy.group and wish.host in self._drivers and not wish.paused:
                found.setdefault((wish.host, wish.policy.group), []).append(wish)
        with self._lock:
            for host, name in found.keys() - self._groups.keys():
                self._groups[host, name] = Group(
                    host, name, self._drivers[host], self._standstill, self._hold_s, self._on_step
                )
            for key, group in self._groups.items():
                group.change(found.get(key, []))

    def of(self, wish: ProtectionMessage) -> Group | None:
        if not wish.policy.group:
            return None
        with self._lock:
            return self._groups.get((wish.host, wish.policy.group))

    def left(self) -> list[tuple[str, str]]:
        """(host, VM id) that stand still although their round is over."""
        return self._standstill.left()

    def release_left(self, may: Callable[[str, str], bool]) -> None:
        self._standstill.release_left(self._drivers, may)


class Fellow:
    """A worker's side of its VM's group, which it may have or not, and which may change at any time."""

    def __init__(self, wish: ProtectionMessage, group: Callable[[ProtectionMessage], Group | None]) -> None:
        self._wish = wish
        self._group = group

    def due(self, due: float, now: float, usual_s: float | None) -> float:
        """When the next cycle is due, which would be at `due` without a group. One that would make us late for the
        group's round is left to that."""
        group = self._group(self._wish)
        meets = group.due(self._wish.vm_id) if group is not None else float("inf")
        return meets if due > meets or now + (usual_s or 0.0) > meets else due

    def able(self, able: bool) -> None:
        """Whether others may count on this one for the next round."""
        group = self._group(self._wish)
        if group is not None:
            group.able(self._wish.vm_id) if able else group.unable(self._wish.vm_id)

    def seat(self) -> Seat | None:
        group = self._group(self._wish)
        return group.join(self._wish.vm_id) if group is not None else None

    def trouble(self) -> str:
        group = self._group(self._wish)
        return group.trouble() if group is not None else ""
