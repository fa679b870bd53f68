"""The listeners as clients and attackers meet them, in a process of their own."""

import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.loopback import free_port

from leeward.console.authority import Authority
from leeward.console.listeners import Https, server_names, split_listen, tls_context
from leeward.domain.errors import BadInput

SCRIPT = Path(__file__).with_name("listening.py")


class Listening:
    def __init__(self, folder, **wanted):
        self.folder, self.port = folder, wanted.pop("port", None) or free_port()
        argument = json.dumps({"folder": str(folder), "port": self.port, **wanted})
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), argument], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout.readline() == "ready\n"

    def context(self, pem=None):
        pem = pem or (self.folder / "authority" / "authority.pem").read_text()
        return ssl.create_default_context(cadata="-----BEGIN CERT" + pem.split("-----BEGIN CERT")[1])

    def until(self, call, timeout_s=20.0):
        ends = time.monotonic() + timeout_s
        while True:
            try:
                return call()
            except (httpx.TransportError, OSError, AssertionError):
                assert self.process.poll() is None
                if time.monotonic() > ends:
                    raise
                time.sleep(0.05)

    def https(self, method, path, pem=None, **more):
        with httpx.Client(verify=self.context(pem), base_url=f"https://127.0.0.1:{self.port}") as client:
            return client.request(method, path, **more)

    def unix(self, method, path, **more):
        transport = httpx.HTTPTransport(uds=str(self.folder / "socket"), verify=False)
        with httpx.Client(transport=transport, base_url="http://console") as client:
            return client.request(method, path, **more)

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        said = self.process.communicate(timeout=20)[0]
        return self.process.returncode, said


@pytest.fixture
def listening(tmp_path):
    made = []

    def make(**wanted):
        made.append(Listening(tmp_path, **wanted))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.wait()


def test_root_by_the_socket_and_nobody_by_https(listening):
    one = listening()
    assert one.until(lambda: one.unix("GET", "/me")).json() == {"who": "local"}
    assert one.until(lambda: one.https("GET", "/health")).status_code == 200
    assert one.https("GET", "/me").status_code == 401
    mode = (one.folder / "socket").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    answer = one.https("GET", "/health")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    # Nobody says where he comes from by himself.
    forged = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    assert one.https("POST", "/try", headers=forged, json={}).json() == {"address": "127.0.0.1"}
    assert one.unix("GET", "/me", headers=forged).status_code == 401

    code, said = one.stop()
    assert code == 0
    assert said.endswith("ended well\n")
    assert not (one.folder / "socket").exists()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_and_foreign_names_are_refused(listening):
    one = listening()
    one.until(lambda: one.https("GET", "/health"))
    for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = one.context()
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", one.port)) as plain:
            if works:
                context.wrap_socket(plain, server_hostname="localhost").close()
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(plain, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", one.port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        one.context().wrap_socket(plain, server_hostname="another.example")
    with socket.create_connection(("127.0.0.1", one.port)) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in plain.recv(100)


@pytest.mark.slow
def test_an_address_that_comes_later(listening):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = listening(port=taken.getsockname()[1], seconds={"_BIND_AGAIN_S": 0.1})
        assert one.until(lambda: one.unix("GET", "/me")).status_code == 200
    assert one.until(lambda: one.https("GET", "/health")).status_code == 200
    assert one.stop(signal.SIGINT)[0] == 0


@pytest.mark.slow
def test_it_ends_also_while_it_waits_for_its_address(listening):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = listening(port=taken.getsockname()[1])
        one.until(lambda: one.unix("GET", "/me"))
        began = time.monotonic()
        assert one.stop()[0] == 0
        assert time.monotonic() - began < 4


@pytest.mark.slow
def test_a_renewed_certificate_is_taken_over_and_a_broken_one_is_not(listening, tmp_path):
    authorities = [Authority.open(tmp_path / f"ca{n}") for n in (1, 2)]
    pairs = [authority.server_files(["127.0.0.1"]) for authority in authorities]
    pems = [authority.ca_pem.decode() for authority in authorities]
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def give(a, b):
        shutil.copy(a, cert)
        shutil.copy(b, key)

    give(*pairs[0])
    one = listening(cert=str(cert), key=str(key), seconds={"_RELOAD_S": 0.1})
    one.until(lambda: one.https("GET", "/health", pems[0]))
    give(pairs[1][0], pairs[0][1])
    time.sleep(0.5)
    assert one.https("GET", "/health", pems[0]).status_code == 200
    give(*pairs[1])
    assert one.until(lambda: one.https("GET", "/health", pems[1])).status_code == 200
    with pytest.raises(httpx.ConnectError):
        one.https("GET", "/health", pems[0])


@pytest.mark.slow
def test_who_dawdles_is_sent_away(listening):
    one = listening(seconds={"_REQUEST_S": 0.5})
    one.until(lambda: one.https("GET", "/health"))
    for begun in (
        b"",
        b"GET /health HT",
        b"POST /try HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ):
        plain = socket.create_connection(("127.0.0.1", one.port))
        with plain, one.context().wrap_socket(plain, server_hostname="localhost") as tls:
            tls.settimeout(10)
            if begun:
                tls.sendall(begun)
            began = time.monotonic()
            assert tls.recv(100) == b""
            assert 0.2 < time.monotonic() - began < 8


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_unusable_files_are_told_at_the_start(tmp_path, content):
    cert, key = Authority.open(tmp_path).server_files(["x"])
    key = tmp_path / "other.key"
    if content:
        key.write_text(content)
    with pytest.raises(BadInput, match="cannot be used") as caught:
        tls_context(Https("127.0.0.1", 1, lambda: (cert, key)))
    assert str(key) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("[::]:8443", ("::", 8443)),
        ("console.example:1", ("console.example", 1)),
        *((text, None) for text in ("", ":8443", "8443", "x:", "x:99999", "x:-1", "::1:8443", "[]:1", "x:٣")),
    ],
)
def test_addresses(text, expected):
    if expected:
        assert split_listen(text) == expected
    else:
        with pytest.raises(BadInput):
            split_listen(text)


def test_names_of_the_certificate():
    names = server_names("0.0.0.0", ["dr.example", "10.0.0.5"])
    assert {"dr.example", "10.0.0.5", "localhost", "127.0.0.1", "::1"} <= set(names)
    assert "0.0.0.0" not in names
    assert "192.0.2.1" in server_names("192.0.2.1", [])
