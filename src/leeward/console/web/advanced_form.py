"""What of a policy concerns other hosts and other VMs: a warm replica, a consistency group. Pure.

The service has the last word on both. What can be seen beforehand is said here, beside its field and before anything
is changed: of several VMs none would be left halfway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from leeward.console.views import HostView, StatusView
from leeward.console.web.forms import Form, note_faults, span_field
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.durations import short
from leeward.wire.messages import PolicyMessage

ADVANCED = ("warm", "grouping", "group", "group_s")
# Of several VMs: what each has. No host can be called that.
KEEP = "*"
# Of several VMs: they all are to be of the group that is named beside. The third choice is "", of none.
NAMED = "named"
_GROUP_NAME = N_("Up to 64 letters from A to Z, digits, dots, dashes and underscores, without spaces.")


@dataclass(frozen=True, slots=True)
class Group:
    """A consistency group that exists. host: of its VMs; every_s: between two instants."""

    name: str
    host: str
    vms: tuple[str, ...]
    every_s: float


@dataclass(frozen=True, slots=True)
class Advanced:
    """What the form offers. hosts: that can keep a warm replica. keeps: there is something that may be left as it is.
    every: the interval in force, as it is typed, "" where there is none. used: one of the settings is in use."""

    hosts: tuple[str, ...]
    keeps: bool
    groups: tuple[Group, ...]
    every: str
    used: bool


def members_of(statuses: Sequence[StatusView]) -> dict[str, list[StatusView]]:
    """By the name of their consistency group, each in the order of the VMs' names."""
    found: dict[str, list[StatusView]] = {}
    for one in sorted(statuses, key=lambda one: one.vm):
        if one.policy and one.policy.group:
            found.setdefault(one.policy.group, []).append(one)
    return found


def groups_of(statuses: Sequence[StatusView]) -> tuple[Group, ...]:
    """By name."""
    return tuple(_group(name, members) for name, members in sorted(members_of(statuses).items()))


def _group(name: str, members: Sequence[StatusView]) -> Group:
    every_s = min(one.policy.group_s for one in members if one.policy)
    return Group(name, members[0].host, tuple(one.vm for one in members), every_s)


def advanced(
    found: Sequence[StatusView], statuses: Sequence[StatusView], hosts: Sequence[HostView], several: bool
) -> Advanced:
    """found: the VMs that were chosen, or what is left of them; statuses: of all. several: the form is for several,
    so that what is left empty stays, however many are left."""
    homes = {_home(one) for one in found}
    offered = [host.name for host in hosts if host.site == "recovery" and homes != {host.name}]
    policies = [one.policy for one in found if one.policy]
    # Another one that the policy names, known now or not, is shown all the same.
    offered += sorted({policy.warm for policy in policies if policy.warm} - set(offered))
    every = short(policies[0].group_s) if not several and policies and policies[0].group else ""
    used = any(policy.warm or policy.group for policy in policies)
    return Advanced(tuple(offered), several and bool(policies), groups_of(statuses), every, used)


def advanced_filled(found: Sequence[StatusView]) -> dict[str, str]:
    """The fields. Of several VMs each has its own: what is left empty stays. The interval never is filled in: it is
    the whole group's, and who saves this form for another reason must not change that."""
    if len(found) > 1:
        kept = KEEP if any(one.policy for one in found) else ""
        return {"warm": kept, "grouping": kept, "group": "", "group_s": ""}
    policy = found[0].policy or PolicyMessage()
    return {"warm": policy.warm, "grouping": "", "group": policy.group, "group_s": ""}


def advanced_typed(form: Form) -> dict[str, str]:
    """The fields as they were filled in. A page that was loaded before there was a choice leaves groups alone unless
    it names one."""
    typed = form.values(*ADVANCED)
    return typed if form.has("grouping") else typed | {"grouping": NAMED if typed["group"].strip() else KEEP}


def read_advanced(
    form: Form,
    found: Sequence[StatusView],
    statuses: Sequence[StatusView],
    hosts: Sequence[HostView],
    several: bool,
    wrong: dict[str, Phrase],
) -> dict[str, Any]:
    """Fields of a request to protect, see `changes_of`; what cannot be goes to `wrong`. several: see `advanced`."""
    values: dict[str, Any] = {}
    if form.has("warm") and not (several and form["warm"] == KEEP):
        values["warm"] = form["warm"] or False
        if why := _wrong_host(form["warm"], found, hosts):
            wrong["warm"] = why
    group = _group_field(form, several, wrong)
    if group is not None:
        values["group"] = group
    if (every := span_field(form, "group_s", wrong)) is not None:
        values["group_s"] = every
    try:
        PolicyMessage.model_validate({name: values[name] for name in ("group", "group_s") if name in values})
    except ValidationError as error:
        note_faults(error, wrong, lambda name, limit: short(limit), {"group": _GROUP_NAME})
    if group and "group" not in wrong and (why := _scattered(group, found, statuses)):
        wrong["group"] = why
    if every is not None and not group and not (several and all(one.policy and one.policy.group for one in found)):
        wrong.setdefault("group_s", phrase(N_("Name a group, or leave this empty.")))
    return values


def _group_field(form: Form, several: bool, wrong: dict[str, Phrase]) -> str | None:
    """The group that all are to be of, "" for none; None: each stays in what it has."""
    group = form["group"].strip()
    if not several:
        return group if form.has("group") else None
    choice = advanced_typed(form)["grouping"]
    if choice != NAMED:
        return "" if choice == "" else None
    if not group:
        wrong["group"] = phrase(N_("Name the group."))
    return group or None


def changes_of(one: StatusView, values: Mapping[str, Any]) -> dict[str, Any]:
    """What of `read_advanced` is to be asked for this VM. A host that it has already is not asked for again: it may
    have gone since, which must keep nobody from changing the rest."""
    policy = one.policy or PolicyMessage()
    same = (values.get("warm", False) or "") == policy.warm
    return {name: value for name, value in values.items() if not (name == "warm" and same)}


def _home(one: StatusView) -> str:
    return one.home or one.host


def _wrong_host(wanted: str, found: Sequence[StatusView], hosts: Sequence[HostView]) -> Phrase | None:
    if not wanted:
        return None
    asked = [one for one in found if not (one.policy and one.policy.warm == wanted)]
    if at_home := [one.vm for one in asked if _home(one) == wanted]:
        text = N_("{host} is the home of {vms}: a replica there would be lost together with it. Choose another host.")
        return phrase(text, host=wanted, vms=", ".join(at_home))
    if asked and all(host.name != wanted for host in hosts):
        return phrase(N_("There is no host {host} now."), host=wanted)
    return None


def _scattered(group: str, found: Sequence[StatusView], statuses: Sequence[StatusView]) -> Phrase | None:
    """Why these VMs cannot all be of this group: across hosts there is no instant that all agree on."""
    joining = [one for one in found if not (one.policy and one.policy.group == group)]
    chosen = {one.vm_id for one in found}
    there = [one for one in statuses if one.policy and one.policy.group == group and one.vm_id not in chosen]
    there += [one for one in found if one not in joining]
    for one in joining:
        other = next((other for other in there if other.host != one.host), None)
        if other is not None:
            text = N_("A group is of one host: {group} is on {host} ({other}), and {vm} is on {place}.")
            return phrase(text, group=group, host=other.host, other=other.vm, vm=one.vm, place=one.host)
        if one.host != joining[0].host:
            text = N_("A group is of one host: {other} is on {host}, and {vm} is on {place}.")
            first = joining[0]
            return phrase(text, other=first.vm, host=first.host, vm=one.vm, place=one.host)
    return None
