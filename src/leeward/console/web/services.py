"""The services of this console, as cards: what each is for, whether it is on, what turns it on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.rows import Level
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Moment


@dataclass(frozen=True, slots=True)
class Card:
    """href: its page, or where it is integrated; "": nothing to be opened. missing: what keeps it from being on."""

    key: str
    sign: str
    name: str
    about: str
    on: bool
    level: Level
    state: Phrase
    action: str
    href: str
    missing: Phrase | None = None


def cards(moment: Moment, plans: int) -> list[Card]:
    return [_recovery(moment), _plans(plans), _network()]


def _recovery(moment: Moment) -> Card:
    missing = missing_for_recovery(moment)
    protected = sum(one.policy is not None for one in moment.statuses)
    on = not missing
    return Card(
        key="recovery",
        sign="shield",
        name=N_("Recovery"),
        about=N_("Replicates running VMs into the vault and brings them up at the recovery site."),
        on=on,
        level=Level.GOOD if on else Level.OFF,
        state=phrase(N_("Enabled – VMs protected: {count}"), count=protected) if on else phrase(N_("Disabled")),
        action=N_("Open") if on else N_("Integrate…"),
        href="/recovery" if on else "/services/recovery",
        missing=missing[0] if missing else None,
    )


def missing_for_recovery(moment: Moment) -> list[Phrase]:
    """What has to be done first, in order."""
    found = []
    if moment.vault is not VaultState.OPEN:
        found.append(phrase(N_("A vault that this machine can open")))
    if all(host.site != "source" for host in moment.hosts):
        found.append(phrase(N_("A host whose VMs are to be protected")))
    if all(host.site != "recovery" for host in moment.hosts):
        found.append(phrase(N_("A recovery host")))
    return found


def _plans(count: int) -> Card:
    return Card(
        key="plans",
        sign="list",
        name=N_("Recovery plans"),
        about=N_("Fail several VMs over together, in order, with checks, scripts and approvals."),
        on=count > 0,
        level=Level.GOOD if count else Level.OFF,
        state=phrase(N_("Enabled – plans: {count}"), count=count) if count else phrase(N_("Disabled")),
        action=N_("Open"),
        href="/plans",
        missing=None if count else phrase(N_("There is no plan yet.")),
    )


def _network() -> Card:
    return Card(
        key="network",
        sign="network",
        name=N_("Virtual network"),
        about=N_("Connects the two sites, so that clients follow a VM to where it runs."),
        on=False,
        level=Level.OFF,
        state=phrase(N_("Disabled")),
        action="",
        href="",
        missing=phrase(N_("This version does not bring it along.")),
    )
