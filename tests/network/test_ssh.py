"""SSH without a host: what cannot be asked for, what does not answer."""

import socket
import subprocess

import pytest
from tests.network.discovery import strangers as st

from leeward.domain.errors import BadInput, Unavailable
from leeward.network.ssh import HostKeys, Remote, _talk, fingerprint, host_keys

LINE = "h ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE8x7y2m0v0kq8n4m2O5C7pYkqL9x2n0u6vJm0b0a1cQ"


def test_a_fingerprint_is_as_ssh_keygen_tells_it():
    assert fingerprint(LINE).startswith("SHA256:")
    assert len(fingerprint(LINE)) == len("SHA256:") + 43


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "a b", "", "a;b", "$(x)"])
def test_an_address_is_never_taken_for_an_option(address):
    with pytest.raises(BadInput):
        host_keys(address, 22)
    with pytest.raises(BadInput):
        Remote(address, 22, "root", "", HostKeys((), ()))


@pytest.mark.parametrize(("user", "port"), [("-l", 22), ("a b", 22), ("", 22), ("root", 0), ("root", 65536)])
def test_users_and_ports_that_are_none(user, port):
    with pytest.raises(BadInput) as told:
        Remote("10.0.0.1", port, user, "", HostKeys((), ()))
    assert told.value.subject in ("user", "port")


def test_where_nothing_answers_it_says_so():
    with socket.socket() as held, pytest.raises(Unavailable, match="no SSH server answers"):
        held.bind(("127.0.0.1", 0))  # not listening; and nobody else can meanwhile
        host_keys("127.0.0.1", held.getsockname()[1])


@pytest.mark.timeout(30)
def test_a_banner_of_any_bytes_is_no_failure_of_ours():
    crowd = st.Strangers()
    try:
        port = crowd.add(st.says(b"SSH-2.0-\xff\xfe\xc3\r\n", then_wait=False))
        with pytest.raises(Unavailable, match="no SSH server answers"):
            host_keys("127.0.0.1", port)
    finally:
        crowd.close()


def test_a_line_without_an_end_is_never_held_as_a_whole():
    told = []
    flood = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"
    process = subprocess.Popen(["sh", "-c", flood], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert _talk(process, b"", told.append) == "end"
    assert len(told) > 10
    assert all(len(line) <= 500 for line in told)
