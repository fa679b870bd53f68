"""Guests that were left standing since we died in the midst of a common instant: they go on where the VM may run.

Some may have been taken over meanwhile, so the vault is asked first; but a guest that is ours waits, so not for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from leeward.agent.groups import Groups
from leeward.agent.ledger import Ledger, StandDown
from leeward.agent.sentry import Watched
from leeward.domain.errors import LeewardError
from leeward.logs import log

# For so long a guest that was left standing may stand on, until the vault tells whether it is ours still.
_ASK_S = 2.0


class LeftStanding:
    """groups: None where each VM is replicated for itself. keep_off: see `Guard.keep_off`. fenced: asks who has the
    VM's log, and lets it stand down where that is somebody else; raises LeewardError."""

    def __init__(
        self,
        groups: Groups | None,
        ledger: Ledger,
        keep_off: Callable[[StandDown], bool],
        fenced: Callable[[Watched], None],
    ) -> None:
        self._groups, self._ledger = groups, ledger
        self._keep_off, self._fenced = keep_off, fenced
        self._asked: set[tuple[str, str]] = set()
        self._let_go: set[tuple[str, str]] = set()

    def release(self) -> None:
        if self._groups is not None:
            self._groups.release_left(self._goes_on)

    def ask(self) -> None:
        """Who has their logs. The vault is given a moment to tell."""
        left = self._groups.left() if self._groups is not None else []
        names = {wish.vm_id: wish.vm_name for wish in self._ledger.desired.protections}

        def ask() -> None:
            for host, vm_id in left:
                try:
                    self._fenced(Watched(vm_id, host, names.get(vm_id, vm_id)))
                    self._asked.add((host, vm_id))
                except LeewardError as error:
                    log.debug("who reigns is not known", vm=names.get(vm_id, vm_id), error=str(error))

        if left:
            asking = threading.Thread(target=ask, name="ask-of-left", daemon=True)
            asking.start()
            asking.join(_ASK_S)

    def may_be_free(self, host: str, vm_id: str) -> None:
        """Its protection has just been ended."""
        self._let_go.add((host, vm_id))

    def _goes_on(self, host: str, vm_id: str) -> bool:
        """Whether a guest that was left standing may go on here, or is off, so that nothing is left to go on."""
        standdown = self._ledger.standdown(vm_id, host)
        if standdown is not None:
            return self._keep_off(standdown)
        return (
            (host, vm_id) in self._asked or self._ledger.epoch_of(vm_id, host) is not None or self._free(host, vm_id)
        )

    def _free(self, host: str, vm_id: str) -> bool:
        """The console has ended its protection since we began, and wants it neither kept off here nor replicated
        anywhere: had it not been stopped it would run on, and nobody would let it go on later."""
        desired = self._ledger.desired
        wished = any(wish.vm_id == vm_id for wish in desired.protections)
        off = any((off.vm_id, off.host) == (vm_id, host) for off in desired.standdowns)
        return (host, vm_id) in self._let_go and not (wished or off or self._ledger.holds(vm_id, host))
