"""Recovery plans as people write them: a document (YAML, TOML or JSON) and the plan it means.

docs/plans.md explains the document. Whatever is wrong with one is told with the field in which it stands.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from leeward.domain.durations import seconds
from leeward.domain.errors import BadInput, LeewardError
from leeward.domain.plans import Check, CheckKind, Fault, Group, Member, OnFailure, Plan, PlanKind, Script, faults
from leeward.wire.faults import words_of

_MOST_S = 7 * 86_400
# What here means more than a limit.
_WORDS = {"string_too_short": "it is empty", "less_than_equal": "at most 7 days"}


def _duration(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return seconds(given)
    except LeewardError:
        raise ValueError(f"{given!r} is not a duration; write it like 30s or 5m") from None


Duration = Annotated[float, BeforeValidator(_duration), Field(ge=0, le=_MOST_S)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScriptDocument(_Part):
    """run: a file of the folder of scripts, and its arguments."""

    run: str = Field(min_length=1, max_length=2000)
    timeout: Duration = 300.0
    kinds: tuple[PlanKind, ...] = (PlanKind.PLANNED, PlanKind.UNPLANNED)
    on_failure: OnFailure = OnFailure.STOP


class CheckDocument(_Part):
    vm: str
    kind: CheckKind
    port: int | None = None
    path: str = "/"
    status: int = 200
    timeout: Duration = 120.0
    address: str = ""
    on_failure: OnFailure = OnFailure.STOP


class GroupDocument(_Part):
    name: str
    vms: tuple[str, ...]
    delay: Duration = 0.0
    approval: bool = False
    before: tuple[ScriptDocument, ...] = ()
    after: tuple[ScriptDocument, ...] = ()
    checks: tuple[CheckDocument, ...] = ()
    on_failure: OnFailure = OnFailure.STOP
    question: str = Field(default="", max_length=500)


class PlanDocument(_Part):
    """VMs are named by name or id. Durations: seconds, or text like 30s and 5m; answers tell seconds."""

    name: str
    note: str = Field(default="", max_length=2000)
    groups: tuple[GroupDocument, ...]
    networks: dict[str, str] = Field(default_factory=dict)


# Raises LeewardError when there is no such VM, or more than one, or it is not protected.
FindVm = Callable[[str], Member]
# Raises LeewardError when there is no such script, or it cannot be run.
FindScript = Callable[[str], object]
_Found = TypeVar("_Found")


def read_plan(given: Any, find_vm: FindVm, find_script: FindScript) -> Plan:
    """Raises BadInput, which names the first field that cannot be used."""
    plan, found = look_over(given, find_vm, find_script)
    if plan is None:
        name = str(given.get("name", "")) if isinstance(given, dict) else ""
        raise BadInput(told(found[0]), subject=name or "plan", hint="See docs/plans.md")
    return plan


def told(fault: Fault) -> str:
    return f"{fault.field}: {fault.what}" if fault.field else fault.what


def look_over(given: Any, find_vm: FindVm, find_script: FindScript) -> tuple[Plan | None, list[Fault]]:
    """(the plan that a document means, []), or (None, all that is wrong with it, as far as it can be read)."""
    try:
        document = PlanDocument.model_validate(given)
    except ValidationError as error:
        return None, [_misread(one) for one in error.errors()]
    reading = _Reading(document, find_vm, find_script)
    plan = reading.plan()
    found = [*reading.faults, *(fault for fault in faults(plan) if fault.field not in reading.unread)]
    return (None, found) if found else (plan, [])


def _misread(error: Any) -> Fault:
    where = ".".join(str(part) for part in error["loc"])
    return Fault(where, _WORDS.get(error["type"]) or words_of(error))


class _Reading:
    """One document on its way to a plan. faults: what could not be found; unread: the fields in question, of which
    nothing else can be said."""

    def __init__(self, document: PlanDocument, find_vm: FindVm, find_script: FindScript) -> None:
        self._document = document
        self._find_vm = find_vm
        self._find_script = find_script
        self.faults: list[Fault] = []
        self.unread: set[str] = set()

    def plan(self) -> Plan:
        document = self._document
        groups = tuple(self._group(group, f"groups.{number}") for number, group in enumerate(document.groups))
        return Plan(document.name, groups, document.note, dict(document.networks))

    def _group(self, group: GroupDocument, where: str) -> Group:
        return Group(
            name=group.name,
            members=tuple(self._member(vm, f"{where}.vms.{n}") for n, vm in enumerate(group.vms)),
            delay_s=group.delay,
            approval=group.approval,
            before=tuple(self._script(script, f"{where}.before.{n}") for n, script in enumerate(group.before)),
            after=tuple(self._script(script, f"{where}.after.{n}") for n, script in enumerate(group.after)),
            checks=tuple(self._check(check, f"{where}.checks.{n}") for n, check in enumerate(group.checks)),
            on_failure=group.on_failure,
            question=group.question,
        )

    def _member(self, vm: str, where: str) -> Member:
        return self._found(where, lambda: self._find_vm(vm)) or Member(vm, vm)

    def _script(self, script: ScriptDocument, where: str) -> Script:
        words = self._words(script.run, f"{where}.run")
        if words:
            self._found(f"{where}.run", lambda: self._find_script(words[0]))
        file = words[0] if words else ""
        return Script(file, tuple(words[1:]), script.timeout, script.kinds, script.on_failure)

    def _words(self, text: str, where: str) -> list[str]:
        try:
            words = shlex.split(text)
        except ValueError as error:
            self._fault(where, str(error)[:1].lower() + str(error)[1:])
            return []
        if not words:
            self._fault(where, "it names no script")
        return words

    def _check(self, check: CheckDocument, where: str) -> Check:
        member = self._member(check.vm, f"{where}.vm")
        port = check.port if check.port is not None else 80 if check.kind is CheckKind.HTTP else 0
        return Check(
            member.vm_id, check.kind, port, check.path, check.status, check.timeout, check.address, check.on_failure
        )

    def _found(self, where: str, find: Callable[[], _Found]) -> _Found | None:
        try:
            return find()
        except LeewardError as error:
            self._fault(where, f"{error.subject}: {error.message}" if error.subject else error.message)
            return None

    def _fault(self, where: str, what: str) -> None:
        self.faults.append(Fault(where, what))
        self.unread.add(where)


def document_of(plan: Plan) -> dict[str, Any]:
    """The document that means this plan, as plain JSON; VMs by name, where that is enough to tell them apart."""
    times = Counter(member.vm_name for member in plan.members)
    names = {m.vm_id: m.vm_name if times[m.vm_name] == 1 else m.vm_id for m in plan.members}
    groups = [
        {
            "name": group.name,
            "vms": [names[member.vm_id] for member in group.members],
            "delay": group.delay_s,
            "approval": group.approval,
            **({"question": group.question} if group.question else {}),
            "before": [_script_document(script) for script in group.before],
            "after": [_script_document(script) for script in group.after],
            "checks": [_check_document(check, names[check.vm_id]) for check in group.checks],
            "on_failure": group.on_failure.value,
        }
        for group in plan.groups
    ]
    return {"name": plan.name, "note": plan.note, "groups": groups, "networks": dict(plan.networks)}


def _script_document(script: Script) -> dict[str, Any]:
    return {
        "run": shlex.join([script.file, *script.arguments]),
        "timeout": script.timeout_s,
        "kinds": [kind.value for kind in script.kinds],
        "on_failure": script.on_failure.value,
    }


def _check_document(check: Check, vm: str) -> dict[str, Any]:
    made: dict[str, Any] = {"vm": vm, "kind": check.kind.value}
    if check.kind is not CheckKind.AGENT:
        made |= {"port": check.port, "address": check.address}
    if check.kind is CheckKind.HTTP:
        made |= {"path": check.path, "status": check.status}
    return made | {"timeout": check.timeout_s, "on_failure": check.on_failure.value}
