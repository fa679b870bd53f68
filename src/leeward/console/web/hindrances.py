"""Why a host cannot be removed now, said to a person in a browser, with the way to what can be done. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from leeward.console.host_removal import Obstacle, Why
from leeward.console.web.phrases import N_, Phrase, phrase

_MOST = 10
_TEXTS = {
    Why.CONFIGURED: N_("It stands in {names}, which only its operator changes."),
    Why.AGENT: N_("An agent on a machine of its own has it: {names}."),
    Why.RUN: N_("Runs that need it are under way: {names}."),
    Why.PLAN: N_("Recovery plans are being run: {names}."),
    Why.MOVED: N_("VMs were failed over from or to it: {names}."),
    Why.COPY: N_("Copies of VMs are there: {names}."),
    Why.MADE: N_("VMs that failovers had made are just being removed there: {names}."),
    Why.PROTECTED: N_("VMs are protected there: {names}."),
    Why.KEPT_OFF: N_("VMs are kept off there, since they run elsewhere: {names}."),
    Why.WARM: N_("Policies want warm replicas there: {names}."),
    Why.REPLICA: N_("Warm replicas are just being removed there: {names}."),
}
_HINTS = {
    Why.CONFIGURED: N_("Take its [[host]] section out of that file and start the console anew."),
    Why.AGENT: N_("Its host leaves with the agent: revoke that."),
    Why.RUN: N_("Wait until they are over, or take them back."),
    Why.PLAN: N_("Wait until they are over, or abort them."),
    Why.MOVED: N_("Bring them home first, and commit that."),
    Why.COPY: N_("Clean them up first."),
    Why.MADE: N_("Look again in a moment."),
    Why.PROTECTED: N_("Disable their replication first. Their recovery points stay in the vault."),
    Why.KEPT_OFF: N_("Nobody would keep them off any more, and they could run twice. See where they are."),
    Why.WARM: N_("Let them be kept at another host, or nowhere."),
    Why.REPLICA: N_("Look again in a moment."),
}


@dataclass(frozen=True, slots=True)
class Hindrance:
    """href, label: where it is done, "" and None for nowhere here."""

    text: Phrase
    hint: Phrase
    href: str = ""
    label: Phrase | None = None


def hindrance(host: str, obstacle: Obstacle, agents: Mapping[str, str]) -> Hindrance:
    """agents: ids by name."""
    names = ", ".join(obstacle.names[:_MOST]) + (" …" if len(obstacle.names) > _MOST else "")
    href, label = _way(host, obstacle, agents)
    text, hint = phrase(_TEXTS[obstacle.why], names=names), phrase(_HINTS[obstacle.why])
    return Hindrance(text, hint, href, phrase(label, vm=obstacle.names[0]) if label else None)


def _way(host: str, obstacle: Obstacle, agents: Mapping[str, str]) -> tuple[str, str]:
    why, first = obstacle.why, obstacle.names[0]
    if why is Why.AGENT and first in agents:
        return f"/hosts/agents/{quote(agents[first], safe='')}/revoke", N_("Revoke this agent…")
    if why is Why.RUN:
        return "/runs", N_("Runs")
    if why is Why.PLAN:
        return f"/plans/{quote(first, safe='')}", N_("Show the plan")
    if why in (Why.REPLICA, Why.MADE):
        return f"/hosts/remove?{urlencode({'host': host})}", N_("Look again")
    if not obstacle.vm_ids:
        return "", ""
    chosen = urlencode([("vm", vm_id) for vm_id in obstacle.vm_ids])
    if why is Why.PROTECTED:
        return f"/do/disable?{chosen}", N_("Disable replication…")
    if why is Why.COPY:
        return f"/do/cleanup?{chosen}", N_("Clean up…")
    if why is Why.WARM:
        one, more = N_("Change the policy of {vm}"), N_("Change their policies")
        return f"/enable?{chosen}", one if len(obstacle.vm_ids) == 1 else more
    return f"/recovery?{chosen}", N_("Show these VMs")
