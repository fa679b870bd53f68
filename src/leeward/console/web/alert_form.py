"""The settings of alerts as forms: filled in, and read with what is wrong beside each field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ValidationError

from leeward.console.alerts.settings import (
    LEAST_SECRET,
    MAIL,
    WEBHOOK,
    ChannelSettings,
    MailSettings,
    Rules,
    Security,
    WebhookSettings,
    names_a_host,
)
from leeward.console.web.forms import Form, note_faults, required, span_field, whole_field
from leeward.console.web.language import LANGUAGES
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.policy_form import short

_SPANS = ("rpo_grace_s", "host_grace_s", "vault_grace_s")
_WHOLES = ("full", "drill_days", "remind_h")
_HERE = ("localhost", "127.0.0.1", "::1")
# channel → the field of its secret
SECRETS = {MAIL: "password", WEBHOOK: "secret"}
_ODD = {
    "host": N_("Write a name like mail.example.com, or an address."),
    "sender": N_("Write an address like leeward@example.com."),
    "recipients": N_("Write addresses like anna@example.com, separated by commas."),
    "url": N_("Write an address like https://example.com/hook."),
    "ca": N_("This is no certificate in PEM form."),
}
_Made = TypeVar("_Made", bound=BaseModel)
Wrong = dict[str, Phrase]


def filled_rules(rules: Rules) -> dict[str, str]:
    fields = {name: short(getattr(rules, name)) for name in _SPANS}
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
    wrong = required(form, *_SPANS, *_WHOLES, "zone")
    values: dict[str, Any] = {name: span_field(form, name, wrong) for name in _SPANS}
    values |= {name: whole_field(form, name, wrong) for name in _WHOLES}
    values |= {"language": form["language"], "zone": form["zone"].strip()}
    if values["language"] not in LANGUAGES:
        wrong["language"] = phrase(N_("Choose a language."))
    if values["zone"] and not _is_zone(values["zone"]):
        wrong["zone"] = phrase(N_("Write a time zone like Asia/Tokyo or UTC."))
    return _made(Rules, values, wrong)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def read_channel(
    name: str, form: Form, known: ChannelSettings | None, has_secret: bool
) -> tuple[ChannelSettings | None, str | None, Wrong]:
    """(settings, None when something is wrong; the new secret, None to keep the one there is; what is wrong by field)

    A stored secret is only kept for the server that it was stored for: nobody gets it sent elsewhere without knowing
    it.
    """
    read = _read_mail if name == MAIL else _read_webhook
    settings, wrong = read(form)
    field = SECRETS[name]
    secret: str | None = form[field] or None
    if settings is not None and secret is None:
        secret = _without_secret(settings, known, has_secret, wrong)
    if name == WEBHOOK and secret is not None and len(secret) < LEAST_SECRET:
        wrong[field] = phrase(N_("At least {limit} characters."), limit=LEAST_SECRET)
    if wrong and form[field] and field not in wrong:
        wrong[field] = phrase(N_("Type it again: it is not sent back to the page."))
    return (None if wrong else settings), secret, wrong


def _without_secret(
    settings: ChannelSettings, known: ChannelSettings | None, has_secret: bool, wrong: Wrong
) -> str | None:
    if isinstance(settings, MailSettings) and not settings.user:
        return ""  # who does not sign in has no password
    field = SECRETS[MAIL if isinstance(settings, MailSettings) else WEBHOOK]
    if not has_secret or known is None:
        wrong[field] = phrase(N_("Fill this in."))
    elif _to(known) != _to(settings):
        wrong[field] = phrase(N_("Type it again: the server is another one now."))
    return None


def _to(settings: ChannelSettings) -> tuple[object, ...]:
    """Whom the secret is for, and how well it is kept on the way."""
    if isinstance(settings, MailSettings):
        return settings.host, settings.port, settings.user, settings.security, settings.ca
    return (settings.url,)


def _read_mail(form: Form) -> tuple[MailSettings | None, Wrong]:
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
    if values["security"] not in set(Security):
        wrong["security"] = phrase(N_("Choose one."))
    elif values["user"] and values["security"] == Security.PLAIN and values["host"] not in _HERE:
        wrong["security"] = phrase(N_("A password is not sent in clear over a network."))
    for field in ("user", "password") if values["user"] else ():
        if not form[field].isascii():
            wrong[field] = phrase(N_("ASCII characters only: a login by mail takes no others."))
    made, wrong = _made(MailSettings, values, wrong)
    if made is not None and not names_a_host(made.host):
        wrong["host"] = phrase(_ODD["host"])
    return (None if wrong else made), wrong


def _read_webhook(form: Form) -> tuple[WebhookSettings | None, Wrong]:
    wrong = required(form, "url")
    values = {"enabled": form.given("enabled"), "url": form["url"].strip(), "ca": form["ca"].strip()}
    made, wrong = _made(WebhookSettings, values, wrong)
    if made is not None and not names_a_host(urlsplit(made.url).hostname or ""):
        wrong["url"] = phrase(_ODD["url"])
    return (None if wrong else made), wrong


def _made(model: type[_Made], values: Mapping[str, Any], wrong: Wrong) -> tuple[_Made | None, Wrong]:
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        note_faults(error, wrong, lambda name, limit: short(limit) if name in _SPANS else f"{limit:g}", _ODD)
        return None, wrong
    return (None if wrong else made), wrong
