"""What keeps a host with an agent that is to let go of it. Pure.

The console has looked before it asks, and tells people what to do first. This is the last look, at what the agent
itself remembers and at what lies on the host's disks: nobody would look after it any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from leeward.domain.errors import Refused


@dataclass(frozen=True, slots=True)
class Traces:
    """VMs, by name or id: replicated from the host; with a replica there, or one that is wished or being made; kept
    off, held still or with an owed epoch; made there out of recovery points; just coming home to it; with a job;
    stopped by us for a common instant, and not gone on since."""

    replicated: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()


_WHY = {
    "replicated": "VMs are replicated from it: {vms}",
    "held": "VMs are kept off there: {vms}",
    "copies": "VMs that were made out of recovery points are there: {vms}",
    "replicas": "warm replicas are there, or are just being removed: {vms}",
    "homes": "VMs are on their way home to it: {vms}",
    "jobs": "its agent is at work on it for {vms}",
    "standing": "VMs stand still there, and have to go on first: {vms}",
}
_HINT = "Look again in a moment"
_HINTS = {
    "standing": "Look again in a moment; where they stand still for longer, let them go on by hand (`virsh resume`)"
}


def refusal(host: str, traces: Traces) -> Refused | None:
    """None: it may go."""
    for name, text in _WHY.items():
        if vms := sorted(set(getattr(traces, name))):
            return Refused(text.format(vms=", ".join(vms)), subject=host, hint=_HINTS.get(name, _HINT))
    return None
