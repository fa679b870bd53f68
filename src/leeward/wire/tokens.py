"""Enrolment tokens: one string that is all a host needs to find its console and to know that it is the right one.

`lw1-` and base64url of: SHA-256 of the authority's certificate (32 bytes), the secret (16), the console's address or
addresses (UTF-8), and the first 4 bytes of the SHA-256 of all this, which tell a badly copied token from a wrong one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from leeward.domain.errors import BadInput

_PREFIX = "lw1-"
_FINGERPRINT = 32
_SECRET = 16
_CHECK = 4


@dataclass(frozen=True, slots=True)
class Token:
    """address: https://host:port, or several of them with commas between, of which one answers at a time.
    fingerprint: SHA-256 of the authority's certificate (DER)."""

    address: str
    fingerprint: bytes
    secret: bytes

    @classmethod
    def new(cls, address: str, fingerprint: bytes) -> Token:
        return cls(address, fingerprint, secrets.token_bytes(_SECRET))

    def __str__(self) -> str:
        body = self.fingerprint + self.secret + self.address.encode()
        return _PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self.address.split(","))

    @property
    def secret_hash(self) -> str:
        """What the console keeps of it. The secret is random and long: a plain hash hides it."""
        return hashlib.sha256(self.secret).hexdigest()


def read_token(text: str) -> Token:
    """Raises BadInput. White space, as a terminal's line breaks put into it, does not matter."""
    packed = "".join(text.split())
    if not packed.startswith(_PREFIX):
        raise BadInput(f"this is no enrolment token: it does not begin with {_PREFIX}", hint=_HINT)
    encoded = packed.removeprefix(_PREFIX)
    try:
        whole = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        body, check = whole[:-_CHECK], whole[-_CHECK:]
        address = body[_FINGERPRINT + _SECRET :].decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadInput("the token is damaged", hint=_HINT) from None
    if len(body) <= _FINGERPRINT + _SECRET or check != _check(body):
        raise BadInput("the token is incomplete or has a typing error", hint=_HINT)
    token = Token(address, body[:_FINGERPRINT], body[_FINGERPRINT : _FINGERPRINT + _SECRET])
    for one in token.addresses:
        split_address(one)
    if str(token) != packed:  # base64 leaves some bits of its last character unused
        raise BadInput("the token has a typing error", hint=_HINT)
    return token


_HINT = "Copy the whole of what `leeward agents token` showed"


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK]


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of https://host:port. Raises BadInput."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or re.fullmatch(r"https://[^/?#@\s]+/?", address) is None:
        raise BadInput(
            "this is no console's address", subject=address, hint="Write it like https://console.example:8443"
        )
    return host, port or 443
