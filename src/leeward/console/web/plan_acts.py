"""What the buttons of the plan editor do to a draft (see `plan_draft`): one act at a time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from leeward.console.web.forms import Form
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.plan_draft import (
    CHECK,
    KINDS,
    MOST_GROUPS,
    MOST_IN_ALL,
    MOST_PARTS,
    PARTS,
    SCRIPT,
    Draft,
    in_all,
    new_group,
)


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
    if len(group["checks"]) >= MOST_PARTS or in_all(draft) >= MOST_IN_ALL:
        return Acted(draft)
    group["checks"].append({**CHECK, "vm": group["vms"][0] if group["vms"] else ""})
    return Acted(draft, f"f-groups.{place}.checks.{len(group['checks']) - 1}.vm", phrase(N_("Check added.")))


def _add_script(draft: Draft, place: str, when: str) -> Acted:
    scripts = _group(draft, place)[{"before": "before", "after": "after"}[when]]
    if len(scripts) >= MOST_PARTS or in_all(draft) >= MOST_IN_ALL:
        return Acted(draft)
    scripts.append({**SCRIPT, "kinds": list(KINDS)})
    return Acted(draft, f"f-groups.{place}.{when}.{len(scripts) - 1}.run", phrase(N_("Script added.")))


def _remove_part(draft: Draft, place: str, part: str, number: str) -> Acted:
    if part not in PARTS:
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
