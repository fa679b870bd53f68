"""What the cloud stores make of servers that fail: real ones used wrongly, and one that misbehaves on demand."""

from __future__ import annotations

import http.client
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from leeward.domain.errors import (
    ObjectExists,
    ObjectNotFound,
    ObjectRetained,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from leeward.ports.objects import ObjectStore
from leeward.vault.stores import providers
from leeward.vault.stores.cloud import _before
from leeward.vault.stores.opening import open_store
from leeward.vault.stores.retry import Backoff, RetryingStore

_numbers = itertools.count()
KEYS = {"access_key_id": "id", "secret_access_key": "topsecret"}


def read_calls(store: ObjectStore) -> list[Callable[[], Any]]:
    return [
        lambda: store.get("a/b"),
        lambda: store.get_range("a/b", 0, 1),
        lambda: list(store.scan("a/")),
        lambda: store.folders("a/"),
    ]


def write_calls(store: ObjectStore) -> list[Callable[[], Any]]:
    return [lambda: store.put("a/b", [b"x"]), lambda: store.delete("a/b")]


def assert_raises(calls: list[Callable[[], Any]], error: type[StoreError], said: str | None = None) -> None:
    for call in calls:
        with pytest.raises(error, match=said) as caught:
            call()
        assert type(caught.value) is error
        text = str(caught.value)
        assert "\n" not in text
        assert "topsecret" not in text
        assert len(text) < 400, text


# --- real servers used wrongly ----------------------------------------------------------------------------


@pytest.mark.cloudstore
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_missing_bucket_is_not_a_missing_object(kind: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{kind}_server")
    scheme = server.url.partition("://")[0]
    store = open_store(f"{scheme}://no-such-bucket/x", retry_s=0, **server.options)
    assert_raises(read_calls(store) + write_calls(store), StoreError, "Create it first")


@pytest.mark.cloudstore
def test_wrong_key_of_an_account(azure_server: Any) -> None:
    store = open_store(f"{azure_server.url}/x", retry_s=0, **{**azure_server.options, "account_key": "AAAA"})
    assert_raises(read_calls(store), StoreError, "refused our credentials|do not allow")
    with pytest.raises(StoreError):
        store.put("a/b", [b"x"])


@pytest.mark.parametrize(
    ("url", "options"), [("s3://bucket", KEYS), ("azure://bucket", {"account": "a", "account_key": "AAAA"})]
)
def test_nobody_listens(url: str, options: dict[str, Any], free_port: int) -> None:
    store = open_store(url, retry_s=0, endpoint=f"http://127.0.0.1:{free_port}", **options)
    assert_raises([*read_calls(store), *write_calls(store), lambda: store.size("a/b")], StoreUnavailable)


# --- a server that misbehaves on demand -------------------------------------------------------------------


class Misbehaving(ThreadingHTTPServer):
    """Answers every request with `status` and an S3 error body of `code`; or does what `act` does instead."""

    daemon_threads = True
    status = 200
    code = ""
    act: Callable[[Handler], None] | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what these tests are about."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Misbehaving

    def answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.act:
            self.server.act(self)
            return
        body = f'<?xml version="1.0"?><Error><Code>{self.server.code}</Code><Message>no</Message></Error>'.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to the terminal."""


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    server = Misbehaving(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(server: Misbehaving) -> ObjectStore:
    options: dict[str, Any] = {"endpoint": server.endpoint, "read_timeout_s": 0.5, "put_timeout_s": 0.5}
    return open_store("s3://bucket/x", retry_s=0, **KEYS, **options)


@pytest.mark.parametrize(
    ("status", "code", "reading", "writing"),
    [
        (500, "InternalError", StoreUnavailable, StoreUnavailable),
        (503, "SlowDown", StoreUnavailable, StoreUnavailable),
        (502, "", StoreUnavailable, StoreUnavailable),
        (429, "TooManyRequests", StoreUnavailable, StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable, StoreUnavailable),
        (501, "NotImplemented", StoreError, StoreError),
        (400, "InvalidArgument", StoreError, StoreError),
        (400, "ExpiredToken", StoreError, StoreError),
        (403, "SignatureDoesNotMatch", StoreError, StoreError),
        (403, "RequestTimeTooSkewed", StoreError, StoreError),
        (401, "Unauthorized", StoreError, StoreError),
        (403, "AccessDenied", StoreError, StoreReadOnly),
        (403, "QuotaExceeded", StoreFull, StoreFull),
        (507, "XMinioStorageFull", StoreFull, StoreFull),
    ],
)
def test_answers_of_the_server(
    server: Misbehaving,
    store: ObjectStore,
    status: int,
    code: str,
    reading: type[StoreError],
    writing: type[StoreError],
) -> None:
    server.status, server.code = status, code
    if reading is not StoreFull:
        assert_raises(read_calls(store), reading)
    assert_raises(write_calls(store), writing)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (412, "PreconditionFailed", ObjectExists),
        (409, "BlobAlreadyExists", ObjectExists),
        (409, "ConditionalRequestConflict", StoreUnavailable),
        (404, "NoSuchKey", ObjectNotFound),
    ],
)
def test_answers_to_a_put(
    server: Misbehaving, store: ObjectStore, status: int, code: str, error: type[StoreError]
) -> None:
    server.status, server.code = status, code
    assert_raises([lambda: store.put("a/b", [b"x"])], error)


@pytest.mark.parametrize("code", ["BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"])
def test_what_azure_keeps_for_a_time_is_no_trouble_of_ours(
    server: Misbehaving, store: ObjectStore, code: str
) -> None:
    server.status, server.code = 409, code
    assert_raises([lambda: store.delete("a/b")], ObjectRetained)


def test_puts_are_conditional_single_requests(server: Misbehaving, store: ObjectStore) -> None:
    seen: list[tuple[str, str | None, int]] = []

    def act(handler: Handler) -> None:
        seen.append((handler.command, handler.headers.get("If-None-Match"), len(handler.body)))
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.send_header("ETag", '"x"')
        handler.end_headers()

    server.act = act
    store.put("a/b", [b"x" * (1 << 20)] * 40)
    assert seen == [("PUT", "*", 40 << 20)]


def hang(release: threading.Event) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        release.wait(10)

    return act


def test_silent_server_is_unavailable_as_soon_as_the_options_say(server: Misbehaving, store: ObjectStore) -> None:
    release = threading.Event()
    server.act = hang(release)
    try:
        for call in [*read_calls(store), *write_calls(store)]:
            began = time.monotonic()
            assert_raises([call], StoreUnavailable)
            assert time.monotonic() - began < 5
    finally:
        release.set()


def test_a_small_put_is_given_up_sooner_than_a_large_one(
    server: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "_PUT_TIMEOUTS", ((1000, 0.3), (4 << 20, 75.0)))
    monkeypatch.setattr(providers, "_SIZES", (1000, 4 << 20, sys.maxsize))
    store = open_store("s3://bucket/x", retry_s=0, endpoint=server.endpoint, **KEYS)

    def act(handler: Handler) -> None:
        time.sleep(1.0)
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.send_header("ETag", '"x"')
        handler.end_headers()

    server.act = act
    assert_raises([lambda: store.put("a/small", [b"x" * 1000]), lambda: store.delete("a/small")], StoreUnavailable)
    store.put("a/large", [b"x" * 1001])


def test_answer_that_stops_in_the_middle_is_unavailable(server: Misbehaving, store: ObjectStore) -> None:
    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.send_header("ETag", '"x"')
        handler.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        handler.end_headers()
        handler.wfile.write(b"x" * 500)
        handler.close_connection = True

    server.act = act
    assert_raises([lambda: store.get("a/b")], StoreUnavailable)


def test_listing_out_of_order_is_refused(server: Misbehaving, store: ObjectStore) -> None:
    def act(handler: Handler) -> None:
        entry = "<Contents><Key>x/{}</Key><Size>1</Size><LastModified>2025-01-01T00:00:00Z</LastModified></Contents>"
        entries = "".join(entry.format(key) for key in ("a/2", "a/1"))
        body = f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>'
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())

    server.act = act
    assert_raises([lambda: list(store.scan("a/"))], StoreError, "in order")


@pytest.mark.cloudstore
def test_put_whose_acknowledgement_was_lost(server: Misbehaving, s3_server: Any) -> None:
    """The request reaches the real server, its answer does not reach us: the retry finds our own object."""
    real = urlsplit(s3_server.options["endpoint"])
    answers = iter([False, True, True, True, True])

    def act(handler: Handler) -> None:
        upstream = http.client.HTTPConnection(str(real.hostname), real.port)
        upstream.request(handler.command, handler.path, handler.body, dict(handler.headers))
        reply = upstream.getresponse()
        body = reply.read()
        if not next(answers):
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("connection", "date", "server", "content-length"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", reply.getheader("Content-Length", str(len(body))))
        handler.end_headers()
        handler.wfile.write(body)

    server.act = act
    options = {**s3_server.options, "endpoint": server.endpoint}
    proxied = open_store(f"{s3_server.url}/lost{next(_numbers)}", retry_s=0, **options)
    RetryingStore(proxied, Backoff(first_s=0.01)).put("a/b", [b"our ", b"content"])
    assert len(list(answers)) == 1, "the put, its repetition, size and get make four requests"
    answers = iter([False, True, True])
    with pytest.raises(ObjectExists):
        RetryingStore(proxied, Backoff(first_s=0.01)).put("a/b", [b"else"])


def test_listing_begins_before_every_key_with_the_prefix() -> None:
    chance = random.Random(3)
    letters = "-.0189_az"
    for _ in range(20_000):
        prefix = "".join(chance.choices("ab/" + letters, k=chance.randint(1, 5)))
        key = prefix + "".join(chance.choices("/" + letters, k=chance.randint(0, 4)))
        assert _before(prefix) < key
    assert _before("vm/x/log/00000005") == "vm/x/log/00000004zzzz"
