"""Integrating recovery, step by step: what was chosen, found and picked, kept so that it can be gone on with later.

One for the whole console: whoever opens it sees how far the others have come. No secret is ever kept: of a token its
hash alone, as the agents' own table has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from leeward.console.agent_views import AgentView, TokenRequest, TokenView
from leeward.console.agents import Agents
from leeward.console.discovery_api import ScanView, scan_view
from leeward.console.picks import (
    Pick,
    Place,
    Progress,
    Site,
    Standing,
    bounded,
    free_name,
    picked,
    read_progress,
    standing,
    with_scan,
)
from leeward.domain.errors import BadInput, LeewardError, NotFound
from leeward.domain.names import check_host_name
from leeward.network.discovery.pace import DEFAULT
from leeward.network.discovery.ranges import parse
from leeward.network.discovery.scans import Scans, State
from leeward.state.database import Database
from leeward.state.integrations import Integrations
from leeward.wire.tokens import read_token

SERVICE = "recovery"
TOKEN_S = 3600.0


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
        return read_progress(self._kept.document(SERVICE))

    def _change(self, change: Callable[[Progress], Progress]) -> Progress:
        return read_progress(self._kept.change(SERVICE, lambda text: change(read_progress(text)).model_dump_json()))

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
            self._change(lambda now: with_scan(now, view))
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
                    kept.append(picked(found[address], kept))
            return now.model_copy(update={"picks": bounded(kept)})

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
            return now.model_copy(update={"picks": bounded([*now.picks, Pick(address=one, name=name)])})

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
        return [standing(pick, self._agents.used(pick.token), views, vms, now) for pick in self.progress().picks]

    def refusal(self) -> LeewardError | None:
        """Why no agent can enrol here at all, None when one can."""
        return self._agents.refusal()
