"""All agents together, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leeward.console.links import AgentLink
from leeward.domain.errors import NotFound
from leeward.wire.messages import (
    CopyReport,
    DesiredState,
    HostReport,
    ProtectionMessage,
    ProtectionReport,
    StandDownReport,
)


class Fleet:
    """links: the agents as of now; they may come and go."""

    def __init__(self, links: Callable[[], Sequence[AgentLink]]) -> None:
        self._links = links

    def link(self, host: str) -> AgentLink:
        """The agent that has this host. Raises NotFound."""
        found = self._find(host)
        if found is None:
            known = ", ".join(sorted(report.name for report in self.hosts())) or "none"
            raise NotFound("no agent has this host", subject=host, hint=f"Known hosts: {known}")
        return found

    def _find(self, host: str) -> AgentLink | None:
        for link in self._links():
            if any(report.name == host for report in link.hosts()):
                return link
        return None

    def present(self, host: str) -> bool:
        """Whether the host's agent answers."""
        link = self._find(host)
        return link is not None and link.present

    def hosts(self) -> list[HostReport]:
        return [report for link in self._links() for report in link.hosts()]

    def host(self, name: str) -> HostReport | None:
        return next((report for report in self.hosts() if report.name == name), None)

    def protection(self, wish: ProtectionMessage) -> ProtectionReport | None:
        """What the agent of the wish's host tells of it."""
        link = self._find(wish.host)
        reports = link.report().protections if link else ()
        return next((report for report in reports if report.vm_id == wish.vm_id), None)

    def generation(self) -> int:
        """The newest state that any agent has heard of; 0 when none has told."""
        return max((link.report().generation for link in self._links()), default=0)

    def copies(self) -> list[CopyReport]:
        return [copy for link in self._links() for copy in link.report().copies]

    def copy(self, vm_id: str, purpose: str) -> CopyReport | None:
        return next((copy for copy in self.copies() if (copy.vm_id, copy.purpose) == (vm_id, purpose)), None)

    def standdowns(self) -> list[StandDownReport]:
        return [standdown for link in self._links() for standdown in link.report().standdowns]

    def apply(self, desired: DesiredState) -> None:
        """To each agent what concerns its hosts."""
        for link in self._links():
            hosts = {report.name for report in link.hosts()}
            link.apply(
                desired.model_copy(
                    update={
                        "protections": tuple(wish for wish in desired.protections if wish.host in hosts),
                        "standdowns": tuple(off for off in desired.standdowns if off.host in hosts),
                    }
                )
            )
