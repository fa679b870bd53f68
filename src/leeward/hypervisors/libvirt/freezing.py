"""Freezing a guest's file systems around an instant, and never leaving them frozen."""

from __future__ import annotations

from pathlib import Path

import libvirt

from leeward.logs import log

# A guest whose file systems take longer to quiesce than this stays writable: a crash-consistent point is made.
AGENT_TIMEOUT_S = 5


class Freezer:
    """`marker` exists on disk for as long as the guest may be frozen, so that a successor can thaw it."""

    def __init__(self, domain: libvirt.virDomain, marker: Path) -> None:
        self._domain = domain
        self._marker = marker

    def freeze(self) -> str:
        """ "" when the guest is frozen, else why it is not (it is thawed then)."""
        try:
            self._domain.agentSetResponseTimeout(AGENT_TIMEOUT_S)
            self._marker.touch()
            self._domain.fsFreeze()
        except libvirt.libvirtError as error:
            # A freeze that timed out may still happen later in the guest.
            self.thaw()
            return f"the guest's file systems were not frozen: {error}"
        return ""

    def thaw(self) -> None:
        """Thaw, twice if need be. Harmless when nothing is frozen."""
        for _ in range(2):
            try:
                # Without it libvirt waits for a hanging agent for ever, and a cycle with it.
                self._domain.agentSetResponseTimeout(AGENT_TIMEOUT_S)
                self._domain.fsThaw()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
                    continue
                if not _running(self._domain):
                    break
                log.warning("thaw failed", vm=self._domain.name(), error=str(error))
            else:
                break
        else:
            return  # the marker stays: whoever opens the next cycle tries again
        self._marker.unlink(missing_ok=True)

    def thaw_leftover(self) -> None:
        """Thaw when a predecessor died between freeze and thaw."""
        if self._marker.exists():
            self.thaw()


def _running(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError:
        return False
