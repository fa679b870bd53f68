"""The HTTP API of the settings of alerts. It only translates. Secrets go in and never come out."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from leeward.console.access import GuardedRoute, about, admin
from leeward.console.alerts.center import AlertCenter
from leeward.console.alerts.settings import MAIL, WEBHOOK, Channel, MailSettings, Rules, Security, WebhookSettings
from leeward.console.web.alert_checking import SECRETS, Checked, Wrong, check_channel, check_rules
from leeward.console.web.language import language_named
from leeward.domain.errors import BadInput, LeewardError, NotFound
from leeward.state.clock import stamp


class ChannelState(BaseModel):
    """has_secret: one is stored; it is never shown. last_good: when a message last got through. failing_since,
    error: while none gets through."""

    has_secret: bool
    last_good: str | None
    failing_since: str | None
    error: str


class MailView(ChannelState, MailSettings):
    """As it is set."""

    model_config = ConfigDict(frozen=True)


class WebhookView(ChannelState, WebhookSettings):
    """As it is set."""

    model_config = ConfigDict(frozen=True)


class SettingsView(BaseModel):
    """mail, webhook: null while nothing was ever set."""

    mail: MailView | None
    webhook: WebhookView | None
    rules: Rules


class Sent(BaseModel):
    """The other side has taken the test message."""

    channel: str
    sent: bool = True


class _Change(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class MailChange(_Change):
    """As in MailSettings. password: of `user`; it has to be given again when the server or the way to it changes."""

    enabled: bool | None = None
    host: str | None = None
    port: int | None = None
    security: Security | None = None
    user: str | None = None
    sender: str | None = None
    recipients: list[str] | None = None
    ca: str | None = None
    password: str | None = Field(default=None, max_length=1000)


class WebhookChange(_Change):
    """As in WebhookSettings. secret: that posts are signed with; to be given again for another address."""

    enabled: bool | None = None
    url: str | None = None
    ca: str | None = None
    secret: str | None = Field(default=None, max_length=1000)


class RulesChange(_Change):
    """As in Rules."""

    rpo_grace_s: float | None = None
    host_grace_s: float | None = None
    vault_grace_s: float | None = None
    full: int | None = None
    drill_days: int | None = None
    remind_h: int | None = None
    language: str | None = None
    zone: str | None = None


# What a channel that was never set begins with; the rest has to be said.
_FIRST: dict[str, dict[str, Any]] = {
    MAIL: {"host": "", "port": 587, "security": Security.STARTTLS, "user": "", "sender": "", "recipients": ()},
    WEBHOOK: {"url": ""},
}


def build_router(center: AlertCenter) -> APIRouter:
    router = APIRouter(prefix="/api/v1/alerts/settings", route_class=GuardedRoute)
    settings = center.settings
    # Of two that change different fields at once neither is lost.
    changing = threading.Lock()

    def checked(name: str, change: _Change) -> Checked:
        """What is set now with the change on it. Raises BadInput."""
        given, stored = change.given(), settings.channel(name)
        secret = given.pop(SECRETS[name], "")
        before = stored.settings.model_dump() if stored else {"enabled": False, "ca": "", **_FIRST[name]}
        found = check_channel(name, {**before, **given}, secret, stored)
        if found.settings is None:
            raise _refusal(found.wrong)
        return found

    def change_channel(request: Request, name: str, change: _Change) -> Channel:
        about(request, name)  # and not the address that an error is of
        with changing:
            found = checked(name, change)
            assert found.settings is not None
            about(request, name, "on" if found.settings.enabled else "off")
            settings.save_channel(name, found.settings, found.secret)
        kept = settings.channel(name)
        assert kept is not None
        return kept

    def try_out(request: Request, name: str, change: _Change) -> Sent:
        """With the change, which is not saved."""
        about(request, name)
        if settings.channel(name) is None and not change.given():
            raise NotFound("nothing is set for this channel yet", subject=name)
        found = checked(name, change)
        assert found.settings is not None
        secret = settings.secret(name) if found.secret is None else found.secret
        center.postman.try_out(found.settings, secret, settings.rules())
        about(request, name, "sent")
        return Sent(channel=name)

    @router.get("", dependencies=admin)
    def alert_settings() -> SettingsView:
        mail, webhook = settings.channel(MAIL), settings.channel(WEBHOOK)
        return SettingsView(
            mail=MailView.model_validate(_shown(mail)) if mail else None,
            webhook=WebhookView.model_validate(_shown(webhook)) if webhook else None,
            rules=settings.rules(),
        )

    @router.patch("/mail", dependencies=admin)
    def set_alert_mail(request: Request, change: MailChange) -> MailView:
        return MailView.model_validate(_shown(change_channel(request, MAIL, change)))

    @router.patch("/webhook", dependencies=admin)
    def set_alert_webhook(request: Request, change: WebhookChange) -> WebhookView:
        return WebhookView.model_validate(_shown(change_channel(request, WEBHOOK, change)))

    @router.patch("/rules", dependencies=admin)
    def set_alert_rules(request: Request, change: RulesChange) -> Rules:
        given = change.given()
        about(request, "rules", ", ".join(f"{name}={value}" for name, value in given.items()))
        with changing:
            rules, wrong = check_rules({**settings.rules().model_dump(), **given}, {})
            if rules is None:
                raise _refusal(wrong)
            settings.save_rules(rules)
        return rules

    @router.post("/mail/test", dependencies=admin)
    def test_alert_mail(request: Request, change: MailChange) -> Sent:
        return try_out(request, MAIL, change)

    @router.post("/webhook/test", dependencies=admin)
    def test_alert_webhook(request: Request, change: WebhookChange) -> Sent:
        return try_out(request, WEBHOOK, change)

    return router


def _shown(channel: Channel) -> dict[str, Any]:
    return {
        **channel.settings.model_dump(),
        "has_secret": channel.has_secret,
        "last_good": stamp(channel.good) if channel.good is not None else None,
        "failing_since": stamp(channel.failed) if channel.failed is not None else None,
        "error": channel.error,
    }


def _refusal(wrong: Wrong) -> LeewardError:
    """The first field that is wrong, by name; what was given is not repeated."""
    field, why = next(iter(wrong.items()))
    said = language_named("en").say(why).rstrip(".")
    return BadInput(said[:1].lower() + said[1:], subject=field)
