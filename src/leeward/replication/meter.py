"""Progress and rate of a copy, written by the copying threads, read by whoever reports."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from leeward.domain.progress import Progress

# Rates are taken over this many seconds, so that an ETA follows a change of speed without jumping about.
WINDOW_S = 10.0


class Meter:
    """phase: a word for people ("first copy"). total: bytes to examine; done and sent only grow."""

    def __init__(self, phase: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._phase = phase
        self._total = total
        self._done = 0
        self._sent = 0
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._lock = threading.Lock()

    def advance(self, done: int, sent: int) -> None:
        """`done` more bytes examined; `sent` bytes in the vault altogether."""
        with self._lock:
            self._done += done
            self._sent = max(self._sent, sent)
            now = self._clock()
            if now - self._samples[-1][0] >= 0.2:
                self._samples.append((now, self._done))
            while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW_S:
                self._samples.popleft()

    def progress(self) -> Progress:
        with self._lock:
            at, before = self._samples[0]
            passed = self._clock() - at
            rate = (self._done - before) / passed if passed > 0 else 0.0
            left = self._total - self._done
            eta = left / rate if rate > 0 else None
            return Progress(self._phase, self._done, self._total, self._sent, rate, eta)
