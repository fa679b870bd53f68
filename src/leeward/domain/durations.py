"""Durations as people write them. Pure."""

from __future__ import annotations

import re

from leeward.domain.errors import BadInput

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TYPED = ((86_400, "d"), (3600, "h"), (60, "min"))


def number(text: str, units: dict[str, int], wrong: str, example: str) -> float:
    """A number with one of these units. wrong: what BadInput says of a text that is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in units:
        raise BadInput(wrong, hint=f"Write it like {example}")
    return float(match[1]) * units[match[2].lower()]


def seconds(text: str) -> float:
    """ "1s", "5m", "24h", "7d"; a plain number is seconds. Raises BadInput."""
    return number(text, _SECONDS, f"{text!r} is not a duration", "1s, 5m, 24h or 7d")


def short(seconds: float) -> str:
    """As it is typed: 5s, 10min, 2h, 7d."""
    for length, unit in _TYPED:
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


def show(seconds: float) -> str:
    """As people read them, in one unit."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} d"
