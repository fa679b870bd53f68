"""What is made of a picture of everything is made once, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Picture = TypeVar("Picture")
Made = TypeVar("Made")


def once(make: Callable[[Picture], Made]) -> Callable[[Picture], Made]:
    """Of each picture; what is made must not be changed. Kept for the newest two, since pages and streams may still
    be at the one before: who asks for what is there never waits. Who asks for what is just being made does: made
    twice side by side, both would be late."""
    lock = threading.Lock()
    kept: tuple[tuple[Picture, Made], ...] = ()

    @wraps(make)
    def made(picture: Picture) -> Made:
        nonlocal kept
        for known, found in kept:
            if known is picture:
                return found
        with lock:
            for known, found in kept:
                if known is picture:
                    return found
            found = make(picture)
            kept = (*kept[-1:], (picture, found))
            return found

    return made
