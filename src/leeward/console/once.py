"""What is made of a picture of everything is made once, whoever asks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Picture = TypeVar("Picture")
Made = TypeVar("Made")


def once(make: Callable[[Picture], Made]) -> Callable[[Picture], Made]:
    """Of each picture; what is made must not be changed. Kept for the newest two, since streams may still be at the
    one before. Who asks meanwhile waits: made twice side by side, both would be late."""
    lock = threading.Lock()
    kept: deque[tuple[Picture, Made]] = deque(maxlen=2)

    @wraps(make)
    def made(picture: Picture) -> Made:
        with lock:
            for known, found in kept:
                if known is picture:
                    return found
            kept.append((picture, make(picture)))
            return kept[-1][1]

    return made
