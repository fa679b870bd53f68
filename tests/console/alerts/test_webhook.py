"""Posts to a real web server on this machine, which checks the signature as docs/alerts.md says."""

import hashlib
import hmac
import json
import socket

import pytest

from leeward.console.alerts import webhook
from leeward.console.alerts.settings import WebhookSettings
from leeward.console.alerts.webhook import post
from leeward.domain.errors import Refused, Unavailable

SECRET = "a secret of some length"


def test_what_is_posted_is_signed_over_time_and_body(receiver):
    post(WebhookSettings(url=receiver.url), SECRET, {"text": "ホスト"}, 1_800_000_000.7)
    ((headers, body),) = receiver.posts
    assert headers["X-Leeward-Timestamp"] == "1800000000"
    signed = hmac.new(SECRET.encode(), b"1800000000." + body, hashlib.sha256).hexdigest()
    assert headers["X-Leeward-Signature"] == f"sha256={signed}"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"text": "ホスト"}


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
def test_only_a_2xx_is_a_success(receiver, status):
    """A redirection is not followed: what is signed for one address is not for another."""
    receiver.status = status
    with pytest.raises(Refused, match=f"status {status}"):
        post(WebhookSettings(url=receiver.url), SECRET, {}, 0.0)
    assert len(receiver.posts) == 1


def test_a_receiver_that_is_gone_is_told(receiver):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(Unavailable, match="cannot be reached"):
        post(WebhookSettings(url=url), SECRET, {}, 0.0)


def test_a_receiver_that_never_answers_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(webhook, "_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Unavailable, match="did not answer"):
            post(WebhookSettings(url=url), SECRET, {}, 0.0)
