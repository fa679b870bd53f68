"""The settings of alerts as forms: filled in, and read with what is wrong beside each field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leeward.console.alerts.settings import MAIL, Channel, ChannelSettings, MailSettings, Rules
from leeward.console.web.alert_checking import (
    SECRETS,
    SPANS,
    Checked,
    Wrong,
    check_channel,
    check_rules,
)
from leeward.console.web.forms import Form, required, span_field, whole_field
from leeward.console.web.phrases import N_, phrase
from leeward.domain.durations import short

_WHOLES = ("full", "drill_days", "remind_h")


def filled_rules(rules: Rules) -> dict[str, str]:
    fields = {name: short(getattr(rules, name)) for name in SPANS}
    fields |= {name: str(getattr(rules, name)) for name in _WHOLES}
    return fields | {"language": rules.language, "zone": rules.zone}


def filled_channel(name: str, settings: ChannelSettings | None) -> dict[str, str]:
    """Fields of a channel's form, also of one that was never filled in. Its secret is never among them."""
    if isinstance(settings, MailSettings):
        fields = settings.model_dump(mode="json") | {"recipients": ", ".join(settings.recipients)}
    elif settings is not None:
        fields = settings.model_dump(mode="json")
    elif name == MAIL:
        fields = {
            "host": "",
            "port": 587,
            "security": "starttls",
            "user": "",
            "sender": "",
            "recipients": "",
            "ca": "",
        }
    else:
        fields = {"url": "", "ca": ""}
    on = settings is not None and settings.enabled
    return {field: str(value) for field, value in fields.items()} | {"enabled": "1" if on else "", SECRETS[name]: ""}


def typed(form: Form, fields: Mapping[str, str]) -> dict[str, str]:
    """What the reader typed, to fill the form in again; secrets are not sent back."""
    return {name: "" if name in SECRETS.values() else form[name] for name in fields}


def read_rules(form: Form) -> tuple[Rules | None, Wrong]:
    """(the rules, None when something is wrong; what is wrong by field)."""
    wrong = required(form, *SPANS, *_WHOLES, "zone")
    values: dict[str, Any] = {name: span_field(form, name, wrong) for name in SPANS}
    values |= {name: whole_field(form, name, wrong) for name in _WHOLES}
    return check_rules(values | {"language": form["language"], "zone": form["zone"].strip()}, wrong)


def read_channel(name: str, form: Form, stored: Channel | None) -> Checked:
    """stored: what is set now."""
    values, wrong = _read_mail(form) if name == MAIL else _read_webhook(form)
    field = SECRETS[name]
    checked = check_channel(name, values, form[field], stored, wrong)
    if not checked.wrong or not form[field] or field in checked.wrong:
        return checked
    again = phrase(N_("Type it again: it is not sent back to the page."))
    return Checked(None, checked.secret, checked.wrong | {field: again})


def _read_mail(form: Form) -> tuple[dict[str, Any], Wrong]:
    wrong = required(form, "host", "port", "sender", "recipients")
    pieces = form["recipients"].replace(";", ",").replace("\n", ",").split(",")
    values = {
        "enabled": form.given("enabled"),
        "host": form["host"].strip(),
        "port": whole_field(form, "port", wrong),
        "security": form["security"],
        "user": form["user"].strip(),
        "sender": form["sender"].strip(),
        "recipients": tuple(piece.strip() for piece in pieces if piece.strip()),
        "ca": form["ca"].strip(),
    }
    return values, wrong


def _read_webhook(form: Form) -> tuple[dict[str, Any], Wrong]:
    values = {"enabled": form.given("enabled"), "url": form["url"].strip(), "ca": form["ca"].strip()}
    return values, required(form, "url")
