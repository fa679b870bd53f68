"""The console's agents: tokens, enrolment, certificates, revocation, and the links to them."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from leeward.console.agent_views import AgentView, TokenRequest, TokenView, utc_text, view_of, view_of_revoked
from leeward.console.authority import Authority, Peer, request_key
from leeward.console.remote_agent import RemoteAgent
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.logs import log
from leeward.state.agents import AgentRecord, AgentRecords, UsedToken
from leeward.state.database import Database
from leeward.wire.messages import PlaceMessage
from leeward.wire.polls import Enrol, Enrolled
from leeward.wire.tokens import Token, split_address

# What agents told is kept this often; losing it loses nothing, since they tell it again.
_KEEP_EVERY_S = 10.0
_NO_CLOCKS = 1 << 52  # milliseconds: in a hundred thousand years
LONGEST_TOKEN_S = 30 * 86_400.0


class Agents:
    """address: how agents reach us, https://host:port, "" when none can. certificate_days: how long theirs live.

    on_hosts: called in the keeper's thread when an agent has told of other hosts than before, and these are kept:
    what is wished for them can be spread now.

    consoles: addresses of all consoles on this database, this one first; none where it is the only one. may_act: does
    not return when this console is no longer the one that works.

    place: of the vault, for agents whose configuration has none.
    """

    def __init__(
        self,
        database: Database,
        authority: Authority,
        address: str,
        certificate_days: float = 90,
        on_hosts: Callable[[], None] = lambda: None,
        consoles: Callable[[], tuple[str, ...]] = lambda: (),
        may_act: Callable[[], None] = lambda: None,
        place: Callable[[], PlaceMessage | None] = lambda: None,
    ) -> None:
        if address:
            split_address(address)
        self._database = database
        self._records = AgentRecords(database)
        self._authority = authority
        self._address = address
        self._days = certificate_days
        self.consoles = consoles
        self._may_act = may_act
        self.place = place
        self._writing = threading.RLock()
        self._records.prune_jobs()
        self._on_hosts = on_hosts
        self._news = threading.Event()
        records = self._records.all()
        self._remotes = {record.id: self._remote(record) for record in records if not record.revoked}
        self._revoked = {record.id: record for record in records if record.revoked}
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="agents", daemon=True)

    def _remote(self, record: AgentRecord) -> RemoteAgent:
        return RemoteAgent(record, self._records, self._writing, self._news.set)

    def start(self) -> None:
        """Begin to keep what agents tell."""
        self._keeper.start()

    def stop(self) -> None:
        self._stop.set()
        self._news.set()
        if self._keeper.is_alive():
            self._keeper.join(5)
        self.keep()

    def links(self) -> list[RemoteAgent]:
        """Of all agents that are not revoked, present or not, by name. A link stays good when its host is set up anew
        and enrols in its place."""
        return sorted(self._remotes.values(), key=lambda remote: remote.name)

    def newest_place(self) -> int:
        """The highest revision of the vault's place that an agent holds. One that no clock has made does not count:
        no agent must use up the numbers."""
        return max((link.place for link in self.links() if link.place < _NO_CLOCKS), default=0)

    def wake(self) -> None:
        """What all of them are told may be something else now."""
        for link in self.links():
            link.wake()

    # --- enrolment ----------------------------------------------------------------------------------

    def new_token(self, request: TokenRequest) -> TokenView:
        """Raises BadInput, Refused."""
        if (refusal := self.refusal()) is not None:
            raise refusal
        if not 0 < request.expires_s <= LONGEST_TOKEN_S:
            raise BadInput("a token lives for some time, at most 30 days", subject=f"{request.expires_s:g} s")
        _check_name(request.name)
        address = ",".join(self.consoles() or (self._address,))
        token = Token.new(address, bytes.fromhex(self._authority.fingerprint.replace(":", "")))
        expires = utc_text(datetime.now(UTC) + timedelta(seconds=request.expires_s))
        self._records.add_token(token.secret_hash, request.name, expires)
        self._database.record("agent token made", request.name or "any host", f"expires {expires}")
        return TokenView(
            token=str(token),
            name=request.name,
            expires=expires,
            address=address,
            fingerprint=self._authority.fingerprint,
        )

    def refusal(self) -> Refused | None:
        """Why no agent can enrol here, None when one can."""
        if self._address:
            return None
        return Refused(
            "this console does not listen for agents",
            hint='Set agents_listen = "0.0.0.0:8444" in the [console] section of leeward.toml and start it anew',
        )

    def used(self, token_hash: str) -> UsedToken | None:
        """What came of a token; None while nobody has used it."""
        return self._records.used_token(token_hash) if token_hash else None

    def enrol(self, request: Enrol) -> Enrolled:
        """Raises Refused, BadInput."""
        try:
            secret = bytes.fromhex(request.secret)
        except ValueError:
            raise BadInput("the token's secret is damaged") from None
        key = request_key(request.request.encode())  # before the token is used up
        _check_name(request.name)
        token_hash = hashlib.sha256(secret).hexdigest()
        key_hash = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        with self._writing:
            admission = self._records.redeem(token_hash, key_hash, request.name)
            self._take_in(admission.agent_id, admission.replaced)
        certificate = self._authority.issue_agent(request.request.encode(), admission.agent_id, self._days)
        self._database.record("agent enrolled", admission.name, admission.agent_id, who="leeward")
        log.info("agent enrolled", agent=admission.name, id=admission.agent_id)
        return Enrolled(agent_id=admission.agent_id, name=admission.name, certificate=certificate.decode())

    def _take_in(self, agent_id: str, replaced: str) -> None:
        record = self._records.one(agent_id)
        assert record is not None
        remote = self._remotes.get(agent_id) or self._remotes.pop(replaced, None)
        if remote is None:
            remote = self._remote(record)
        elif replaced:
            remote.replaced_by(agent_id, record.enrolled)
            former = self._records.one(replaced)
            if former is not None:
                self._revoked[replaced] = former
        self._remotes[agent_id] = remote

    def renew(self, peer: Peer, request: str) -> bytes:
        """The next certificate, for another key. Raises Refused, BadInput."""
        remote = self.admit(peer)
        log.info("certificate renewed", agent=remote.name)
        return self._authority.issue_agent(request.encode(), remote.id, self._days)

    # --- who may speak ------------------------------------------------------------------------------

    def admit(self, peer: Peer) -> RemoteAgent:
        """The agent that a certificate stands for. Raises Refused: revoked, unknown, expired."""
        self._may_act()
        remote = self._remotes.get(peer.agent_id)
        if remote is None:
            revoked = self._revoked.get(peer.agent_id)
            if revoked is not None:
                raise Refused(f"this agent is revoked: {revoked.revoked}", subject=revoked.name, hint=_ENROL)
            raise Refused("the console does not know this agent", subject=peer.agent_id, hint=_ENROL)
        if peer.expired(datetime.now(UTC)):
            raise Refused(f"the certificate expired at {utc_text(peer.expires)}", subject=remote.name, hint=_ENROL)
        remote.expires = peer.expires
        return remote

    def revoke(self, ref: str) -> AgentView:
        """From now on the agent is refused; it goes on replicating what it was told. Raises NotFound, Refused."""
        with self._writing:
            found = [remote for remote in self._remotes.values() if ref in (remote.name, remote.id)]
            if not found:
                gone = [record for record in self._revoked.values() if ref in (record.name, record.id)]
                if gone:
                    raise Refused(f"it is revoked already: {gone[-1].revoked}", subject=ref)
                known = ", ".join(sorted(remote.name for remote in self._remotes.values())) or "none"
                raise NotFound("there is no such agent", subject=ref, hint=f"Known: {known}")
            remote = found[0]
            self._records.revoke(remote.id, f"revoked by the operator at {utc_text(datetime.now(UTC))}")
            record = self._records.one(remote.id)
            assert record is not None
            self._revoked[remote.id] = record
            del self._remotes[remote.id]
        self._database.record("agent revoked", remote.name, remote.id)
        remote.revoked()
        return next(view for view in self.views() if view.agent_id == remote.id)

    # --- looking ------------------------------------------------------------------------------------

    def presence(self) -> tuple[int, int]:
        """(agents that answer, agents that are enrolled)."""
        links = self.links()
        return sum(link.present for link in links), len(links)

    def views(self) -> list[AgentView]:
        """Of all agents, revoked ones last."""
        links = self.links()
        owners = Counter(host.name for remote in links for host in remote.hosts())
        place = self.place()
        views = [view_of(remote, owners, place.revision if place else None) for remote in links]
        revoked = sorted(self._revoked.values(), key=lambda record: record.name)
        return views + [view_of_revoked(record) for record in revoked]

    def _keep(self) -> None:
        while not self._stop.is_set():
            other_hosts = self._news.wait(_KEEP_EVERY_S)
            self._news.clear()
            try:
                self.keep()
                if other_hosts and not self._stop.is_set():
                    self._on_hosts()
            except LeewardError as error:
                log.warning("what agents told could not be kept", error=str(error))
            except Exception:  # the next round tries again; a full disk must not end this thread
                log.exception("what agents told could not be kept")

    def keep(self) -> None:
        """Write down what was told since the last time."""
        unsaved = [record for remote in self.links() if (record := remote.unsaved())]
        if unsaved:
            self._records.save_heard(unsaved)


_ENROL = "Enrol the host again with a new token from `leeward agents token`"


def _check_name(name: str) -> None:
    if len(name) > 255 or not name.isprintable() or "/" in name:
        raise BadInput("this cannot be an agent's name", subject=name[:80])
