"""Agents as the API and `leeward agents … --json` show them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from pydantic import BaseModel

from leeward.console.remote_agent import RemoteAgent
from leeward.state.agents import AgentRecord


class AgentView(BaseModel):
    """One agent. heard: UTC of its last word. generation: of the desired state that it acts on.

    certificate_expires: of the one that it last showed. revoked: why it is refused. trouble: what else is wrong.
    """

    name: str
    agent_id: str
    present: bool
    heard: str
    software: str
    hosts: list[str]
    protected: int
    generation: int
    enrolled: str
    certificate_expires: str
    revoked: str
    trouble: str


class TokenRequest(BaseModel):
    """name: what the agent will be called, "" lets its host choose. expires_s: seconds from now."""

    name: str = ""
    expires_s: float = 3600.0


class TokenView(BaseModel):
    token: str
    name: str
    expires: str
    address: str
    fingerprint: str


def view_of(remote: RemoteAgent, owners: Counter[str], place: int | None) -> AgentView:
    """place: revision of the vault's place that agents are told, None when they are told none."""
    report = remote.report()
    troubles = [trouble for trouble in (remote.trouble, report.place) if trouble]
    if place is not None and remote.place > place:
        troubles.append(
            "it holds newer credentials for the vault than this console, and keeps them: renew them here to have the "
            "same everywhere"
        )
    shared = [host.name for host in remote.hosts() if owners[host.name] > 1]
    if shared:
        names = ", ".join(shared)
        troubles.append(f"another agent has a host of the same name ({names}): rename one in leeward.toml")
    return AgentView(
        name=remote.name,
        agent_id=remote.id,
        present=remote.present,
        heard=remote.heard,
        software=remote.software,
        hosts=[host.name for host in remote.hosts()],
        protected=len(report.protections),
        generation=report.generation,
        enrolled=remote.enrolled,
        certificate_expires=utc_text(remote.expires) if remote.expires else "",
        revoked="",
        trouble="; ".join(troubles),
    )


def view_of_revoked(record: AgentRecord) -> AgentView:
    return AgentView(
        name=record.name,
        agent_id=record.id,
        present=False,
        heard=record.heard,
        software="",
        hosts=[host.name for host in record.hosts],
        protected=0,
        generation=0,
        enrolled=record.enrolled,
        certificate_expires="",
        revoked=record.revoked,
        trouble="",
    )


def utc_text(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
