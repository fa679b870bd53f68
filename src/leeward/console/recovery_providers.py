"""Kinds of places in which VMs can be brought up, besides the console's own machine.

See `leeward.ports.recovery_provider.RecoveryProvider`.
"""

from __future__ import annotations

from dataclasses import dataclass

from leeward.console.agents import Agents


@dataclass(frozen=True, slots=True)
class WithAgent:
    """A KVM host elsewhere, on which an agent works."""

    agents: Agents
    key: str = "agent"

    def why_not(self) -> str:
        refusal = self.agents.refusal()
        return refusal.message if refusal else ""


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """A place that somebody may look for, and that this version cannot use."""

    key: str

    def why_not(self) -> str:
        return "this version cannot bring VMs up there"
