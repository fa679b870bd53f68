"""Bandwidth limit of one VM: a token bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Limiter:
    """`spend(n)` waits so that over time no more than `rate` bytes a second pass; 0 = no limit.

    A burst of one second is free. The debt of a large spend is paid by the next one, so a caller that learns what
    it sent only afterwards (compression) is limited correctly too.
    exempt: while it is true, `spend` lets everything pass uncounted (it goes to the spool, and not over the line);
    who sends it later calls `pay`.
    """

    def __init__(
        self,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        exempt: Callable[[], bool] = lambda: False,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._exempt = exempt
        self._tokens = float(rate)
        self._at = clock()
        self._lock = threading.Lock()

    def spend(self, count: int) -> None:
        if not self._exempt():
            self.pay(count)

    def pay(self, count: int) -> None:
        if self._rate <= 0:
            return
        with self._lock:
            now = self._clock()
            self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
            self._at = now
            self._tokens -= count
            wait = -self._tokens / self._rate
        if wait > 0:
            self._sleep(wait)
