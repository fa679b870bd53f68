"""Secrets that the console has to send on (a mail server's password), as the database may keep them.

Whoever steals the database, or a backup of it, must not find them: they are encrypted with a key that follows from
the console's authority, which lies in a file of mode 0600 and is the same on all consoles of one database.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from leeward.domain.errors import Unavailable

_NONCE = 12


class Sealer:
    """key: 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: str, of: str) -> str:
        """of: what it is the secret of; sealed in, so that none can be put in another's place."""
        nonce = os.urandom(_NONCE)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, secret.encode(), of.encode())).decode()

    def open(self, sealed: str, of: str) -> str:
        """Raises Unavailable when it was sealed under another authority, or is damaged."""
        try:
            found = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(found[:_NONCE], found[_NONCE:], of.encode()).decode()
        except (InvalidTag, ValueError):
            raise Unavailable(
                "the stored secret cannot be read: this console has another authority than the one that stored it",
                subject=of,
                hint="Enter it again",
            ) from None
