"""Times as the database keeps them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> str:
    """UTC, ISO 8601, whole seconds, a final Z."""
    return stamp(time.time())


def stamp(seconds: float) -> str:
    """The same for a moment in UTC seconds. All are of one length, so that later is also greater."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """UTC seconds of a time as `stamp` writes it, or finer."""
    return datetime.fromisoformat(text).timestamp()
