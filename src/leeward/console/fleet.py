"""All agents together, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TypeVar

from leeward.console.links import AgentLink
from leeward.domain.errors import NotFound
from leeward.wire.messages import (
    AgentReport,
    CopyReport,
    DesiredState,
    HostReport,
    ProtectionMessage,
    ProtectionReport,
    ReplicaMessage,
    ReplicaReport,
    StandDownMessage,
    StandDownReport,
    VmMessage,
)

_OfHost = TypeVar("_OfHost", ProtectionMessage, StandDownMessage, ReplicaMessage)


class FleetView:
    """What all agents tell, as of one moment; made for one question and thrown away. An agent is asked once at most:
    one of this process makes its report anew each time."""

    def __init__(self, links: Sequence[AgentLink]) -> None:
        self._links = links
        self._heard: dict[int, AgentReport] = {}
        self._told: dict[int, dict[str, ProtectionReport]] = {}
        self._kept: dict[int, dict[tuple[str, str], ReplicaReport]] = {}
        self._since: dict[str, float] = {}

    @cached_property
    def hosts(self) -> dict[str, HostReport]:
        """By name."""
        return {report.name: report for _, report in self._hosts}

    @cached_property
    def _hosts(self) -> list[tuple[AgentLink, HostReport]]:
        return [(link, report) for link in self._links for report in link.hosts()]

    @cached_property
    def by_host(self) -> dict[str, AgentLink]:
        """Which agent has which host."""
        return {report.name: link for link, report in self._hosts}

    @cached_property
    def _reports(self) -> list[tuple[AgentLink, AgentReport]]:
        return [(link, self._report(link)) for link in self._links]

    def _report(self, link: AgentLink) -> AgentReport:
        if id(link) not in self._heard:
            self._heard[id(link)] = link.report()
        return self._heard[id(link)]

    def protection(self, wish: ProtectionMessage) -> ProtectionReport | None:
        """What the agent of the wish's host tells of it, as old as it is by now."""
        told = self.told(wish)
        return _aged(told, self.since_told(wish.host)) if told else None

    def told(self, wish: ProtectionMessage) -> ProtectionReport | None:
        """The same, as it was told."""
        link = self.by_host.get(wish.host)
        return self._protections(link).get(wish.vm_id) if link else None

    def since_told(self, host: str) -> float:
        """Seconds since its agent has told last; 0 where there is none."""
        if host not in self._since:
            link = self.by_host.get(host)
            self._since[host] = link.age_s if link else 0.0
        return self._since[host]

    def _protections(self, link: AgentLink) -> dict[str, ProtectionReport]:
        """By VM id; only of agents that are asked for, since most questions are about a few of ten thousand VMs."""
        if id(link) not in self._told:
            self._told[id(link)] = {told.vm_id: told for told in self._report(link).protections}
        return self._told[id(link)]

    def present(self, host: str) -> bool:
        """Whether the host's agent answers."""
        link = self.by_host.get(host)
        return link is not None and link.present

    def place_trouble(self, host: str) -> str:
        """Why its agent cannot use the vault's place that it was told; "" when it can."""
        link = self.by_host.get(host)
        return self._report(link).place if link else ""

    @cached_property
    def vms(self) -> list[VmMessage]:
        return [vm for host in self.hosts.values() for vm in host.vms]

    @cached_property
    def copies(self) -> list[CopyReport]:
        return [copy for _, report in self._reports for copy in report.copies]

    def copy(self, vm_id: str, purpose: str) -> CopyReport | None:
        return next((copy for copy in self.copies if (copy.vm_id, copy.purpose) == (vm_id, purpose)), None)

    def replica(self, vm_id: str, host: str) -> ReplicaReport | None:
        """host: "" for one that keeps none."""
        link = self.by_host.get(host)
        return self._replicas(link).get((vm_id, host)) if link else None

    def _replicas(self, link: AgentLink) -> dict[tuple[str, str], ReplicaReport]:
        """By VM id and host; as `_protections`."""
        if id(link) not in self._kept:
            self._kept[id(link)] = {(told.vm_id, told.host): told for told in self._report(link).replicas}
        return self._kept[id(link)]

    def replicas_at(self, host: str) -> list[ReplicaReport]:
        """All that are there, wished or not."""
        link = self.by_host.get(host)
        return [told for told in self._replicas(link).values() if told.host == host] if link else []

    @cached_property
    def notes(self) -> dict[str, str]:
        """VM id → what a host that keeps it off has to say of it, where there is something."""
        return {off.vm_id: f"{off.host}: {off.note}" for off in self.standdowns if off.note}

    @property
    def standdowns(self) -> list[StandDownReport]:
        return [standdown for _, report in self._reports for standdown in report.standdowns]


def _aged(told: ProtectionReport, passed: float) -> ProtectionReport:
    """With its age as it is by now."""
    if told.rpo_actual_s is None or passed <= 0:
        return told
    return told.model_copy(update={"rpo_actual_s": told.rpo_actual_s + passed})


class Fleet:
    """links: the agents as of now; they may come and go."""

    def __init__(self, links: Callable[[], Sequence[AgentLink]]) -> None:
        self._links = links

    def view(self) -> FleetView:
        return FleetView(self._links())

    def link(self, host: str) -> AgentLink:
        """The agent that has this host. Raises NotFound."""
        by_host = self.view().by_host
        if host not in by_host:
            known = ", ".join(sorted(by_host)) or "none"
            raise NotFound("no agent has this host", subject=host, hint=f"Known hosts: {known}")
        return by_host[host]

    def generation(self) -> int:
        """The newest state that any agent has heard of; 0 when none has told."""
        return max((link.report().generation for link in self._links()), default=0)

    def apply(self, desired: DesiredState) -> None:
        """To each agent what concerns its hosts. One whose hosts are not known yet is told nothing: an empty wish
        would take its VMs' tracking away."""
        wishes, standdowns = _by_host(desired.protections), _by_host(desired.standdowns)
        replicas = _by_host(desired.replicas)
        for link in self._links():
            hosts = sorted({report.name for report in link.hosts()})
            if not hosts:
                continue
            link.apply(
                desired.model_copy(
                    update={
                        "protections": tuple(wish for host in hosts for wish in wishes.get(host, ())),
                        "standdowns": tuple(off for host in hosts for off in standdowns.get(host, ())),
                        "replicas": tuple(replica for host in hosts for replica in replicas.get(host, ())),
                    }
                )
            )


def _by_host(messages: Iterable[_OfHost]) -> dict[str, list[_OfHost]]:
    """Once for all agents: there may be thousands of VMs."""
    found: dict[str, list[_OfHost]] = {}
    for message in messages:
        found.setdefault(message.host, []).append(message)
    return found
