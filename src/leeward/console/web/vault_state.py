"""The vault's state as it was last known, for pictures that are not to wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait

from leeward.console.room import Room
from leeward.console.web.vault_door import VaultDoor, VaultState
from leeward.network.apart import apart

_EVERY_S = 5.0
# Most vaults answer within this time: then the picture is right at once. One that has just been made is waited for.
_BRIEF_S, _MADE_S = 0.2, 1.0
# Who swallows packets for so long cannot be reached.
_SILENT_S = 6.0


Seen = tuple[VaultState, Room | None]


def seen(door: VaultDoor) -> Seen:
    state = door.state()
    return state, door.room() if state is VaultState.OPEN else None


class LastState:
    """One question at a time, in a thread of its own. Not thread-safe: asked under the picture's lock.

    room: that a vault has which is open and lies on a disk of this machine.
    """

    def __init__(self, ask: Callable[[], Seen]) -> None:
        self._ask = ask
        self.room: Room | None = None
        self._state = VaultState.UNKNOWN
        self._asked: Future[Seen] | None = None
        self._began = 0.0
        self._patience_s = _BRIEF_S

    def look(self) -> VaultState:
        now = time.monotonic()
        if self._asked is None or (self._asked.done() and now - self._began >= _EVERY_S):
            self._asked, self._began = apart(self._ask, "vault-state"), now
            wait([self._asked], self._patience_s)
        if self._asked.done():
            self._state, self.room = (VaultState.AWAY, None) if self._asked.exception() else self._asked.result()
            self._patience_s = _BRIEF_S
        elif now - self._began >= _SILENT_S:
            self._state, self.room, self._patience_s = VaultState.AWAY, None, 0.0
        return self._state

    def forget(self) -> None:
        """It has just been changed: what is being answered now may be of before."""
        self._asked, self._state, self._patience_s = None, VaultState.UNKNOWN, _MADE_S
