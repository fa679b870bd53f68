"""A pin that is renewed for as long as somebody reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from leeward.domain.errors import StoreError

LEASE_S = 3600.0


class Lease:
    """A context manager. put: makes a pin and returns its name, "" when there can be none. drop: takes one away.

    Errors of the first `put` come through; later ones are tried again.
    """

    def __init__(self, put: Callable[[], str], drop: Callable[[str], None], every_s: float = LEASE_S / 4) -> None:
        self._put = put
        self._drop = drop
        self._every_s = every_s
        self._name = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._name = self._put()
        self._thread.start()
        return self

    def _renew(self) -> None:
        while not self._over.wait(self._every_s):
            with suppress(StoreError):
                # The new pin first: at no instant is there none.
                if name := self._put():
                    old, self._name = self._name, name
                    if old:
                        self._drop(old)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._name:
            with suppress(StoreError):  # it expires by itself
                self._drop(self._name)
