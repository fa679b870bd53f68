"""Webhook: news posted as JSON, signed, so that who receives it knows that it is ours and new."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx

from leeward import __version__
from leeward.console.alerts.settings import NO_NAME, WebhookSettings, names_a_host
from leeward.domain.errors import Refused, Unavailable

TIME_HEADER, SIGNATURE_HEADER = "X-Leeward-Timestamp", "X-Leeward-Signature"
_TIMEOUT_S = 15.0


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What stands in the header: over the time as well, so that an old message cannot be sent once more unseen."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def post(settings: WebhookSettings, secret: str, document: dict[str, Any], now: float) -> None:
    """Raises LeewardError. Returns when the receiver has answered with 2xx."""
    parts = urlsplit(settings.url)
    where = parts.netloc.rpartition("@")[2]  # never the path: of many receivers that alone lets one post
    if not names_a_host(parts.hostname or ""):
        raise Unavailable(f"the receiver cannot be reached: {NO_NAME}", subject=where)
    body = json.dumps(document, ensure_ascii=False).encode()
    timestamp = str(int(now))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"Leeward/{__version__}",
        TIME_HEADER: timestamp,
        SIGNATURE_HEADER: signature(secret, timestamp, body),
    }
    context = ssl.create_default_context(cadata=settings.ca or None)
    try:
        # The answer's body is of no interest, however long: it is not read.
        with (
            httpx.Client(verify=context, timeout=_TIMEOUT_S, follow_redirects=False) as client,
            client.stream("POST", settings.url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except httpx.TimeoutException:
        raise Unavailable(f"the receiver did not answer within {_TIMEOUT_S:g} s", subject=where) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Unavailable(f"the receiver cannot be reached: {error}", subject=where) from None
    if not 200 <= status < 300:
        raise Refused(f"the receiver answered with status {status}", subject=where)
