"""Who may do what: roles, names and passwords of the console's users."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum

from leeward.domain.errors import BadInput

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
# Who the console itself says it was.
_TAKEN = frozenset({"leeward", "local", "nobody", "token"})
_TOKEN_NAME = re.compile(r"[\w.@:/+-]([\w .@:/+-]{0,62}[\w.@:/+-])?")
_LEAST = 12
_MOST = 256


class Role(StrEnum):
    """Each may do what the ones before it may. viewer: look; operator: protect, fail over; admin: users, tokens."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    def covers(self, needed: Role) -> bool:
        return self.rank >= needed.rank


def lesser(one: Role, other: Role) -> Role:
    return one if one.rank <= other.rank else other


def user_name(text: str) -> str:
    """As it is stored: lower case. Raises BadInput."""
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise BadInput(
            "this is no user name",
            subject=text[:64],
            hint="Up to 64 of a-z, 0-9, '.', '_', '-' and '@', beginning with a letter or digit",
        )
    if name in _TAKEN:
        raise BadInput("Leeward uses this name itself", subject=name)
    return name


def tried_name(text: str) -> str:
    """What notes say of a name with which nobody could sign in. People type passwords where the name belongs, so only
    what is a user's name, and shorter than any password, is told as it is."""
    name = text.strip().lower()
    if _NAME.fullmatch(name) and len(name) < _LEAST:
        return name
    return f"no user's name, of length {len(text.strip())}"


def token_name(text: str) -> str:
    """Raises BadInput."""
    if not _TOKEN_NAME.fullmatch(text):
        raise BadInput("this is no name for a token", subject=text[:64], hint="Up to 64 letters, digits and .@:/+-_")
    return text


def new_password(text: str, name: str) -> bytes:
    """The bytes to hash. Length is all that is asked for: rules about kinds of characters make passwords worse."""
    if not _LEAST <= len(text) <= _MOST:
        raise BadInput(f"a password has {_LEAST} to {_MOST} characters", subject=name, hint="Take a longer sentence")
    if len(set(text)) < 4 or text.lower() == name:
        raise BadInput("this password is too easy to guess", subject=name, hint="Take a longer sentence")
    return password_bytes(text)


def password_bytes(text: str) -> bytes:
    """One form for what keyboards write in several (é as one character or two)."""
    return unicodedata.normalize("NFKC", text[:_MOST]).encode("utf-8", "replace")
