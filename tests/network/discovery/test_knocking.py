"""One knock at a time, at real servers on loopback: those that keep to a protocol, and those that do not."""

import asyncio
import gc
import os
import resource
import socket
import ssl
import struct
import threading
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.network.discovery import strangers as st

from leeward.domain.errors import Unavailable
from leeward.network.discovery import libvirt_rpc as rpc
from leeward.network.discovery.knocking import Outcome, knock
from leeward.network.discovery.signs import Door, LibvirtFacts, Role, Speech

LOOPBACK = ip_address("127.0.0.1")
TALK_S = 0.3


def knock_at(port, role, talk_s=TALK_S, address=LOOPBACK):
    """The sign, after making sure that the knock kept to its time."""
    begun = time.monotonic()
    result = asyncio.run(knock(address, Door(port, Role(role)), 1.0, talk_s))
    assert time.monotonic() - begun < talk_s + 1.0
    assert (result.sign is not None) == (result.outcome is Outcome.OPEN)
    return result.sign or result.outcome


def test_a_closed_port_is_refused():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, not listening
        assert knock_at(sock.getsockname()[1], "ssh") is Outcome.REFUSED


def test_a_port_that_does_not_answer_is_silent():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        fill = [socket.socket() for _ in range(4)]  # a full backlog drops further SYNs
        for one in fill:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        begun = time.monotonic()
        result = asyncio.run(knock(LOOPBACK, Door(port, Role.SSH), 0.3, 1.0))
        assert result.outcome is Outcome.SILENT
        assert 0.3 <= time.monotonic() - begun < 1.0
        for one in fill:
            one.close()


def test_an_address_without_a_way_there_is_unreachable():
    assert knock_at(22, "ssh", address=ip_address("fe80::1%lo")) in (Outcome.UNREACHABLE, Outcome.REFUSED)
    assert knock_at(22, "ssh", address=ip_address("fe80::1%absent0")) is Outcome.UNREACHABLE


def test_without_file_descriptors_it_is_our_own_trouble():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # those three are taken
        try:
            await knock(LOOPBACK, Door(22, Role.SSH), 1.0, 1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with pytest.raises(Unavailable, match="cannot open more connections"):
        asyncio.run(main())


# --- those who keep to a protocol ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n", "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7"),
        (b"Authorised use only\r\nSSH-1.99-Cisco\n", "SSH-1.99-Cisco"),
        (b"SSH-2.0-\x1b]0;evil\x07" + b"x" * 4000 + b"\n", "SSH-2.0- ]0;evil " + "x" * 183),
    ],
)
def test_an_ssh_banner(crowd, said, words):
    sign = knock_at(crowd.add(st.says(said)), "ssh")
    assert (sign.speech, sign.words) == (Speech.SSH, words)


def test_an_ssh_banner_that_ends_with_the_connection(crowd):
    sign = knock_at(crowd.add(st.says(b"SSH-2.0-x", then_wait=False)), "ssh")
    assert (sign.speech, sign.words) == (Speech.SSH, "SSH-2.0-x")


def test_an_ssh_banner_in_drops(crowd):
    sign = knock_at(crowd.add(st.drips(b"SSH-2.0-slow\r\n")), "ssh", talk_s=2)
    assert (sign.speech, sign.words) == (Speech.SSH, "SSH-2.0-slow")


def test_windows(crowd, tls):
    plain = knock_at(crowd.add(st.windows), "winrm")
    assert (plain.speech, plain.vendor) == (Speech.WINRM, "Microsoft Corporation")
    assert plain.words == "Microsoft Corporation OS: 0.0.0 SP: 0.0 Stack: 3.0"
    secret = knock_at(crowd.add(st.windows, tls=tls), "winrm-tls")
    assert (secret.speech, secret.vendor) == (Speech.WINRM, "Microsoft Corporation")
    assert secret.certificate == "CN=hv01.office.example"


def test_windows_that_wants_sign_in_for_everything(crowd):
    sign = knock_at(crowd.add(st.shy_windows), "winrm")
    assert (sign.speech, sign.vendor) == (Speech.WINRM, "")
    assert "wants sign-in" in sign.words


def test_an_answer_that_never_ends_is_used_as_far_as_it_came(crowd):
    answer = st.http_answer("200 OK", st.IDENTIFY_RESPONSE).replace(b"Content-Length: ", b"Content-Length: 9")
    sign = knock_at(crowd.add(st.says(answer)), "winrm")
    assert (sign.speech, sign.vendor) == (Speech.WINRM, "Microsoft Corporation")


def test_another_web_server(crowd):
    sign = knock_at(crowd.add(st.says(st.http_answer("404 Not Found", b"no", server="nginx"))), "winrm")
    assert (sign.speech, sign.words) == (Speech.HTTP, "HTTP 404 nginx")


def test_a_console_port_is_mute(crowd):
    sign = knock_at(crowd.add(st.mute), "vmconnect", talk_s=0.6)
    assert (sign.speech, sign.words) == (Speech.NOTHING, "open")
    assert knock_at(crowd.add(st.says(b"SSH-2.0-x\r\n")), "vmconnect").speech is Speech.OTHER


def libvirtd(answers, start=b""):
    """As far as it takes: the payload (or ready message) for each procedure; silent for any other."""

    async def handle(reader, writer):
        writer.write(start)
        while True:
            head = await reader.readexactly(28)
            size, procedure = struct.unpack(">I8xI12x", head)
            await reader.readexactly(size - 28)
            answer = answers.get(procedure)
            if answer is not None:
                writer.write(answer if len(answer) >= 28 else st.libvirt_reply(procedure, answer))
                await writer.drain()

    return handle


NONE = struct.pack(">II", 1, 0)
SASL = struct.pack(">II", 1, 1)
DECLINES = struct.pack(">IIII", 38, 0, 1, 4) + b"no!!" + bytes(40)
WHOLE = {
    rpc.AUTH_LIST: NONE,
    rpc.OPEN: b"",
    rpc.GET_LIB_VERSION: struct.pack(">Q", 9000000),
    rpc.GET_VERSION: struct.pack(">Q", 7002022),
    rpc.GET_HOSTNAME: b"\0\0\0\5kvm01\0\0\0",
    rpc.CLOSE: b"",
}


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({}, LibvirtFacts(("none",), True, "", (9, 0, 0), (7, 2, 22), "kvm01")),
        ({rpc.AUTH_LIST: SASL}, LibvirtFacts(("sasl",))),
        ({rpc.OPEN: None}, LibvirtFacts(("none",))),
        ({rpc.OPEN: st.libvirt_reply(1, DECLINES, status=1)}, LibvirtFacts(("none",), False, "no!!")),
        ({rpc.GET_LIB_VERSION: None}, LibvirtFacts(("none",), True)),
        (
            {rpc.GET_HOSTNAME: st.libvirt_reply(rpc.GET_HOSTNAME, DECLINES, status=1)},
            LibvirtFacts(("none",), True, "", (9, 0, 0), (7, 2, 22)),
        ),
        (
            {rpc.GET_HOSTNAME: st.libvirt_reply(rpc.GET_HOSTNAME, b"\0\0\xff\xff")},
            LibvirtFacts(("none",), True, "", (9, 0, 0), (7, 2, 22)),
        ),
        ({rpc.GET_VERSION: None}, LibvirtFacts(("none",), True, "", (9, 0, 0))),
        (
            {rpc.GET_VERSION: st.libvirt_reply(rpc.GET_VERSION, DECLINES, status=1)},
            LibvirtFacts(("none",), True, "", (9, 0, 0), None, "kvm01"),
        ),
        ({rpc.CLOSE: None}, LibvirtFacts(("none",), True, "", (9, 0, 0), (7, 2, 22), "kvm01")),
    ],
)
def test_libvirt_tells_as_much_as_it_likes(crowd, changes, facts):
    sign = knock_at(crowd.add(libvirtd({**WHOLE, **changes})), "libvirt")
    assert (sign.speech, sign.libvirt) == (Speech.LIBVIRT, facts)
    assert sign.words == f"sign-in: {facts.auth[0]}"


def test_libvirt_over_tls(crowd, tls):
    accepted = knock_at(crowd.add(libvirtd(WHOLE, start=b"\1"), tls=tls), "libvirt-tls")
    assert (accepted.speech, accepted.certificate) == (Speech.LIBVIRT, "CN=hv01.office.example")
    assert accepted.libvirt.qemu_version == (7, 2, 22)
    shut = knock_at(crowd.add(st.closes, tls=tls), "libvirt-tls")
    assert (shut.speech, shut.words) == (Speech.TLS, "it wants a client certificate")
    assert shut.certificate == "CN=hv01.office.example"


def test_a_tls_server_that_declines_us_is_known_as_one(tmp_path):
    files = st.make_certificate(tmp_path, "strict")
    strict = st.server_tls(files)
    strict.maximum_version = ssl.TLSVersion.TLSv1_2  # where the client learns of it within the handshake
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(files[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Not asyncio's server: that one drops the connection without a word.
        thread = threading.Thread(target=decline, args=(listener, strict))
        thread.start()
        sign = knock_at(listener.getsockname()[1], "libvirt-tls")
        thread.join()
    assert (sign.speech, sign.words) == (Speech.TLS, "it declined the handshake")


def decline(listener, context):
    connection = listener.accept()[0]
    with connection:
        connection.settimeout(5)
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True, do_handshake_on_connect=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls(crowd, tmp_path, version):
    context = st.server_tls(st.make_certificate(tmp_path, "versioned"))
    context.minimum_version = context.maximum_version = version
    assert knock_at(crowd.add(st.windows, tls=context), "winrm-tls").certificate == "CN=versioned"


# --- those who do not ---------------------------------------------------------------------------------

MISBEHAVING = {
    "closes": st.closes,
    "resets": st.resets,
    "mute": st.mute,
    "garbage": st.garbage,
    "floods": st.floods(b"x"),
    "floods lines": st.floods(b"not a version\r\n"),
    "drips": st.drips(b"x"),
    "drips http": st.drips(b"HTTP/1.1 200 OK\r\n"),
    "half a banner": st.says(b"SSH"),
    "libvirt's length only": st.says(b"\0\0\x40\0"),
    "libvirt, huge": st.says(b"\x7f\xff\xff\xff" * 100),
    "libvirt, ends early": st.says(st.libvirt_reply(66)[:20], then_wait=False),
    "libvirt, empty answer": st.says(st.libvirt_reply(66)),
    "libvirt, many ways to sign in": st.says(st.libvirt_reply(66, b"\xff" * 8)),
    "a TLS record cut off": st.says(b"\x16\x03\x03\x40\0" + b"\2" * 100),
    "http without an end": st.says(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10000),
    "http, length is nonsense": st.says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n<"),
}


def test_whoever_misbehaves_gets_a_sign_and_a_bound(crowd, tls, caplog):
    """At every door, and behind TLS as well where a door expects it; all at once."""
    cases = [
        (who, role, crowd.add(handle, tls=context))
        for who, handle in MISBEHAVING.items()
        for role in Role
        for context in ((None, tls) if role.is_tls else (None,))
    ]

    async def main():
        return await asyncio.gather(*(knock(LOOPBACK, Door(port, role), 5.0, 1.0) for _, role, port in cases))

    begun = time.monotonic()
    results = asyncio.run(main())
    assert time.monotonic() - begun < 30, "those who would talk for ever are left"
    for (who, role, _), result in zip(cases, results, strict=True):
        if who == "resets" and result.outcome is Outcome.REFUSED:
            continue  # the reset came before we had looked at the connection
        sign = result.sign
        assert sign.speech in (Speech.NOTHING, Speech.OTHER, Speech.TLS, Speech.HTTP), (who, sign)
        assert sign.libvirt is None, (who, sign)
        assert 0 < len(sign.words) <= 200, (who, role, sign)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_nothing_is_left_open_and_little_is_taken_in(crowd, tls):
    """Floods at every door, ended in order or cut off in the middle: no connection and no megabytes stay."""
    ports = [(crowd.add(st.floods(b"x")), Role.SSH), (crowd.add(st.floods(b"no\r\n")), Role.WINRM)]
    ports += [(crowd.add(st.floods(b"x"), tls=tls), Role.WINRM_TLS), (crowd.add(st.mute), Role.LIBVIRT)]
    ports += [(crowd.add(st.mute), Role.LIBVIRT_TLS), (crowd.add(st.windows, tls=tls), Role.WINRM_TLS)]

    async def main():
        for patience in (0.0, 0.01, 0.05):
            for port, role in ports:
                task = asyncio.create_task(knock(LOOPBACK, Door(port, role), 1.0, 0.3))
                await asyncio.sleep(patience)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*(knock(LOOPBACK, Door(port, role), 1.0, 0.2) for port, role in ports))
        # While the loop still runs: at its end everything would be closed anyway.
        ends = time.monotonic() + 5
        while crowd.now:
            assert time.monotonic() < ends
            await asyncio.sleep(0.01)

    descriptors = Path("/proc/self/fd")
    asyncio.run(main())
    before = len(list(descriptors.iterdir())), memory()
    gc.disable()
    try:
        for _ in range(3):
            asyncio.run(main())
        assert len(list(descriptors.iterdir())) <= before[0] + 2
        assert memory() < before[1] + (16 << 20)
    finally:
        gc.enable()


@pytest.mark.parametrize("role", [Role.SSH, Role.WINRM_TLS])
def test_given_up_at_any_step_of_its_opening_it_leaves_the_next_connection_alone(crowd, tls, role):
    """Which gets the same number from the kernel."""
    port = crowd.add(st.mute, tls=tls if role.is_tls else None)

    async def main():
        for steps in range(60):  # of the loop
            task = asyncio.create_task(knock(LOOPBACK, Door(port, role), 1.0, 1.0))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            found = await knock(LOOPBACK, Door(port, role), 1.0, 0.01)
            assert found.outcome is Outcome.OPEN, (steps, found)

    asyncio.run(main())


def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
