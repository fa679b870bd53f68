"""What may be set for alerts, beyond what each field can hold: for the dashboard's forms and for the API. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ValidationError

from leeward.console.alerts.settings import (
    LEAST_SECRET,
    MAIL,
    WEBHOOK,
    Channel,
    ChannelSettings,
    MailSettings,
    Rules,
    Security,
    WebhookSettings,
    names_a_host,
)
from leeward.console.web.forms import note_faults
from leeward.console.web.language import LANGUAGES
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.durations import short

SPANS = ("rpo_grace_s", "host_grace_s", "vault_grace_s")
# channel → the field of its secret
SECRETS = {MAIL: "password", WEBHOOK: "secret"}
_HERE = ("localhost", "127.0.0.1", "::1")
_ODD = {
    "host": N_("Write a name like mail.example.com, or an address."),
    "sender": N_("Write an address like leeward@example.com."),
    "recipients": N_("Write addresses like anna@example.com, separated by commas."),
    "url": N_("Write an address like https://example.com/hook."),
    "ca": N_("This is no certificate in PEM form."),
}
_Made = TypeVar("_Made", bound=BaseModel)
# What is wrong, by field.
Wrong = dict[str, Phrase]


@dataclass(frozen=True, slots=True)
class Checked:
    """settings: None when something is wrong. secret: the new one, None to keep the one there is."""

    settings: ChannelSettings | None
    secret: str | None
    wrong: Wrong


def check_rules(values: Mapping[str, Any], wrong: Wrong) -> tuple[Rules | None, Wrong]:
    """(the rules, None when something is wrong; what is wrong). values: by the names of Rules. wrong: what was found
    already when they were read."""
    wrong = dict(wrong)
    if values["language"] not in LANGUAGES:
        wrong["language"] = phrase(N_("Choose a language."))
    if "zone" not in wrong and not _is_zone(values["zone"]):
        wrong["zone"] = phrase(N_("Write a time zone like Asia/Tokyo or UTC."))
    return _made(Rules, values, wrong)


def check_channel(
    name: str, values: Mapping[str, Any], secret: str, stored: Channel | None, wrong: Wrong | None = None
) -> Checked:
    """values: by the names of the channel's settings. secret: "" when none was given. stored: what is set now. wrong:
    what was found already when they were read.

    A stored secret is only kept for the server that it was stored for: nobody gets it sent elsewhere without knowing
    it.
    """
    check = _check_mail if name == MAIL else _check_webhook
    settings, wrong = check(values, secret, dict(wrong or {}))
    new: str | None = secret or None
    if settings is not None and new is None:
        new = _without_secret(settings, stored, wrong)
    if name == WEBHOOK and new is not None and len(new) < LEAST_SECRET:
        wrong[SECRETS[name]] = phrase(N_("At least {limit} characters."), limit=LEAST_SECRET)
    return Checked(None if wrong else settings, new, wrong)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _without_secret(settings: ChannelSettings, stored: Channel | None, wrong: Wrong) -> str | None:
    if isinstance(settings, MailSettings) and not settings.user:
        return ""  # who does not sign in has no password
    field = SECRETS[MAIL if isinstance(settings, MailSettings) else WEBHOOK]
    if stored is None or not stored.has_secret:
        wrong[field] = phrase(N_("Fill this in."))
    elif _to(stored.settings) != _to(settings):
        wrong[field] = phrase(N_("Type it again: the server is another one now."))
    return None


def _to(settings: ChannelSettings) -> tuple[object, ...]:
    """Whom the secret is for, and how well it is kept on the way."""
    if isinstance(settings, MailSettings):
        return settings.host, settings.port, settings.user, settings.security, settings.ca
    return (settings.url,)


def _check_mail(values: Mapping[str, Any], password: str, wrong: Wrong) -> tuple[MailSettings | None, Wrong]:
    user = values["user"]
    if values["security"] not in set(Security):
        wrong["security"] = phrase(N_("Choose one."))
    elif user and values["security"] == Security.PLAIN and values["host"] not in _HERE:
        wrong["security"] = phrase(N_("A password is not sent in clear over a network."))
    for field, text in (("user", user), ("password", password)) if user else ():
        if not text.isascii():
            wrong[field] = phrase(N_("ASCII characters only: a login by mail takes no others."))
    made, wrong = _made(MailSettings, values, wrong)
    if made is not None and not names_a_host(made.host):
        wrong["host"] = phrase(_ODD["host"])
    return (None if wrong else made), wrong


def _check_webhook(values: Mapping[str, Any], _: str, wrong: Wrong) -> tuple[WebhookSettings | None, Wrong]:
    made, wrong = _made(WebhookSettings, values, wrong)
    if made is not None and not names_a_host(urlsplit(made.url).hostname or ""):
        wrong["url"] = phrase(_ODD["url"])
    return (None if wrong else made), wrong


def _made(model: type[_Made], values: Mapping[str, Any], wrong: Wrong) -> tuple[_Made | None, Wrong]:
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        note_faults(error, wrong, lambda name, limit: short(limit) if name in SPANS else f"{limit:g}", _ODD)
        return None, wrong
    return (None if wrong else made), wrong
