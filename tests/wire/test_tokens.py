"""Tokens survive copying and line breaks; typing errors are told from wrong tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeward.domain.errors import BadInput
from leeward.wire.tokens import Token, read_token, split_address

TOKEN = Token("https://console.example:8443", bytes(range(32)), bytes(range(16)))


@given(st.binary(min_size=32, max_size=32), st.integers(1, 65_535))
def test_what_is_written_is_read(fingerprint, port):
    token = Token.new(f"https://[2001:db8::1]:{port}", fingerprint)
    assert read_token(str(token)) == token
    assert read_token(f"  {str(token)[:40]}\n   {str(token)[40:]}\n") == token


def test_secrets_differ():
    assert Token.new("https://a", bytes(32)).secret != Token.new("https://a", bytes(32)).secret


@given(st.data())
def test_any_change_is_noticed(data):
    text = str(TOKEN)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda char: char != text[at] and not char.isspace()))
    with pytest.raises(BadInput):
        read_token(text[:at] + other + text[at + 1 :])


@given(st.integers(0, len(str(TOKEN)) - 1))
def test_a_part_is_no_token(length):
    with pytest.raises(BadInput):
        read_token(str(TOKEN)[:length])


@pytest.mark.parametrize(
    "address", ["http://a", "https://", "a:1", "https://a:x", "https://a/b", "https://u@a", "https://a b"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(BadInput):
        split_address(address)


def test_addresses():
    assert split_address("https://console.example:8443") == ("console.example", 8443)
    assert split_address("https://[2001:db8::1]:99/") == ("2001:db8::1", 99)
    assert split_address("https://192.0.2.7") == ("192.0.2.7", 443)
