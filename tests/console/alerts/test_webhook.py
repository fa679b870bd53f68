"""Posts to a real web server on this machine, which checks the signature as docs/alerts.md says."""

import hashlib
import hmac
import json
import socket

import pytest
from tests.console.alerts.receivers import nobody_there

from leeward.console.alerts import webhook
from leeward.console.alerts.settings import WebhookSettings
from leeward.console.alerts.webhook import post
from leeward.domain.errors import LeewardError, Refused, Unavailable

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


def test_a_receiver_that_is_gone_is_told():
    with nobody_there() as port, pytest.raises(Unavailable, match="cannot be reached"):
        post(WebhookSettings(url=f"http://127.0.0.1:{port}/"), SECRET, {}, 0.0)


@pytest.mark.parametrize("url", ["https://a..b/", f"https://{'x' * 64}.example/", "https://b\u00fccher..example/"])
def test_a_name_that_no_host_can_have_is_told(url):
    with pytest.raises(Unavailable, match="no host can have this name"):
        post(WebhookSettings(url=url), SECRET, {}, 0.0)


def test_errors_tell_the_receiver_and_not_the_path_which_may_be_a_token(receiver, monkeypatch):
    monkeypatch.setattr(webhook, "_TIMEOUT_S", 0.3)
    receiver.status = 500
    with nobody_there() as port, socket.create_server(("127.0.0.1", 0)) as silent:
        gone, mute = (f"127.0.0.1:{one}" for one in (port, silent.getsockname()[1]))
        there = receiver.url.split("/")[2]
        for where, who in ((gone, ""), (mute, ""), (there, ""), (gone, ":t0ken@"), ("a..b", "")):
            with pytest.raises(LeewardError) as told:
                post(WebhookSettings(url=f"http://{who}{where}/hooks/t0ken?key=t0ken"), SECRET, {}, 0.0)
            assert told.value.subject == where
            assert "t0ken" not in str(told.value)


def test_a_receiver_that_never_answers_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(webhook, "_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Unavailable, match="did not answer"):
            post(WebhookSettings(url=url), SECRET, {}, 0.0)
