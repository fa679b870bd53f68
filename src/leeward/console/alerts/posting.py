"""How a batch of news goes through each channel, and a test message through settings that are being tried."""

from __future__ import annotations

import time
from typing import Any

from leeward.console.alerts.couriers import Batch, Piece
from leeward.console.alerts.mail import send_mail
from leeward.console.alerts.settings import Channel, MailSettings, Rules, WebhookSettings
from leeward.console.alerts.webhook import post
from leeward.console.web.alert_letters import From, letter, test_letter
from leeward.console.web.alert_words import BEST, best, said
from leeward.console.web.language import language_named
from leeward.state.clock import stamp

VERSION = 1


class Postman:
    def __init__(self, sender: From) -> None:
        self._sender = sender

    def send(self, channel: Channel, secret: str, batch: Batch) -> None:
        """Raises LeewardError."""
        if isinstance(channel.settings, MailSettings):
            written = letter(batch, self._sender)
            send_mail(channel.settings, secret, written.subject, written.text)
        else:
            post(channel.settings, secret, document(batch, self._sender), time.time())

    def try_out(self, settings: MailSettings | WebhookSettings, secret: str, rules: Rules) -> None:
        """One test message. Raises LeewardError."""
        if isinstance(settings, MailSettings):
            written = test_letter(rules, self._sender)
            send_mail(settings, secret, written.subject, written.text)
        else:
            now = time.time()
            post(settings, secret, document(Batch((), rules, now), self._sender) | {"test": True}, now)


def document(batch: Batch, sender: From) -> dict[str, Any]:
    """As docs/alerts.md tells it."""
    return {
        "version": VERSION,
        "console": sender.name,
        "time": stamp(batch.time),
        "test": False,
        "alerts": [_alert(piece, batch, sender) for piece in batch.pieces],
    }


def _alert(piece: Piece, batch: Batch, sender: From) -> dict[str, Any]:
    alert, language = piece.alert, language_named(batch.rules.language)
    return {
        "message": piece.id,
        "news": piece.news.value,
        "id": alert.id,
        "kind": alert.kind.value,
        "severity": alert.severity.value,
        "text": language.say(said(alert.kind, alert.name, batch.rules.limits.drill_s)),
        "detail": alert.detail,
        "advice": language.say(BEST[alert.kind].advice),
        "subject": alert.subject,
        "name": alert.name,
        "host": alert.host,
        "began": stamp(alert.began),
        "ended": stamp(alert.ended) if alert.ended is not None else None,
        "url": f"{sender.address}{best(alert.kind, alert.subject, alert.name)}" if sender.address else None,
    }
