"""The agents' port before strangers, fools and the slow; and what its certificate does over the years."""

import contextlib
import os
import random
import socket
import ssl
import threading
import time

import h11
import pytest
from tests.console.stand import Stand, until

from leeward.agent.channel import Channel, Refusal
from leeward.agent.identity import Identity, authority_context, key_pem, new_key, signing_request, tls_context
from leeward.console.agents_server import AgentsServer, split_listen
from leeward.console.authority import read_peer
from leeward.domain.errors import BadInput, LeewardError
from leeward.wire.polls import Enrol, Poll

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path / "console")
    yield made
    made.close()


def connect(stand):
    return socket.create_connection(("127.0.0.1", stand.port), timeout=10)


def greeted(stand):
    return authority_context(stand.authority.ca_pem.decode()).wrap_socket(connect(stand))


def still_serves(stand):
    channel = Channel(stand.address, lambda: authority_context(stand.authority.ca_pem.decode()))
    assert channel.ask("GET", "/agent/authority", b"", 10) == stand.authority.ca_pem
    channel.close()


def ends(sock):
    """Whether the other end closes, whatever it says before."""
    sock.settimeout(10)
    try:
        while sock.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(4096),
        b"\x00" * 100_000,
        random.Random(3).randbytes(20_000),
    ],
)
def test_garbage_instead_of_tls(stand, garbage):
    with connect(stand) as sock:
        with contextlib.suppress(OSError):  # the other end may have had enough of it in between
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
        assert ends(sock)
    still_serves(stand)


@pytest.mark.parametrize(
    "garbage",
    [
        random.Random(4).randbytes(5000) + b"\r\n\r\n",
        b"POST /agent/poll HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /agent/poll HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200_000,
        b"POST /agent/poll HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
)
def test_garbage_inside_tls(stand, garbage):
    with greeted(stand) as sock:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            sock.sendall(garbage)
        assert ends(sock)
    still_serves(stand)


def test_old_tls_is_not_spoken(stand):
    context = authority_context(stand.authority.ca_pem.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)), connect(stand) as sock:
        context.wrap_socket(sock)


def test_who_says_nothing_is_let_go(stand, monkeypatch):
    monkeypatch.setattr("leeward.console.agents_server._REQUEST_S", 0.5)
    began = time.monotonic()
    with greeted(stand) as silent, greeted(stand) as slow, greeted(stand) as later:
        slow.sendall(b"POST /agent/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        later.sendall(b"GET /agent/authority HTTP/1.1\r\nHost: x\r\n\r\n")
        assert later.recv(65536).startswith(b"HTTP/1.1 200")
        later.sendall(b"GET /agent/auth")  # and nothing more
        assert ends(silent)
        assert ends(slow)
        assert ends(later)
    assert time.monotonic() - began < 5
    # A held poll has said all it wants, and is not let go.
    identity = enrolled(stand)
    channel = Channel(stand.address, lambda: tls_context(identity))
    poll = Poll(run="r", wait_s=1.5, generation=0)
    channel.ask("POST", "/agent/poll", poll.model_dump_json().encode(), 10)
    assert stand.link.present
    channel.close()


def enrolled(stand):
    key, token = new_key(), stand.token()
    made = stand.agents.enrol(Enrol(secret=token.secret.hex(), request=signing_request(key), name="office"))
    ca = stand.authority.ca_pem.decode()
    return Identity(stand.address, made.agent_id, made.name, ca, made.certificate, key_pem(key))


def test_an_agents_certificate_is_no_consoles(stand, tmp_path):
    """An enrolled host must not be able to pass for the console towards other agents."""
    identity = enrolled(stand)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "agent.pem"
    pem.write_text(identity.key + identity.certificate)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if os.fork() == 0:
            try:
                context.wrap_socket(listener.accept()[0], server_side=True)
            finally:
                os._exit(0)
        channel = Channel(
            f"https://127.0.0.1:{listener.getsockname()[1]}", lambda: authority_context(identity.authority)
        )
        with pytest.raises(Refusal, match="not the console"):
            channel.ask("GET", "/agent/authority", b"", 10)
        os.wait()


def test_the_consoles_certificate_is_no_agents(stand):
    context = authority_context(stand.authority.ca_pem.decode())
    context.load_cert_chain(*stand.authority.server_files(["127.0.0.1"]))
    channel = Channel(stand.address, lambda: context)
    with pytest.raises(LeewardError):
        channel.ask("POST", "/agent/poll", Poll(run="r", wait_s=0, generation=0).model_dump_json().encode(), 10)
    channel.close()


def test_a_taken_port_is_one_clear_error(stand):
    other = AgentsServer(stand.agents, stand.authority, f"127.0.0.1:{stand.port}", ["127.0.0.1"])
    with pytest.raises(LeewardError, match="in use"):
        other.start()


def test_a_renewed_certificate_is_shown_to_new_connections(stand, monkeypatch):
    with greeted(stand) as sock:
        before = sock.getpeercert(binary_form=True)
    (stand.folder / "authority" / "agents.pem").unlink()
    loop = stand.server._server
    loop._reload()
    with greeted(stand) as sock:
        assert sock.getpeercert(binary_form=True) != before
    still_serves(stand)


def test_closing_answers_held_polls(stand):
    identity = enrolled(stand)
    channel = Channel(stand.address, lambda: tls_context(identity))
    answers = []
    poll = Poll(run="r", wait_s=30, generation=0).model_dump_json().encode()
    asking = threading.Thread(target=lambda: answers.append(channel.ask("POST", "/agent/poll", poll, 30)))
    asking.start()
    until(lambda: stand.link.present)
    began = time.monotonic()
    stand.server.stop()
    asking.join(10)
    assert time.monotonic() - began < 4
    assert b'"desired":null' in answers[0]
    assert stand.link._lines == 0
    channel.close()


def test_peers_are_read_from_their_certificates_alone(stand):
    identity = enrolled(stand)
    peer = read_peer(ssl.PEM_cert_to_DER_cert(identity.certificate))
    assert peer.agent_id == stand.link.id


def test_addresses_to_listen_on():
    assert split_listen("0.0.0.0:8443") == ("0.0.0.0", 8443)
    assert split_listen(":8443") == ("0.0.0.0", 8443)
    assert split_listen("[::1]:99") == ("::1", 99)
    for wrong in ("8443x", "host", "host:", "host:70000"):
        with pytest.raises(BadInput):
            split_listen(wrong)


def test_h11_is_what_the_patience_relies_on():
    """States that `_Protocol.data_received` asks for: idle before a request, sending during its body, then done."""
    connection = h11.Connection(h11.SERVER)
    assert connection.their_state is h11.IDLE
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
    connection.next_event()
    assert connection.their_state is h11.SEND_BODY
    connection.next_event()
    connection.receive_data(b"}")
    connection.next_event()
    connection.next_event()
    assert connection.their_state is h11.DONE
