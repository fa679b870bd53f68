"""Whether this host can use the vault's place that its console told. Nobody else looks where no VM is protected; and
stores that are open go on with the former place, and say so in this host's log alone."""

from __future__ import annotations

import re
from pathlib import Path

from leeward.agent.keys import load_keys
from leeward.domain.errors import LeewardError, NotFound, Refused, StoreUnavailable
from leeward.logs import log
from leeward.state.vault_place import PlaceFile
from leeward.vault.place import Place, vault_at

# Of an attempt; would be news each time.
_TOOK = re.compile(r" in \d+(\.\d+)?(ns|µs|ms|s)\b")
# While it cannot be used; a look asks for one object.
_AGAIN_S = 30.0


class PlaceLook:
    """`look` from one thread; it may wait for the store. trouble: why the place cannot be used, and what to do; ""
    when it can, or when none was told."""

    def __init__(self, file: PlaceFile, state_dir: Path) -> None:
        self.trouble = ""
        self._file = file
        self._state_dir = state_dir
        self._seen: object = None
        self._next = float("-inf")

    def look(self, now: float) -> None:
        """Once after each change, and now and then while it cannot be used. now: monotonic seconds."""
        stamp = self._file.stamp()
        if stamp == self._seen and (not self.trouble or now < self._next):
            return
        self._seen, self._next = stamp, now + _AGAIN_S
        trouble = self._found()
        if trouble and trouble != self.trouble:
            log.warning("the vault's place that was told cannot be used", error=trouble)
        self.trouble = trouble

    def _found(self) -> str:
        try:
            place = self._file.chosen()
            if place is not None:
                self._must_hold_ours(place)
        except LeewardError as error:
            return str(error)
        return ""

    def _must_hold_ours(self, place: Place) -> None:
        """Raises LeewardError."""
        try:
            found = vault_at(place)
        except LeewardError as error:
            why = _TOOK.sub("", error.message)
            raise Refused(
                f"the vault's place that was told cannot be used: {why}",
                subject=place.url,
                hint=error.hint or (_UNREACHED if isinstance(error, StoreUnavailable) else _RENEW),
            ) from None
        try:
            ours = load_keys(self._state_dir).vault_id
        except NotFound:
            return  # it was never unlocked here
        if found is None:
            raise Refused(
                "no vault is at the place that was told; the former one stays", subject=place.url, hint=_WHOSE
            )
        if found != ours:
            raise Refused(
                "another vault is at the place that was told; the former one stays", subject=place.url, hint=_WHOSE
            )


_UNREACHED = "See that this host reaches that server"
_RENEW = "Renew the credentials of the vault's place in the console"
_WHOSE = "Enrol this host with the console of its vault, or unlock this console's vault there"
