"""What strangers send, as the pure parsers take it: the right bytes, and any bytes."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.network.discovery.strangers import IDENTIFY_RESPONSE, http_answer, libvirt_reply

from leeward.network.discovery import libvirt_rpc as rpc
from leeward.network.discovery import wsman
from leeward.network.discovery.neighbours import unanswered


def rest(message):
    assert rpc.rest_length(message[:4]) == len(message) - 4
    return message[4:]


def test_libvirt_calls_have_the_documented_form():
    assert rpc.call(rpc.AUTH_LIST, 7) == bytes.fromhex(
        "0000001c 20008086 00000001 00000042 00000000 00000007 00000000"
    )
    opened = rpc.open_payload("qemu:///system")
    assert opened == b"\0\0\0\1\0\0\0\x0eqemu:///system\0\0\0\0\0\1"
    assert len(rpc.call(rpc.OPEN, 1, opened)) == struct.unpack(">I", rpc.call(rpc.OPEN, 1, opened)[:4])[0]


def test_libvirt_answers():
    answer = libvirt_reply(rpc.AUTH_LIST, struct.pack(">4I", 3, 0, 2, 9), serial=7)
    assert rpc.auth_names(rpc.payload_of(rest(answer), rpc.AUTH_LIST, 7)) == ("none", "polkit", "type 9")
    assert rpc.version_of(struct.pack(">Q", 7002022)) == (7, 2, 22)
    assert rpc.text_of(b"\0\0\0\5kvm01\0\0\0") == "kvm01"


def test_a_libvirt_error_carries_its_text():
    error = struct.pack(">IIII", 38, 7, 1, 8) + b"no qemu " + bytes(40)
    with pytest.raises(rpc.Declined, match="no qemu"):
        rpc.payload_of(rest(libvirt_reply(1, error, status=1)), 1, 1)
    with pytest.raises(rpc.Declined, match="without a text"):
        rpc.payload_of(rest(libvirt_reply(1, bytes(60), status=1)), 1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        libvirt_reply(66, serial=8),
        libvirt_reply(65, serial=7),
        libvirt_reply(66, serial=7, kind=0),
        libvirt_reply(66, serial=7, status=2),
        libvirt_reply(66, serial=7, program=0x6B656570),
    ],
)
def test_answers_to_something_else(answer):
    with pytest.raises(rpc.NotLibvirt):
        rpc.payload_of(rest(answer), 66, 7)


@pytest.mark.parametrize("start", [b"SSH-", b"\0\0\0\x1b", b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_lengths_that_no_libvirt_sends(start):
    with pytest.raises(rpc.NotLibvirt):
        rpc.rest_length(start)


@given(some.binary(min_size=24, max_size=80) | some.binary(max_size=60).map(lambda end: rest(libvirt_reply(66, end))))
def test_no_bytes_break_the_reading_of_libvirt(data):
    for read in (lambda: rpc.payload_of(data, 66, 66), *(lambda f=f: f(data) for f in READERS)):
        with contextlib.suppress(rpc.NotLibvirt, rpc.Declined):
            read()


READERS = (rpc.auth_names, rpc.version_of, rpc.text_of)


def test_identify_as_windows_documents_it():
    data = http_answer("200 OK", IDENTIFY_RESPONSE)
    assert wsman.is_whole(data)
    assert not wsman.is_whole(data[:-1])
    answer = wsman.answer(data)
    assert (answer.status, answer.server, answer.identified) == (200, "Microsoft-HTTPAPI/2.0", True)
    assert (answer.vendor, answer.version) == ("Microsoft Corporation", "OS: 0.0.0 SP: 0.0 Stack: 3.0")


def test_identify_in_utf_16_chunked_and_cut_off():
    wide = IDENTIFY_RESPONSE.decode().encode("utf-16")
    assert wsman.answer(http_answer("200 OK", wide)).vendor == "Microsoft Corporation"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2b4\r\n" + IDENTIFY_RESPONSE
    assert wsman.is_whole(chunked)
    assert not wsman.is_whole(chunked[:-20])
    assert wsman.answer(chunked[:-100]).vendor == "Microsoft Corporation"


def test_what_is_no_identify_response():
    refused = wsman.answer(http_answer("401 ", b"", "WWW-Authenticate: Negotiate", "WWW-Authenticate: Kerberos"))
    assert (refused.status, refused.identified, refused.sign_in) == (401, False, ("Negotiate", "Kerberos"))
    assert wsman.answer(b"SSH-2.0-OpenSSH\r\n") is None
    assert wsman.answer(b"") is None
    page = http_answer("200 OK", b"<html>ProductVendor: none</html>", server="nginx")
    assert not wsman.answer(page).identified


def test_the_question_asks_what_windows_answers_to_anybody():
    head, _, body = wsman.request("10.77.0.5:5985").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /wsman HTTP/1.1"
    assert {"Host: 10.77.0.5:5985", "WSMANIDENTIFY: unauthenticated", f"Content-Length: {len(body)}"} <= set(lines)
    assert b"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd" in body


@given(some.binary(max_size=300), some.integers(0, 400))
def test_no_bytes_break_the_reading_of_http(noise, cut):
    whole = http_answer("200 OK", IDENTIFY_RESPONSE)
    for data in (noise, whole[:cut] + noise, b"HTTP/1.1 200 OK\r\n\r\n" + noise):
        wsman.is_whole(data)
        wsman.answer(data)


ARP = """\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.1        0x1         0x2         52:54:00:ff:ff:77     *        eth0
10.77.0.9        0x1         0x0         00:00:00:00:00:00     *        eth0
10.77.0.7        0x1         0x0         00:00:00:00:00:00     *        eth0
10.77.0.7        0x1         0x6         52:54:00:00:00:07     *        eth1
"""


def test_whom_the_kernel_asked_for_in_vain():
    assert unanswered(ARP) == {"10.77.0.9"}
    assert unanswered(ARP.splitlines()[0]) == frozenset()
    assert unanswered("") == frozenset()
