"""Hosts that were picked to get an agent, and how far integrating recovery has come. Values and pure functions.

What is kept of it holds no secret: of a token its hash alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from leeward.console.agent_views import AgentView
from leeward.console.discovery_api import FindingView, ScanView
from leeward.domain.errors import NotFound, Refused
from leeward.state.agents import UsedToken

MOST_PICKS = 100
Place = Literal["", "here", "agent"]
Site = Literal["source", "recovery"]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class Pick(_Kept):
    """A host that is to get an agent. address: IP address or host name, by which it is known here. name: what it will
    be called. what: as the scan judged it. token: hash of the last one made for it, "" before; expires: of that.
    agent: id of the one that came of an earlier token, "" without."""

    address: str
    name: str
    site: Site = "source"
    what: str = ""
    token: str = ""
    expires: str = ""
    agent: str = ""


class Progress(_Kept):
    """place: where VMs are to be recovered. ranges: as last typed. scan_id: of the scan begun last. scan: how it
    ended, None before."""

    place: Place = ""
    ranges: str = ""
    scan_id: str = ""
    scan: ScanView | None = None
    picks: tuple[Pick, ...] = ()

    def pick(self, address: str) -> Pick:
        """Raises NotFound."""
        for one in self.picks:
            if one.address == address:
                return one
        raise NotFound("this host was not picked", subject=address, hint="Pick it among what the scan found")


class PickState(StrEnum):
    """UNHEARD: enrolled, and not there now."""

    NEW = "new"
    WAITING = "waiting"
    EXPIRED = "expired"
    ENROLLED = "enrolled"
    UNHEARD = "unheard"
    READY = "ready"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a picked host has come. left_s: for which its token still holds, None where none waits. agent: that
    came of the token. vms: of its hosts."""

    pick: Pick
    state: PickState
    left_s: float | None = None
    agent: AgentView | None = None
    vms: int = 0


def read_progress(text: str) -> Progress:
    """What another version of Leeward kept is begun anew: nothing but clicks is lost."""
    try:
        return Progress.model_validate_json(text) if text else Progress()
    except ValidationError:
        return Progress()


def with_scan(now: Progress, view: ScanView) -> Progress:
    return now.model_copy(update={"scan": view}) if now.scan_id == view.id else now


def picked(found: FindingView, others: Sequence[Pick]) -> Pick:
    name = free_name(found.name, found.address, [other.name for other in others])
    return Pick(address=found.address, name=name, what=found.what)


def free_name(told: str, address: str, taken: Sequence[str]) -> str:
    """A name for a host: the first part of what it is called, else made of its address."""
    first = re.sub(r"[^A-Za-z0-9-]", "", told.partition(".")[0]).strip("-")[:40]
    base = (
        first if first and not told.replace(".", "").isdigit() else "host-" + re.sub(r"[^0-9A-Za-z]+", "-", address)
    )
    base = base.strip("-")[:50]
    number, name = 1, base
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def bounded(picks: Sequence[Pick]) -> tuple[Pick, ...]:
    if len(picks) > MOST_PICKS:
        raise Refused(f"these are more than {MOST_PICKS} hosts", hint="Enrol these first")
    return tuple(picks)


def standing(
    pick: Pick, used: UsedToken | None, agents: dict[str, AgentView], vms: dict[str, int], now: datetime
) -> Standing:
    """How far a pick has come. used: what became of its token. agents: by id; vms: how many each has."""
    if not pick.token:
        return Standing(pick, PickState.NEW)
    if used is None:
        left = (datetime.fromisoformat(pick.expires) - now).total_seconds()
        return Standing(pick, PickState.WAITING, left) if left > 0 else Standing(pick, PickState.EXPIRED)
    agent = agents.get(used.agent_id)
    if agent is None or agent.revoked:
        return Standing(pick, PickState.REVOKED, agent=agent)
    count = vms.get(agent.agent_id, 0)
    if not agent.present:
        return Standing(pick, PickState.UNHEARD if agent.heard else PickState.ENROLLED, agent=agent, vms=count)
    return Standing(pick, PickState.READY if agent.hosts else PickState.ENROLLED, agent=agent, vms=count)
