"""When the next cycle begins: pure rules."""

from __future__ import annotations

# A point's age is at its greatest just before the next one is durable: one period plus one cycle. Starting a tenth
# of the target early leaves room for jitter.
MARGIN = 0.9
# The shortest rest between two cycles, as a share of the last cycle: a guest that writes faster than the vault takes
# still gets half of the host's time for itself.
REST = 0.5
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0)


def next_start(began: float, ended: float, usual_s: float, rpo_s: float) -> float:
    """Monotonic time of the next cycle's start. usual_s: how long cycles take lately."""
    wish = began + rpo_s * MARGIN - usual_s
    return max(wish, ended + (ended - began) * REST)


def usual(before: float | None, latest: float) -> float:
    """Smoothed duration of a cycle: up at once, down slowly, so that one quick cycle does not cause a late one."""
    if before is None or latest > before:
        return latest
    return before * 0.8 + latest * 0.2


def backoff(failures: int) -> float:
    """Seconds to wait after the n-th failure in a row (1 = first)."""
    return BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
