"""How often something may be tried. Of fixed size, whatever is tried from wherever."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`burst` tries at once, then one more every `period_s`."""

    burst: int
    period_s: float


class Limiter:
    """Each rule counts by key. A key is hashed to one of `slots` counters; two that fall on one share its tries.

    Counters never get lost: a table that forgets the oldest would let an attacker push out his own by inventing
    others. Which keys share a counter changes with every start and cannot be foreseen.
    """

    def __init__(self, rules: Sequence[Rule], slots: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._slots = slots
        self._clock = clock
        self._salt = os.urandom(16)
        self._lock = threading.Lock()
        # For each counter the time at which its last try will be paid for; the past: all tries are free.
        self._paid = [array("d", bytes(8 * slots)) for _ in rules]

    def take(self, *keys: str) -> int:
        """One try, with a key for each rule. 0: go on; else in how many seconds there will be one."""
        now = self._clock()
        places = self._places(keys)
        with self._lock:
            wait = max(
                self._paid[n][place] - now - (rule.burst - 1) * rule.period_s
                for n, (place, rule) in enumerate(zip(places, self._rules, strict=True))
            )
            if wait > 0:
                return math.ceil(wait)
            for n, (place, rule) in enumerate(zip(places, self._rules, strict=True)):
                self._paid[n][place] = max(self._paid[n][place], now) + rule.period_s
        return 0

    def give_back(self, *keys: str) -> None:
        """The try was a good one and shall not count."""
        with self._lock:
            for n, (place, rule) in enumerate(zip(self._places(keys), self._rules, strict=True)):
                self._paid[n][place] -= rule.period_s

    def _places(self, keys: Sequence[str]) -> list[int]:
        return [
            int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), key=self._salt, digest_size=8).digest())
            % self._slots
            for key in keys
        ]


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64, since one machine has all of it."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
