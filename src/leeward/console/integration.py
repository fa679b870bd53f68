"""Integrating recovery, step by step: what was chosen, found and picked, kept so that it can be gone on with later.

One for the whole console: whoever opens it sees how far the others have come. No secret is ever kept: of a token its
hash alone, as the agents' own table has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from leeward.console.agent_views import AgentView, TokenRequest, TokenView
from leeward.console.agents import Agents
from leeward.console.discovery_api import FindingView, ScanView, scan_view
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.domain.names import check_host_name
from leeward.network.discovery.pace import DEFAULT
from leeward.network.discovery.ranges import parse
from leeward.network.discovery.scans import Scans, State
from leeward.state.agents import UsedToken
from leeward.state.database import Database
from leeward.state.integrations import Integrations
from leeward.wire.tokens import read_token

SERVICE = "recovery"
TOKEN_S = 3600.0
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


class Integration:
    """Thread-safe."""

    def __init__(
        self,
        database: Database,
        agents: Agents,
        scans: Scans,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._kept = Integrations(database)
        self._agents = agents
        self._scans = scans
        self._clock = clock

    def progress(self) -> Progress:
        return _read(self._kept.document(SERVICE))

    def _change(self, change: Callable[[Progress], Progress]) -> Progress:
        return _read(self._kept.change(SERVICE, lambda text: change(_read(text)).model_dump_json()))

    def choose_place(self, place: Place) -> None:
        self._change(lambda before: before.model_copy(update={"place": place}))

    # --- the scan -----------------------------------------------------------------------------------

    def begin_scan(self, ranges: str) -> None:
        """At the default pace, which is polite. Raises BadInput, Refused while another one runs."""
        scan_id = self._scans.start([ranges], DEFAULT)
        self._change(lambda now: now.model_copy(update={"ranges": ranges, "scan_id": scan_id, "scan": None}))
        self._database.record("network scan begun", ranges[:255])

    def cancel_scan(self) -> None:
        """Nothing when it has ended."""
        scan_id = self.progress().scan_id
        try:
            self._scans.cancel(scan_id)
        except NotFound:
            return
        self.scan()

    def scan(self) -> ScanView | None:
        """The last one, as it is now; None when there was none, or the console was started anew in the midst of it.
        What it came to is kept as soon as somebody looks after its end."""
        progress = self.progress()
        if progress.scan is not None or not progress.scan_id:
            return progress.scan
        try:
            view = scan_view(self._scans.look(progress.scan_id))
        except NotFound:
            return None
        if view.state is not State.RUNNING:
            self._change(lambda now: _with_scan(now, view))
        return view

    # --- picking ------------------------------------------------------------------------------------

    def pick(self, addresses: Sequence[str]) -> None:
        """These of what was found, and what was added by name; others are let go of, unless a token was made for
        them. Raises BadInput."""
        scan = self.scan()
        found = {finding.address: finding for finding in scan.findings} if scan else {}
        for address in addresses:
            if address not in found:
                raise BadInput("the scan has not found this", subject=address)
            if found[address].supported is False:
                raise BadInput(found[address].reason, subject=address)

        def change(now: Progress) -> Progress:
            kept = [one for one in now.picks if one.address not in found or one.address in addresses or one.token]
            known = {one.address for one in kept}
            for address in addresses:
                if address not in known:
                    kept.append(_picked(found[address], kept))
            return now.model_copy(update={"picks": _bounded(kept)})

        self._change(change)

    def add(self, address: str) -> None:
        """A host that no scan need find. Raises BadInput."""
        targets = parse([address])
        if len(targets.addresses) + len(targets.names) != 1:
            raise BadInput("give one address or one host name", subject=address[:80])
        one = str(targets.addresses[0]) if targets.addresses else targets.names[0]

        def change(now: Progress) -> Progress:
            if any(pick.address == one for pick in now.picks):
                return now
            name = free_name(one if targets.names else "", one, [pick.name for pick in now.picks])
            return now.model_copy(update={"picks": _bounded([*now.picks, Pick(address=one, name=name)])})

        self._change(change)

    def drop(self, address: str) -> None:
        """Out of the list; an agent that came of it stays. Raises NotFound."""
        self.progress().pick(address)
        self._change(
            lambda now: now.model_copy(update={"picks": tuple(p for p in now.picks if p.address != address)})
        )

    # --- enrolling ----------------------------------------------------------------------------------

    def make_token(self, address: str, name: str, site: Site) -> TokenView:
        """One-time, for an hour; an earlier one for the same host stays good until it ends. Raises BadInput (subject:
        name), NotFound, Refused."""
        self.check_name(address, name)
        made = self._agents.new_token(TokenRequest(name=name, expires_s=TOKEN_S))
        own = self.agent_of(address)
        values = {"name": name, "site": site, "token": read_token(made.token).secret_hash, "expires": made.expires}
        values["agent"] = own.agent_id if own else ""

        def change(now: Progress) -> Progress:
            changed = [one.model_copy(update=values) if one.address == address else one for one in now.picks]
            return now.model_copy(update={"picks": tuple(changed)})

        self._change(change)
        return made

    def check_name(self, address: str, name: str) -> None:
        """Raises BadInput (subject: name) for one that this host cannot have, NotFound for a host that is not picked,
        Refused where no agent can enrol. The name of the agent that is on it can be had: it enrols in its own place,
        as when what comes behind its enrolment has failed."""
        progress = self.progress()
        own = self._agent_of(progress.pick(address))
        if (refusal := self._agents.refusal()) is not None:
            raise refusal
        check_host_name(name)
        if own is not None:
            if name != own.name:
                raise BadInput(
                    "an agent of another name is on this host", subject="name", hint=f"Its name is {own.name}"
                )
            return
        taken = any(view.name == name and not view.revoked for view in self._agents.views())
        if taken or any(name in (host.name for host in link.hosts()) for link in self._agents.links()):
            raise BadInput("an agent or host of this name exists", subject="name")
        if any(pick.name == name and pick.address != address for pick in progress.picks):
            raise BadInput("another host in the list has this name", subject="name")

    def agent_of(self, address: str) -> AgentView | None:
        """That came of a token which was made for this host, and is not revoked. Raises NotFound."""
        return self._agent_of(self.progress().pick(address))

    def _agent_of(self, pick: Pick) -> AgentView | None:
        used = self._agents.used(pick.token)
        ids = {pick.agent, used.agent_id if used else ""} - {""}
        return next((view for view in self._agents.views() if view.agent_id in ids and not view.revoked), None)

    def standings(self) -> list[Standing]:
        """Of all picked hosts, in their order."""
        views = {view.agent_id: view for view in self._agents.views()}
        vms = {link.id: sum(len(host.vms) for host in link.hosts()) for link in self._agents.links()}
        now = self._clock()
        return [_standing(pick, self._agents.used(pick.token), views, vms, now) for pick in self.progress().picks]

    def refusal(self) -> LeewardError | None:
        """Why no agent can enrol here at all, None when one can."""
        return self._agents.refusal()


def _read(text: str) -> Progress:
    """What another version of Leeward kept is begun anew: nothing but clicks is lost."""
    try:
        return Progress.model_validate_json(text) if text else Progress()
    except ValidationError:
        return Progress()


def _with_scan(now: Progress, view: ScanView) -> Progress:
    return now.model_copy(update={"scan": view}) if now.scan_id == view.id else now


def _picked(found: FindingView, others: Sequence[Pick]) -> Pick:
    name = free_name(found.name, found.address, [other.name for other in others])
    return Pick(address=found.address, name=name, what=found.what)


def free_name(told: str, address: str, taken: Sequence[str]) -> str:
    """A name for a host: the first part of what it is called, else made of its address. Pure."""
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


def _bounded(picks: Sequence[Pick]) -> tuple[Pick, ...]:
    if len(picks) > MOST_PICKS:
        raise Refused(f"these are more than {MOST_PICKS} hosts", hint="Enrol these first")
    return tuple(picks)


def _standing(
    pick: Pick, used: UsedToken | None, agents: dict[str, AgentView], vms: dict[str, int], now: datetime
) -> Standing:
    """Pure."""
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
