"""SSH without a host: what cannot be asked for, what does not answer."""

import socket

import pytest

from leeward.domain.errors import BadInput, Unavailable
from leeward.network.ssh import HostKeys, Remote, fingerprint, host_keys

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
