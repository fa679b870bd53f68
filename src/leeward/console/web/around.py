"""What is around a VM and decides what can be done with it: the vault, the hosts of both sites. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from leeward.console.once import once
from leeward.console.views import HostView
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Closeup


class Hosts(StrEnum):
    """Of one site. THERE: one at least can be reached."""

    THERE = "there"
    LOST = "lost"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Around:
    """lost: names of hosts that cannot be reached now."""

    vault: VaultState = VaultState.OPEN
    source: Hosts = Hosts.THERE
    recovery: Hosts = Hosts.THERE
    lost: frozenset[str] = frozenset()


WELL = Around()


@once
def around(moment: Closeup) -> Around:
    lost = frozenset(host.name for host in moment.hosts if not host.reachable)
    return Around(moment.vault, _hosts(moment.hosts, "source"), _hosts(moment.hosts, "recovery"), lost)


def _hosts(hosts: Sequence[HostView], site: str) -> Hosts:
    found = [host.reachable for host in hosts if host.site == site]
    return Hosts.NONE if not found else Hosts.THERE if any(found) else Hosts.LOST


def no_vault(vault: VaultState, away: Phrase | None = None) -> Phrase | None:
    """Why nothing that needs the vault can be begun. away: what is said where it cannot be reached. A state that is
    not known yet keeps nobody from asking."""
    return {
        VaultState.NONE: phrase(N_("There is no vault yet: create it first.")),
        VaultState.LOCKED: phrase(N_("The vault is locked: unlock it first.")),
        VaultState.AWAY: away or phrase(N_("The vault cannot be reached.")),
    }.get(vault)


def no_recovery(around: Around) -> Phrase | None:
    """Why no VM can be brought up at the recovery site."""
    return {
        Hosts.NONE: phrase(N_("There is no recovery host yet: integrate one first.")),
        Hosts.LOST: phrase(N_("No recovery host can be reached.")),
    }.get(around.recovery)
