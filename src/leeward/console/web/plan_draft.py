"""A recovery plan that somebody is writing: all of it lies in the form, so that nothing is kept, and nothing lost,
until it is saved. Read out of the form, and turned into a document; what buttons do to it stands in `plan_acts`.
Pure.

A draft is plain data, its leaves text as it was typed. Fields of the form are named by their place in the document,
like groups.1.checks.0.port, so that what is wrong with the document is told beside the field.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from leeward.console.web.forms import Form
from leeward.domain.durations import short
from leeward.domain.errors import BadInput
from leeward.domain.plans import MOST_VMS, Check, Fault, Group, Plan, Script

Draft = dict[str, Any]

_FIELD = re.compile(r"groups\.(\d{1,4})\.(?:(before|after|checks)\.(\d{1,4})\.)?(\w+)|networks\.(\d{1,4})\.(from|to)")
_SHOWN = re.compile(
    r"name|note|groups(\.\d+(\.(name|vms(\.\d+)?|delay|question|on_failure"
    r"|(before|after)\.\d+\.(run|timeout|kinds|on_failure)"
    r"|checks\.\d+\.(vm|kind|port|path|status|timeout|address|on_failure)))?)?|networks\.\d+\.(from|to)"
)
# More than any plan has; a form that claims more is not one of ours. MOST_PARTS: of one kind in one group;
# MOST_IN_ALL: scripts and checks of all groups together. Each is a dozen elements of the page, and each check offers
# all VMs of its group.
MOST_GROUPS, MOST_PARTS, MOST_IN_ALL = 500, 500, 2000
PARTS = ("before", "after", "checks")
SCRIPT = {"run": "", "timeout": "5min", "on_failure": "stop"}
CHECK = {"vm": "", "kind": "agent", "port": "", "path": "/", "status": "200", "timeout": "2min", "address": "",
          "on_failure": "stop"}  # fmt: skip
KINDS = ("planned", "unplanned")


def new_draft() -> Draft:
    return {"name": "", "note": "", "groups": [new_group()], "networks": []}


def new_group(name: str = "") -> Draft:
    return {"name": name, "vms": [], "delay": "", "approval": False, "question": "", "on_failure": "stop",
            "before": [], "after": [], "checks": []}  # fmt: skip


# --- from what there is --------------------------------------------------------------------------------------


def draft_of(plan: Plan) -> Draft:
    groups = [_group_draft(group) for group in plan.groups]
    networks = [{"from": source, "to": target} for source, target in plan.networks.items()]
    return {"name": plan.name, "note": plan.note, "groups": groups, "networks": networks}


def _group_draft(group: Group) -> Draft:
    return {
        "name": group.name,
        "vms": [member.vm_id for member in group.members],
        "delay": short(group.delay_s) if group.delay_s else "",
        "approval": group.approval,
        "question": group.question,
        "on_failure": group.on_failure.value,
        "before": [_script_draft(script) for script in group.before],
        "after": [_script_draft(script) for script in group.after],
        "checks": [_check_draft(check) for check in group.checks],
    }


def _script_draft(script: Script) -> Draft:
    return {
        "run": shlex.join([script.file, *script.arguments]),
        "timeout": short(script.timeout_s),
        "kinds": [kind.value for kind in script.kinds],
        "on_failure": script.on_failure.value,
    }


def _check_draft(check: Check) -> Draft:
    return {
        "vm": check.vm_id,
        "kind": check.kind.value,
        "port": str(check.port or ""),
        "path": check.path,
        "status": str(check.status),
        "timeout": short(check.timeout_s),
        "address": check.address,
        "on_failure": check.on_failure.value,
    }


def draft_of_document(document: Mapping[str, Any], names: Mapping[str, str]) -> Draft:
    """Of a file, which may be wrong anywhere. What the form cannot show is left out: looking over the document itself
    tells of it. All the rest keeps its place, where its mistakes are told. names: VM id → name. Raises BadInput."""
    ids = _ids(names)
    networks = document.get("networks")
    pairs = networks.items() if isinstance(networks, dict) else ()
    draft = {
        "name": _text(document.get("name")),
        "note": _text(document.get("note")),
        "groups": [_group_of_document(found, ids) for found in _list(document.get("groups"))] or [new_group()],
        "networks": [{"from": _text(source), "to": _text(target)} for source, target in pairs],
    }
    _must_fit(draft)
    return draft


def _ids(names: Mapping[str, str]) -> dict[str, str]:
    """What a file may call a VM → its id. Not what two are called: the plan's reader says that it is not clear."""
    calls = [(call, vm_id) for vm_id, name in names.items() for call in {vm_id, name}]
    times = Counter(call for call, _ in calls)
    return {call: vm_id for call, vm_id in calls if times[call] == 1}


def _group_of_document(given: Any, ids: Mapping[str, str]) -> Draft:
    found = given if isinstance(given, dict) else {}
    group = new_group(_text(found.get("name")))
    group["vms"] = [ids.get(_text(vm), _text(vm)) for vm in _list(found.get("vms"))]
    group |= {name: _text(found.get(name)) for name in ("delay", "question")}
    group["approval"] = _truth(found.get("approval"))
    group["on_failure"] = _text(found.get("on_failure")) or "stop"
    return group | {part: [_part_of_document(part, one, ids) for one in _list(found.get(part))] for part in PARTS}


def _part_of_document(part: str, given: Any, ids: Mapping[str, str]) -> Draft:
    """A script that is told by its name alone is wrong, but it is clear what is meant."""
    usual = CHECK if part == "checks" else SCRIPT
    found = given if isinstance(given, dict) else {} if part == "checks" else {"run": given}
    made: Draft = {name: _text(found[name]) if name in found else value for name, value in usual.items()}
    if part == "checks":
        return made | {"vm": ids.get(made["vm"], made["vm"])}
    kinds = found.get("kinds")
    return made | {"kinds": [_text(kind) for kind in _list(kinds)] if kinds is not None else list(KINDS)}


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


_TRUTH = TypeAdapter(bool)


def _truth(found: Any) -> bool:
    """With all the words that the plan's reader takes (on, y, true, 1 …)."""
    try:
        return _TRUTH.validate_python(found)
    except ValidationError:
        return False


def _text(found: Any) -> str:
    return "" if found is None or isinstance(found, dict | list) else str(found)


# --- from the form -------------------------------------------------------------------------------------------


def read_draft(form: Form) -> Draft:
    """Raises BadInput when it is no form of ours."""
    draft: Draft = {"name": form["name"], "note": form["note"], "groups": [], "networks": []}
    for name, value in form.pairs():
        match = _FIELD.fullmatch(name)
        if match is None:
            continue
        if match[5] is not None:
            _at(draft["networks"], int(match[5]), lambda: {"from": "", "to": ""}, MOST_PARTS)[match[6]] = value
            continue
        group = _at(draft["groups"], int(match[1]), new_group, MOST_GROUPS)
        if match[2] is not None:
            part = _at(group[match[2]], int(match[3]), partial(_new_part, match[2]), MOST_PARTS)
            _put(part, match[4], value)
        else:
            _put(group, match[4], value)
    _must_fit(draft)
    return draft


def _new_part(part: str) -> Draft:
    return dict(CHECK) if part == "checks" else {**SCRIPT, "kinds": []}


def _at(found: list[Draft], place: int, make: Callable[[], Draft], most: int) -> Draft:
    """Our forms number what they send from 0 on, and leave out none: a place far behind the last is not ours."""
    if place > len(found) or place >= most:
        raise BadInput(_TOO_LARGE, subject="form")
    if place == len(found):
        found.append(make())
    return found[place]


def _put(part: Draft, name: str, value: str) -> None:
    held = part.get(name)
    if isinstance(held, list) and name in ("vms", "kinds"):
        if len(held) > MOST_VMS:
            raise BadInput(_TOO_LARGE, subject="form")
        if value and value not in held:
            held.append(value)
    elif isinstance(held, bool):
        part[name] = value == "1"
    elif isinstance(held, str):
        part[name] = value


# --- how much, and what is wrong with it ----------------------------------------------------------------------

_TOO_LARGE = "a plan is not that large"


def in_all(draft: Draft) -> int:
    """Scripts and checks."""
    return sum(len(group[part]) for group in draft["groups"] for part in PARTS)


def _must_fit(draft: Draft) -> None:
    groups = draft["groups"]
    most_parts = max((len(group[part]) for group in groups for part in PARTS), default=0)
    vms = sum(len(group["vms"]) for group in groups)
    fits = len(groups) <= MOST_GROUPS and max(most_parts, len(draft["networks"])) <= MOST_PARTS
    # One more VM than a plan may have is told as what is wrong with it.
    if not fits or in_all(draft) > MOST_IN_ALL or vms > 2 * MOST_VMS:
        raise BadInput(_TOO_LARGE, subject="form")


def doubles(draft: Draft) -> list[Fault]:
    """Of networks, which are told apart by their names alone in a document: it would hold the last of them only."""
    found, seen = [], set()
    for place, network in enumerate(draft["networks"]):
        name = network["from"].strip()
        if _wanted(network) and name in seen:
            found.append(Fault(f"networks.{place}.from", "another network has this name too"))
        seen |= {name} if _wanted(network) else set()
    return found


def is_shown(field: str) -> bool:
    """Whether the form has a place for what is wrong with a field of a document."""
    return _SHOWN.fullmatch(field) is not None


# --- to a document -------------------------------------------------------------------------------------------


def document_of_draft(draft: Draft) -> dict[str, Any]:
    """As docs/plans.md tells it. What was left empty is left out, where it may be."""
    return {
        "name": draft["name"].strip(),
        "note": draft["note"].strip(),
        "groups": [_group_document(group) for group in draft["groups"]],
        "networks": {one["from"].strip(): one["to"].strip() for one in draft["networks"] if _wanted(one)},
    }


def _wanted(network: Draft) -> bool:
    return bool(network["from"].strip() or network["to"].strip())


def _group_document(group: Draft) -> dict[str, Any]:
    made = {
        "name": group["name"].strip(),
        "vms": group["vms"],
        "approval": group["approval"],
        "on_failure": group["on_failure"],
        "checks": [_check_document(check) for check in group["checks"]],
        **{when: [_filled(script) for script in group[when]] for when in ("before", "after")},
    }
    if group["question"].strip() and group["approval"]:
        made["question"] = group["question"].strip()
    return made | ({"delay": group["delay"].strip()} if group["delay"].strip() else {})


def _check_document(check: Draft) -> dict[str, Any]:
    """Only what the kind of the check has: what was typed for another kind is no mistake."""
    unused = {"agent": ("port", "path", "status", "address"), "tcp": ("path", "status")}.get(check["kind"], ())
    return _filled({name: value for name, value in check.items() if name not in unused})


def _filled(part: Draft) -> dict[str, Any]:
    kept = {name: value.strip() if isinstance(value, str) else value for name, value in part.items()}
    return {name: value for name, value in kept.items() if value != "" or name in ("run", "vm", "kind")}
