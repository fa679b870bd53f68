"""Secrets that the console gives out: tokens, logins, the set-up code. It keeps only their digests."""

from __future__ import annotations

import hashlib
import hmac
import secrets

# The prefix tells people (and scanners of repositories) what they have found.
TOKEN = "lwt_"
LOGIN = "lwl_"
# Without look-alikes, since a code may be typed off a screen. 20 of 31 are 99 bits.
_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
_GROUPS, _GROUP = 4, 5


def new_secret(prefix: str) -> str:
    """256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def new_id() -> str:
    """Names a token to people; no secret."""
    return secrets.token_hex(4)


def new_setup_code() -> str:
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))


def setup_code_digest(code: str) -> str:
    """However it was typed."""
    return digest("setup " + "".join(code.upper().replace("-", "").split()))


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def csrf_token(secret: str) -> str:
    """What a page must send along with the login's cookie to change anything.

    A foreign page can make a browser send the cookie, but cannot read this. It follows from the login, so it need
    not be stored, and nothing can be learnt from it about the login.
    """
    return hmac.new(secret.encode("utf-8", "replace"), b"leeward csrf", hashlib.sha256).hexdigest()


def masked(token: str) -> str:
    """The same token, looking otherwise each time. Pages are packed and hold what a reader searched for beside it: by
    the lengths of many answers one could feel one's way along a token that is always the same. token: hexadecimal."""
    pad = secrets.token_bytes(len(token) // 2)
    return pad.hex() + bytes(one ^ other for one, other in zip(pad, bytes.fromhex(token), strict=True)).hex()


def unmasked(text: str) -> str:
    """What `masked` was given; "" for what it never made."""
    try:
        both = bytes.fromhex(text)
    except ValueError:
        return ""
    half = len(both) // 2
    return bytes(one ^ other for one, other in zip(both[:half], both[half:], strict=False)).hex()


def same(one: str, other: str) -> bool:
    """In a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
