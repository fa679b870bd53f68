"""A recovery plan that somebody is writing: all of it lies in the form, so that nothing is kept, and nothing lost,
until it is saved. Read out of the form, changed by one act of a button, and turned into a document. Pure.

A draft is plain data, its leaves text as it was typed. Fields of the form are named by their place in the document,
like groups.1.checks.0.port, so that what is wrong with the document is told beside the field.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from leeward.console.web.forms import Form
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.policy_form import short
from leeward.domain.errors import BadInput
from leeward.domain.plans import Check, Group, Plan, Script

Draft = dict[str, Any]

_FIELD = re.compile(r"groups\.(\d+)\.(?:(before|after|checks)\.(\d+)\.)?(\w+)|networks\.(\d+)\.(from|to)")
# More than any plan has; a form that claims more is not one of ours.
MOST_GROUPS, MOST_PARTS = 100, 100
_PARTS = ("before", "after", "checks")
_SCRIPT = {"run": "", "timeout": "5min", "on_failure": "stop"}
_CHECK = {"vm": "", "kind": "agent", "port": "", "path": "/", "status": "200", "timeout": "2min", "address": "",
          "on_failure": "stop"}  # fmt: skip
_KINDS = ("planned", "unplanned")


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
    """Of a file, which may be wrong anywhere: what cannot be shown in the form is left out. names: VM id → name."""
    ids = {name: vm_id for vm_id, name in names.items()} | {vm_id: vm_id for vm_id in names}
    groups = []
    for found in _list(document.get("groups")):
        group = new_group(_text(found.get("name")))
        group["vms"] = [ids.get(_text(vm), _text(vm)) for vm in _plain_list(found.get("vms"))]
        group |= {name: _text(found.get(name)) for name in ("delay", "question")}
        group["approval"] = _text(found.get("approval")).lower() in ("true", "yes", "1")
        group["on_failure"] = _text(found.get("on_failure")) or "stop"
        for part in _PARTS:
            group[part] = [_part_of_document(part, one, ids) for one in _list(found.get(part))][:MOST_PARTS]
        groups.append(group)
    networks = document.get("networks")
    pairs = networks.items() if isinstance(networks, dict) else ()
    return {
        "name": _text(document.get("name")),
        "note": _text(document.get("note")),
        "groups": groups[:MOST_GROUPS] or [new_group()],
        "networks": [{"from": _text(source), "to": _text(target)} for source, target in pairs][:MOST_PARTS],
    }


def _part_of_document(part: str, found: Mapping[str, Any], ids: Mapping[str, str]) -> Draft:
    usual = _CHECK if part == "checks" else _SCRIPT
    made: Draft = {name: _text(found[name]) if name in found else value for name, value in usual.items()}
    if part == "checks":
        return made | {"vm": ids.get(made["vm"], made["vm"])}
    kinds = found.get("kinds")
    return made | {"kinds": [_text(kind) for kind in _plain_list(kinds)] if kinds is not None else list(_KINDS)}


def _list(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _plain_list(found: Any) -> list[Any]:
    return [one for one in found if not isinstance(one, dict | list)] if isinstance(found, list) else []


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
    return draft


def _new_part(part: str) -> Draft:
    return dict(_CHECK) if part == "checks" else {**_SCRIPT, "kinds": []}


def _at(found: list[Draft], place: int, make: Callable[[], Draft], most: int) -> Draft:
    if place >= most:
        raise BadInput("a plan is not that large", subject="form")
    while len(found) <= place:
        found.append(make())
    return found[place]


def _put(part: Draft, name: str, value: str) -> None:
    held = part.get(name)
    if isinstance(held, list) and name in ("vms", "kinds"):
        if value and value not in held:
            held.append(value)
    elif isinstance(held, bool):
        part[name] = value == "1"
    elif isinstance(held, str):
        part[name] = value


# --- one act of a button -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acted:
    """focus: id of the element to go on at. said: for who cannot see what has changed."""

    draft: Draft
    focus: str = ""
    said: Phrase | None = None


def act(draft: Draft, do: str, form: Form, names: Mapping[str, str]) -> Acted:
    """do: what a button says, like group-up:1, or vm-add:0, whose VM stands in the field groups.0.add. What makes no
    sense (any more) changes nothing."""
    what, *places = do.split(":")
    acts: dict[str, Callable[..., Acted]] = {
        "group-add": _add_group,
        "group-remove": _remove_group,
        "group-up": lambda draft, place: _move_group(draft, place, -1),
        "group-down": lambda draft, place: _move_group(draft, place, 1),
        "vm-add": lambda draft, place: _add_vm(draft, place, form[f"groups.{place}.add"], names),
        "vm-remove": lambda draft, place, vm: _remove_vm(draft, place, vm, names),
        "vm-up": lambda draft, place, vm: _move_vm(draft, place, vm, -1, names),
        "vm-down": lambda draft, place, vm: _move_vm(draft, place, vm, 1, names),
        "check-add": _add_check,
        "script-add": _add_script,
        "part-remove": _remove_part,
        "network-add": _add_network,
        "network-remove": _remove_network,
    }
    try:
        return acts[what](draft, *places)
    except (KeyError, TypeError, ValueError, IndexError):
        return Acted(draft)


def _group(draft: Draft, place: str) -> Draft:
    if not 0 <= int(place) < len(draft["groups"]):
        raise IndexError
    found: Draft = draft["groups"][int(place)]
    return found


def _called(group: Draft, place: int) -> str:
    return group["name"] or str(place + 1)


def _add_group(draft: Draft) -> Acted:
    if len(draft["groups"]) >= MOST_GROUPS:
        return Acted(draft)
    draft["groups"].append(new_group())
    count = len(draft["groups"])
    return Acted(draft, f"f-groups.{count - 1}.name", phrase(N_("Group {number} added."), number=count))


def _remove_group(draft: Draft, place: str) -> Acted:
    group = _group(draft, place)
    draft["groups"].remove(group)
    return Acted(draft, "group-add", phrase(N_("Group {group} removed."), group=_called(group, int(place))))


def _move_group(draft: Draft, place: str, by: int) -> Acted:
    group, groups, new = _group(draft, place), draft["groups"], int(place) + by
    if not 0 <= new < len(groups):
        return Acted(draft)
    del groups[int(place)]
    groups.insert(new, group)
    # At the end of its way the other button is the one that can still be pressed.
    way = "up" if by < 0 else "down"
    if new in (0, len(groups) - 1):
        way = "down" if new == 0 else "up"
    said = phrase(
        N_("Group {group} is now number {place} of {count}."),
        group=_called(group, int(place)),
        place=new + 1,
        count=len(groups),
    )
    return Acted(draft, f"group-{way}:{new}", said)


def _add_vm(draft: Draft, place: str, vm: str, names: Mapping[str, str]) -> Acted:
    group = _group(draft, place)
    if vm not in names or any(vm in other["vms"] for other in draft["groups"]):
        return Acted(draft, f"f-groups.{place}.add")
    group["vms"].append(vm)
    said = phrase(N_("{vm} added to group {group}."), vm=names[vm], group=_called(group, int(place)))
    return Acted(draft, f"f-groups.{place}.add", said)


def _remove_vm(draft: Draft, place: str, vm: str, names: Mapping[str, str]) -> Acted:
    """With its checks: they would be of a VM that is not in the group."""
    group = _group(draft, place)
    group["vms"].remove(vm)
    group["checks"] = [check for check in group["checks"] if check["vm"] != vm]
    said = phrase(N_("{vm} taken out of group {group}."), vm=names.get(vm, vm), group=_called(group, int(place)))
    return Acted(draft, f"f-groups.{place}.add", said)


def _move_vm(draft: Draft, place: str, vm: str, by: int, names: Mapping[str, str]) -> Acted:
    """With its checks."""
    group, new = _group(draft, place), int(place) + by
    other = _group(draft, str(new))
    group["vms"].remove(vm)
    other["vms"].append(vm)
    other["checks"] += [check for check in group["checks"] if check["vm"] == vm]
    group["checks"] = [check for check in group["checks"] if check["vm"] != vm]
    last = len(draft["groups"]) - 1
    way = "down" if new == 0 else "up" if new == last else "up" if by < 0 else "down"
    said = phrase(N_("{vm} is now in group {group}."), vm=names.get(vm, vm), group=_called(other, new))
    return Acted(draft, f"vm-{way}:{new}:{vm}", said)


def _add_check(draft: Draft, place: str) -> Acted:
    group = _group(draft, place)
    if len(group["checks"]) >= MOST_PARTS:
        return Acted(draft)
    group["checks"].append({**_CHECK, "vm": group["vms"][0] if group["vms"] else ""})
    return Acted(draft, f"f-groups.{place}.checks.{len(group['checks']) - 1}.vm", phrase(N_("Check added.")))


def _add_script(draft: Draft, place: str, when: str) -> Acted:
    scripts = _group(draft, place)[{"before": "before", "after": "after"}[when]]
    if len(scripts) >= MOST_PARTS:
        return Acted(draft)
    scripts.append({**_SCRIPT, "kinds": list(_KINDS)})
    return Acted(draft, f"f-groups.{place}.{when}.{len(scripts) - 1}.run", phrase(N_("Script added.")))


def _remove_part(draft: Draft, place: str, part: str, number: str) -> Acted:
    if part not in _PARTS:
        raise KeyError(part)
    parts = _group(draft, place)[part]
    if not 0 <= int(number) < len(parts):
        raise IndexError
    del parts[int(number)]
    if part == "checks":
        return Acted(draft, f"check-add:{place}", phrase(N_("Check removed.")))
    return Acted(draft, f"script-add:{place}:{part}", phrase(N_("Script removed.")))


def _add_network(draft: Draft) -> Acted:
    if len(draft["networks"]) >= MOST_PARTS:
        return Acted(draft)
    draft["networks"].append({"from": "", "to": ""})
    place = len(draft["networks"]) - 1
    return Acted(draft, f"f-networks.{place}.from", phrase(N_("Network added.")))


def _remove_network(draft: Draft, place: str) -> Acted:
    if not 0 <= int(place) < len(draft["networks"]):
        raise IndexError
    del draft["networks"][int(place)]
    return Acted(draft, "network-add", phrase(N_("Network removed.")))


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
