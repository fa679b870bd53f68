"""Sending what waits in a VM's spool, beside its cycles."""

from __future__ import annotations

import threading
from collections.abc import Callable

from leeward.domain.errors import Fenced, LeewardError, StoreError
from leeward.logs import log
from leeward.replication.limiter import Limiter
from leeward.replication.spool import SpoolingStore

# The store beneath has tried for a while itself before it says that it is away.
_RETRY_S = 2.0


class CatchUp:
    """A thread for as long as something waits, so that neither an absent vault nor a long queue holds up a cycle.

    log_prefix: of the keys of the VM's log entries. on_fenced: called when another writer was found to have taken
    over; `check` and `look` raise it from then on.
    """

    def __init__(
        self, name: str, store: SpoolingStore, log_prefix: str, limiter: Limiter, on_fenced: Callable[[], None]
    ) -> None:
        self._name = name
        self._store = store
        self._log_prefix = log_prefix
        self._limiter = limiter
        self._on_fenced = on_fenced
        self._fenced: Fenced | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raises Fenced."""
        if self._fenced:
            raise self._fenced

    def look(self) -> None:
        """Begin to send when something waits. Raises Fenced. For one thread only."""
        self.check()
        if self._store.pending_bytes and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name=f"catch-up-{self._name}", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """What is not sent stays in the spool."""
        self._over.set()
        if self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        log.warning("points wait in the spool", vm=self._name, reason=self._store.trouble)
        while not self._over.is_set():
            try:
                size = self._send()
            except Fenced as error:
                self._fenced = error
                self._on_fenced()
                return
            except LeewardError as error:
                log.debug("the spool cannot be sent", vm=self._name, error=str(error))
                self._over.wait(_RETRY_S)
            except Exception:  # a bug here must not leave points behind for good
                log.exception("the spool cannot be sent", vm=self._name)
                self._over.wait(_RETRY_S)
            else:
                if size is None:
                    log.info("the spool is sent", vm=self._name)
                    return
                self._limiter.pay(size)

    def _send(self) -> int | None:
        try:
            return self._store.send_next()
        except StoreError:
            # A vault that takes nothing from us may have taken another's epoch: then the VM must not run on here.
            self._store.check_place(self._log_prefix)
            raise
