"""The policy of a protected VM as a form. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from leeward.console.views import DrillRequest, DrillView, ProtectRequest
from leeward.console.web.forms import Form, note_faults, span_field, whole_field
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.drills import LONGEST_EVERY_S, LONGEST_KEEP_S, SHORTEST_S, read_window
from leeward.domain.durations import short
from leeward.domain.errors import BadInput
from leeward.wire.messages import PolicyMessage

SPANS = ("rpo_s", "retain_s", "hourly_s", "daily_s", "app_interval_s")
DRILL = ("drill_every", "drill_mode", "drill_window", "drill_keep")
_MIB = 1 << 20


def filled(policy: PolicyMessage) -> dict[str, str]:
    """The form's fields. bandwidth: MiB a second, 0 for no limit."""
    fields = {name: short(getattr(policy, name)) for name in SPANS}
    return fields | {"bandwidth": f"{-(-policy.bandwidth // _MIB)}"}


def filled_several(policies: Sequence[PolicyMessage]) -> dict[str, str]:
    """The form's fields of several VMs, of which these are protected: what all of them have, "" where they differ,
    which leaves each as it is."""
    each = [filled(policy) for policy in policies or (PolicyMessage(),)]
    return {name: value if all(one[name] == value for one in each) else "" for name, value in each[0].items()}


def read_policy(form: Form) -> tuple[ProtectRequest | None, dict[str, Phrase]]:
    """(what to ask for, None when something is wrong; what is wrong by field)."""
    wrong: dict[str, Phrase] = {}
    values: dict[str, Any] = {name: span_field(form, name, wrong) for name in SPANS}
    limit = whole_field(form, "bandwidth", wrong)
    values["bandwidth"] = None if limit is None else limit * _MIB
    given = {name: value for name, value in values.items() if value is not None}
    try:
        PolicyMessage.model_validate(given)
    except ValidationError as error:
        note_faults(error, wrong, lambda name, limit: short(limit) if name in SPANS else f"{limit / _MIB:g}", {})
    return (None if wrong else ProtectRequest(**given)), wrong


@dataclass(frozen=True, slots=True)
class DrillWish:
    """request: None for no schedule."""

    request: DrillRequest | None


def drill_filled(drill: DrillView | None) -> dict[str, str]:
    """The drill's fields. drill_every: "" for never."""
    if drill is None:
        return {"drill_every": "", "drill_mode": "warn", "drill_window": "", "drill_keep": "10min"}
    every, keep = short(drill.every_s), short(drill.keep_s)
    return {"drill_every": every, "drill_mode": drill.mode, "drill_window": drill.window, "drill_keep": keep}


def read_drill(form: Form, wrong: dict[str, Phrase], several: bool = False) -> DrillWish | None:
    """None: the form does not speak of drills, or something is wrong with what it says (see `wrong`). several: it is
    for several VMs; an empty interval then leaves each the schedule that it has."""
    if not any(form.has(name) for name in DRILL):
        return None
    every, keep = span_field(form, "drill_every", wrong), span_field(form, "drill_keep", wrong)
    if every is not None and every and not SHORTEST_S <= every <= LONGEST_EVERY_S:
        wrong["drill_every"] = phrase(N_("From 1 hour to 10 years; empty: never."))
    if keep is not None and keep > LONGEST_KEEP_S:
        wrong["drill_keep"] = phrase(N_("At most {limit}."), limit=short(LONGEST_KEEP_S))
    try:
        read_window(form["drill_window"])
    except BadInput:
        wrong["drill_window"] = phrase(N_("Write it like 22:00-04:00; empty: at any time."))
    if any(name in wrong for name in DRILL) or (several and every is None):
        return None
    if not every:
        return DrillWish(None)
    mode: Literal["warn", "run"] = "run" if form["drill_mode"] == "run" else "warn"
    keep_s = 600.0 if keep is None else keep
    return DrillWish(DrillRequest(every_s=every, mode=mode, window=form["drill_window"].strip(), keep_s=keep_s))
