"""Looking after the vault: how much lies in it is written down each hour, and it is checked when somebody asks.

A check reads everything, so there is one at a time; it can be called off, and what it found is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from leeward.console.checks import VaultOpener
from leeward.domain.errors import LeewardError, Refused
from leeward.domain.growth import Size
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.vault_care import Check, VaultBook
from leeward.vault.check import check as check_vault
from leeward.vault.facade import Vault, VaultInfo

_COUNT_EVERY_S = 3600.0
_LOOK_S = 30.0
_FRESH_S = 60.0
_DIED = "the console ended in the middle of it"
_CANCELLED = "it was called off"


class _Over(Exception):
    """The check is to end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """objects, bytes: looked at; of_bytes: about how much there is, 0 when nobody knows."""

    check: Check
    objects: int = 0
    bytes: int = 0
    of_bytes: int = 0


class VaultCare:
    """`start` on the console that works, `stop` before the database is closed. Thread-safe."""

    def __init__(
        self,
        database: Database,
        opener: VaultOpener,
        clock: Callable[[], float] = time.time,
        may_act: Callable[[], None] = lambda: None,
    ) -> None:
        """may_act: does not return when this console is no longer the one that works."""
        self._book, self._opener, self._clock, self._may_act = VaultBook(database), opener, clock, may_act
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._known: tuple[VaultInfo, float] | None = None
        self._progress: Progress | None = None
        self._called_off = threading.Event()
        self._stopping = threading.Event()
        self._worker: threading.Thread | None = None
        self._keeper: threading.Thread | None = None

    # --- size -------------------------------------------------------------------------------------------

    def inventory(self) -> tuple[VaultInfo, float]:
        """(what it holds, as of when in UTC seconds), counted at most once a minute: readers wait for one count
        together. Raises what the vault raises."""
        with self._counting:
            now = self._clock()
            if self._known is None or abs(now - self._known[1]) > _FRESH_S:
                self._known = (self._opener.open().info(), now)
            return self._known

    def sizes(self, span_s: float) -> list[Size]:
        """Of this much time up to now, oldest first."""
        return self._book.sizes(self._clock() - span_s)

    def note_size(self) -> None:
        """When an hour has passed since the last time."""
        newest = self._book.sizes(self._clock() - _COUNT_EVERY_S)
        if not newest:
            info, at = self.inventory()
            self._book.add_size(Size(at, info.bytes))

    # --- checks -----------------------------------------------------------------------------------------

    def checks(self, limit: int = 10) -> list[Check]:
        """Newest first; the one that goes on, too."""
        return self._book.checks(limit)

    @property
    def progress(self) -> Progress | None:
        """Of the check that goes on."""
        return self._progress

    def begin(self, *, deep: bool, by: str) -> Check:
        """Raises Refused while another one goes on, and what the vault raises."""
        vault = self._opener.open()
        with self._lock:
            if self._progress is not None:
                raise Refused("the vault is just being checked", hint="Wait until that has ended, or call it off")
            check = self._book.begin(deep, by, self._clock())
            known = self._known
            self._progress = Progress(check, of_bytes=known[0].bytes if known else 0)
            self._called_off.clear()
            self._worker = threading.Thread(target=self._check, args=(vault, check), name="vault-check", daemon=True)
            self._worker.start()
        return check

    def call_off(self) -> None:
        """The check that goes on, if there is one."""
        self._called_off.set()

    def _check(self, vault: Vault, check: Check) -> None:
        def progress(objects: int, size: int) -> None:
            if self._called_off.is_set() or self._stopping.is_set():
                raise _Over
            was = self._progress
            if was is not None:
                self._progress = replace(was, objects=objects, bytes=size)

        try:
            report = check_vault(vault.store, vault.public_key, keys=vault.keys, deep=check.deep, progress=progress)
            ended = replace(
                check,
                objects=report.objects,
                bytes=report.bytes,
                points=report.points,
                troubles=len(report.troubles),
                named=tuple((trouble.key, trouble.what) for trouble in report.troubles),
                hurt=report.hurt,
            )
        except _Over:
            ended = replace(check, failure=_CANCELLED if self._called_off.is_set() else _DIED)
        except LeewardError as error:
            ended = replace(check, failure=str(error))
        except Exception:  # a bug here must not leave a check that goes on for ever
            log.exception("the check of the vault failed")
            ended = replace(check, failure="it failed; see the console's log")
        try:
            self._may_act()
            self._book.end(replace(ended, ended=self._clock()))
        except LeewardError as error:
            log.warning("what a check of the vault found could not be kept", error=str(error))
        finally:
            self._progress = None
        log.info("the vault was checked", deep=check.deep, troubles=ended.troubles, failure=ended.failure)

    # --- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._book.end_left(self._clock(), _DIED)
        self._keeper = threading.Thread(target=self._keep, name="vault-care", daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in (self._worker, self._keeper):
            if thread is not None:
                thread.join(10)

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                self._may_act()
                self.note_size()
            except LeewardError as error:
                log.debug("the vault was not counted", error=str(error))
            except Exception:  # the next round tries again
                log.exception("the vault could not be counted")
