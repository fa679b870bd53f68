"""Password hashes: Argon2id, in the notation that carries its own costs."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from leeward.domain.errors import TooManyAttempts

_BUSY_S = 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """RFC 9106's second recommendation: 64 MiB, three passes, four lanes; a fifth of a second."""

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 4


class Passwords:
    """Two at a time, so that a flood of guesses takes neither the machine's memory nor all of its cores."""

    def __init__(self, cost: Cost | None = None) -> None:
        self._cost = cost or Cost()
        self._turns = threading.BoundedSemaphore(2)
        self._nobodys = self._hash(os.urandom(16))

    def hash(self, password: bytes) -> str:
        self._wait()
        try:
            return self._hash(password)
        finally:
            self._turns.release()

    def match(self, password: bytes, known: str | None) -> bool:
        """known: the hash, None when there is no such user, which takes as long and is never right."""
        self._wait()
        try:
            Argon2id.verify_phc_encoded(password, known or self._nobodys)
        except InvalidKey:
            return False
        finally:
            self._turns.release()
        return known is not None

    def _wait(self) -> None:
        if not self._turns.acquire(timeout=_BUSY_S):
            raise TooManyAttempts("too many are signing in just now", wait_s=5, hint="Try again in a moment")

    def _hash(self, password: bytes) -> str:
        cost = self._cost
        kdf = Argon2id(
            salt=os.urandom(16),
            length=32,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        )
        return kdf.derive_phc_encoded(password)
