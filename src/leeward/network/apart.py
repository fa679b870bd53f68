"""Asking what may never answer, without waiting for it for as long as that.

A vault whose packets are swallowed, a libvirt that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


def apart(ask: Callable[[], Answer], name: str) -> Future[Answer]:
    """In a thread of its own. Not one of a pool's: those are waited for when the process ends, and this may hang."""
    future: Future[Answer] = Future()

    def work() -> None:
        try:
            answer = ask()
        except BaseException as error:  # the asker's to judge
            future.set_exception(error)
        else:
            future.set_result(answer)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
