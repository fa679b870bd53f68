"""The Hosts page: agents with their hosts, how they are, and until when. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from leeward.console.agent_views import AgentView
from leeward.console.views import HostView
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.rows import Level
from leeward.console.web.watch import Moment

# An agent renews its certificate when a third of its life is left (a month); one that has less does not manage to.
_SOON_S = 20 * 86_400.0


@dataclass(frozen=True, slots=True)
class AgentLine:
    """One agent with its hosts. own: the console's; files: host → configuration file in which it stands, "" for one
    that was added by clicks, which can be removed. heard, enrolled, expires: UTC, "" where there is none. ending:
    its certificate ends soon, or has. revocable: it is one that can be revoked."""

    key: str
    name: str
    own: bool
    level: Level
    state: Phrase
    reason: str
    software: str
    heard: str
    enrolled: str
    expires: str
    ending: Level | None
    protected: int
    hosts: tuple[HostView, ...]
    revocable: bool
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def vms(self) -> int:
        return sum(host.vms for host in self.hosts)


def agent_lines(
    moment: Moment,
    agents: Sequence[AgentView],
    own: str,
    software: str,
    revoked: bool = False,
    files: Mapping[str, str] = MappingProxyType({}),
) -> list[AgentLine]:
    """The console's own agent first. own: what it is called; files: as `AgentLine` has them. revoked: these as
    well."""
    known = {host.name: host for host in moment.hosts}
    theirs = {name for agent in agents if not agent.revoked for name in agent.hosts}
    ours = tuple(host for host in moment.hosts if host.name not in theirs)
    lines = [_own(ours, moment, own, software, files)] if ours else []
    for agent in agents:
        if revoked or not agent.revoked:
            lines.append(_agent(agent, known, moment.taken))
    return lines


def _own(
    hosts: tuple[HostView, ...], moment: Moment, name: str, software: str, files: Mapping[str, str]
) -> AgentLine:
    names = {host.name for host in hosts}
    protected = sum(one.policy is not None and one.host in names for one in moment.statuses)
    return AgentLine(
        key="own",
        name=name,
        own=True,
        level=Level.GOOD,
        state=phrase(N_("Works in the console")),
        reason="",
        software=software,
        heard="",
        enrolled="",
        expires="",
        ending=None,
        protected=protected,
        hosts=hosts,
        revocable=False,
        files=files,
    )


def _agent(agent: AgentView, known: dict[str, HostView], now: float) -> AgentLine:
    level, state = _state(agent)
    return AgentLine(
        key=agent.agent_id,
        name=agent.name,
        own=False,
        level=level,
        state=state,
        reason=agent.revoked or agent.trouble,
        software=agent.software,
        heard=agent.heard,
        enrolled=agent.enrolled,
        expires=agent.certificate_expires,
        ending=_ending(agent.certificate_expires, now),
        protected=agent.protected,
        hosts=tuple(known[name] for name in agent.hosts if name in known and not agent.revoked),
        revocable=not agent.revoked,
    )


def _state(agent: AgentView) -> tuple[Level, Phrase]:
    if agent.revoked:
        return Level.OFF, phrase(N_("Revoked"))
    if agent.present:
        return (Level.WARN, phrase(N_("Connected, with trouble"))) if agent.trouble else (Level.GOOD, _CONNECTED)
    if not agent.heard:
        return Level.BUSY, phrase(N_("Enrolled, not heard of yet"))
    return Level.BAD, phrase(N_("Does not answer"))


_CONNECTED = phrase(N_("Connected"))


def _ending(expires: str, now: float) -> Level | None:
    if not expires:
        return None
    left = datetime.fromisoformat(expires).timestamp() - now
    return Level.BAD if left <= 0 else Level.WARN if left < _SOON_S else None
