"""The policy of a protected VM as a form. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from leeward.console.views import ProtectRequest
from leeward.console.web.forms import Form, span_field, whole_field
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.wire.messages import PolicyMessage

SPANS = ("rpo_s", "retain_s", "hourly_s", "daily_s", "app_interval_s")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_MIB = 1 << 20


def short(seconds: float) -> str:
    """As it is typed: 5s, 10min, 2h, 7d."""
    for length, unit in _UNITS:
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


def filled(policy: PolicyMessage) -> dict[str, str]:
    """The form's fields. bandwidth: MiB a second, 0 for no limit."""
    fields = {name: short(getattr(policy, name)) for name in SPANS}
    return fields | {"bandwidth": f"{-(-policy.bandwidth // _MIB)}"}


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
        for one in error.errors():
            wrong.setdefault(str(one["loc"][0]), _bound(str(one["loc"][0]), one))
    return (None if wrong else ProtectRequest(**given)), wrong


def _bound(name: str, error: Any) -> Phrase:
    context = error.get("ctx", {})
    show = short if name in SPANS else lambda value: f"{value / _MIB:g}"
    if "ge" in context:
        return phrase(N_("At least {limit}."), limit=show(context["ge"]))
    if "le" in context:
        return phrase(N_("At most {limit}."), limit=show(context["le"]))
    return phrase(N_("This cannot be used."))
