"""A recovery plan: groups of VMs that are failed over together, in order. Plain values, and what makes them sound.

The order is that of coming up: what others need stands in an earlier group. Groups are a sequence, so nothing can
wait for itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from leeward.domain.procedures import Kind


class PlanKind(StrEnum):
    TEST = "test"
    PLANNED = "planned"
    UNPLANNED = "unplanned"

    @property
    def procedure(self) -> Kind:
        """What is done to each VM."""
        return Kind(self.value)


class OnFailure(StrEnum):
    """STOP: the run stalls and waits for the operator. CONTINUE: it is noted, and the run goes on."""

    STOP = "stop"
    CONTINUE = "continue"


class CheckKind(StrEnum):
    """AGENT: the guest's agent answers. TCP: a port can be connected to. HTTP: a path answers with a status."""

    AGENT = "agent"
    TCP = "tcp"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Member:
    vm_id: str
    vm_name: str


@dataclass(frozen=True, slots=True)
class Script:
    """A program on the console's machine. file: its name in the folder of scripts, never a path. kinds: in which runs
    it is run; in a test only when that is said, since most scripts touch production."""

    file: str
    arguments: tuple[str, ...] = ()
    timeout_s: float = 300.0
    kinds: tuple[PlanKind, ...] = (PlanKind.PLANNED, PlanKind.UNPLANNED)
    on_failure: OnFailure = OnFailure.STOP


@dataclass(frozen=True, slots=True)
class Check:
    """What must be true of a VM once it has been started. timeout_s: how long it may take to become true.

    port, path, status: of TCP and HTTP. address: of the guest, like 10.0.0.5 or 10.0.0.5/24; "": ask its agent.
    """

    vm_id: str
    kind: CheckKind
    port: int = 0
    path: str = "/"
    status: int = 200
    timeout_s: float = 120.0
    address: str = ""
    on_failure: OnFailure = OnFailure.STOP


@dataclass(frozen=True, slots=True)
class Group:
    """VMs that come up side by side. delay_s: after the group before it. approval: somebody must say yes first;
    question: what they are asked then.

    before, after: scripts before its VMs are touched, and after its checks. on_failure: when one of its VMs fails.
    """

    name: str
    members: tuple[Member, ...]
    delay_s: float = 0.0
    approval: bool = False
    before: tuple[Script, ...] = ()
    after: tuple[Script, ...] = ()
    checks: tuple[Check, ...] = ()
    on_failure: OnFailure = OnFailure.STOP
    question: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """networks: what the VMs' NICs hang on at the recovery site, like {"bridge:br0": "bridge:lan"}."""

    name: str
    groups: tuple[Group, ...]
    note: str = ""
    networks: dict[str, str] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(member for group in self.groups for member in group.members)

    def member(self, vm_id: str) -> Member:
        return next(member for member in self.members if member.vm_id == vm_id)


def renamed(plan: Plan, names: Mapping[str, str]) -> Plan:
    """The same with its VMs called by these names, by their ids; others keep theirs."""

    def named(member: Member) -> Member:
        return Member(member.vm_id, names.get(member.vm_id, member.vm_name))

    groups = tuple(replace(group, members=tuple(map(named, group.members))) for group in plan.groups)
    return replace(plan, groups=groups)


_NAME = re.compile(r"[\w][\w .+-]{0,62}")
# No separator, no leading dot: a name in one folder and nothing else.
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MOST_VMS = 500


@dataclass(frozen=True, slots=True)
class Fault:
    """field: where in the plan's document, like groups.0.vms.1."""

    field: str
    what: str


def faults(plan: Plan) -> Iterator[Fault]:
    """Why the plan cannot be used, in the order of its document; nothing when it is sound."""
    if not _NAME.fullmatch(plan.name):
        yield Fault("name", "a name has up to 63 letters, digits, spaces and _ . + -")
    if not plan.groups:
        yield Fault("groups", "a plan without VMs does nothing")
    if len(plan.members) > MOST_VMS:
        yield Fault("groups", f"a plan has at most {MOST_VMS} VMs")
    names: set[str] = set()
    seen: dict[str, str] = {}
    for number, group in enumerate(plan.groups):
        where = f"groups.{number}"
        if not _NAME.fullmatch(group.name):
            yield Fault(f"{where}.name", "a name has up to 63 letters, digits, spaces and _ . + -")
        elif group.name in names:
            yield Fault(f"{where}.name", "another group has this name too")
        names.add(group.name)
        if group.question and not group.approval:
            yield Fault(f"{where}.question", "nobody is asked where no approval is needed")
        if number == 0 and group.delay_s:
            yield Fault(f"{where}.delay", "there is no group before the first one to wait after")
        yield from _member_faults(group, where, seen)
        for when, scripts in (("before", group.before), ("after", group.after)):
            for place, script in enumerate(scripts):
                yield from _script_faults(script, f"{where}.{when}.{place}")
        for place, check in enumerate(group.checks):
            yield from _check_faults(check, group, f"{where}.checks.{place}")


def _member_faults(group: Group, where: str, seen: dict[str, str]) -> Iterator[Fault]:
    if not group.members:
        yield Fault(f"{where}.vms", "a group without VMs does nothing")
    for place, member in enumerate(group.members):
        here = f"{where}.vms.{place}"
        if member.vm_id in seen:
            yield Fault(here, f"{member.vm_name} is in the plan already, at {seen[member.vm_id]}")
        seen.setdefault(member.vm_id, here)


def _script_faults(script: Script, where: str) -> Iterator[Fault]:
    if not _FILE.fullmatch(script.file):
        yield Fault(f"{where}.run", f"{script.file!r} is no name of a file in the folder of scripts")
    if not script.timeout_s > 0:
        yield Fault(f"{where}.timeout", "it must be more than 0")
    if not script.kinds:
        yield Fault(f"{where}.kinds", "a script that is never run")


def _check_faults(check: Check, group: Group, where: str) -> Iterator[Fault]:
    if all(member.vm_id != check.vm_id for member in group.members):
        yield Fault(f"{where}.vm", "this VM is not in the group")
    if check.kind is not CheckKind.AGENT and not 1 <= check.port <= 65535:
        yield Fault(f"{where}.port", "a port from 1 to 65535 is needed")
    if check.address and not _is_address(check.address):
        yield Fault(f"{where}.address", f"{check.address!r} is no IP address, like 10.0.0.5 or 10.0.0.5/24")
    if check.kind is CheckKind.HTTP and not re.fullmatch(r"/[!-~]*", check.path):
        yield Fault(f"{where}.path", "a path begins with / and has no spaces")
    if check.kind is CheckKind.HTTP and not 100 <= check.status <= 599:
        yield Fault(f"{where}.status", "a status is a number from 100 to 599")
    if not check.timeout_s > 0:
        yield Fault(f"{where}.timeout", "it must be more than 0")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True
