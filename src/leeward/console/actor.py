"""Who is asking, and how the console knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from leeward.domain.access import Role


class Via(StrEnum):
    """local: through the unix socket, which only the machine's root can open."""

    NOBODY = "nobody"
    LOCAL = "local"
    TOKEN = "token"
    CLI = "cli"
    BROWSER = "browser"


@dataclass(frozen=True, slots=True)
class Actor:
    """who: for history and audit log. role: None may do only what everybody may. user: None without an account.

    digest: of the token or login; csrf: what a browser has to send with changes; expires: of the login.
    """

    who: str
    via: Via
    role: Role | None
    address: str
    user: str | None = None
    digest: str = ""
    csrf: str = ""
    expires: str | None = None


def nobody(address: str) -> Actor:
    return Actor("nobody", Via.NOBODY, None, address)


def local() -> Actor:
    return Actor("local", Via.LOCAL, Role.ADMIN, "local")
