"""Settings of alerts: when something is one, and who hears of it how."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, admin
from leeward.console.alerts.settings import MAIL, WEBHOOK, ChannelSettings
from leeward.console.web.alert_form import filled_channel, filled_rules, read_channel, read_rules, typed
from leeward.console.web.forms import Form, Posted
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.domain.errors import LeewardError, NotFound

_CHANNELS = (MAIL, WEBHOOK)


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    settings, postman = parts.alerts.settings, parts.alerts.postman

    def page(
        request: Request,
        status: int = 200,
        trouble: Trouble | None = None,
        of: str = "",
        values: Mapping[str, str] | None = None,
        sent: str = "",
    ) -> Response:
        """of: which of the page's forms trouble and values are of. sent: the channel whose test went through."""
        channels = {name: settings.channel(name) for name in _CHANNELS}
        known = {name: filled_channel(name, one.settings if one else None) for name, one in channels.items()}
        known["rules"] = filled_rules(settings.rules())
        if values is not None:
            known[of] = {**known[of], **values}
        return parts.painter.page(
            request, "alert_settings.html", status, trouble=trouble, of=of, values=known, channels=channels, sent=sent
        )

    @pages.get("/settings/alerts", dependencies=admin)
    def alert_settings(request: Request) -> Response:
        return page(request)

    @pages.post("/settings/alerts/rules", dependencies=admin)
    def set_alert_rules(request: Request, form: Posted) -> Response:
        rules, bad = read_rules(form)
        if rules is None:
            return page(request, 422, wrong(bad), "rules", typed(form, filled_rules(settings.rules())))
        settings.save_rules(rules)
        parts.watch.fresh()
        return go(request, "/settings/alerts")

    def checked(request: Request, name: str, form: Form) -> tuple[ChannelSettings | Response, str | None]:
        """(what to set, or the page that tells what is wrong; the new secret, None to keep the one there is). Raises
        NotFound."""
        if name not in _CHANNELS:
            raise NotFound("there is no such channel", subject=name)
        about(request, name)  # and not the address that an error is of
        read = read_channel(name, form, settings.channel(name))
        return read.settings or page(request, 422, wrong(read.wrong), name, _typed(name, form)), read.secret

    @pages.post("/settings/alerts/{channel}", dependencies=admin)
    def set_alert_channel(request: Request, channel: str, form: Posted) -> Response:
        made, secret = checked(request, channel, form)
        if isinstance(made, Response):
            return made
        about(request, channel, "on" if made.enabled else "off")
        settings.save_channel(channel, made, secret)
        return go(request, "/settings/alerts")

    @pages.post("/settings/alerts/{channel}/test", dependencies=admin)
    def test_alert_channel(request: Request, channel: str, form: Posted) -> Response:
        """With what the form says, which need not be saved."""
        made, secret = checked(request, channel, form)
        if isinstance(made, Response):
            return made
        values = _typed(channel, form)
        try:
            postman.try_out(made, settings.secret(channel) if secret is None else secret, settings.rules())
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return page(request, status, trouble, channel, values)
        about(request, channel, "sent")
        return page(request, 200, None, channel, values, sent=channel)

    return pages


def _typed(channel: str, form: Form) -> Mapping[str, str]:
    return typed(form, filled_channel(channel, None))
