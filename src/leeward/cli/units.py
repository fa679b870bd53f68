"""Durations and sizes as people write them. Pure."""

from __future__ import annotations

from datetime import datetime

from leeward.domain.durations import number, show
from leeward.domain.durations import seconds as seconds

_BYTES = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BYTES |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}
_BYTES |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


def size(text: str) -> int:
    """ "10MiB", "2.5 GB", "512k"; a plain number is bytes. Raises BadInput."""
    return int(number(text, _BYTES, f"{text!r} is not a size", "10MiB or 500k"))


def show_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def show_seconds(value: float | None) -> str:
    return "–" if value is None else show(value)


def show_time(iso: str) -> str:
    """A UTC time as local time of day and date, to the second."""
    return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M:%S")
