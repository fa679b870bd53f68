"""Times as the database keeps them."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """UTC, ISO 8601, whole seconds, a final Z."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
