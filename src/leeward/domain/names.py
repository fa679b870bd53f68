"""What a host, and the agent on it, may be called where somebody types the name in. Pure."""

from __future__ import annotations

import re

from leeward.domain.errors import BadInput

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_host_name(name: str) -> None:
    """Raises BadInput (subject: name)."""
    if not _HOST.fullmatch(name):
        raise BadInput("a name has letters, digits, dots and dashes, at most 63", subject="name")
