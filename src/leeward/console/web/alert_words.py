"""What is said of each kind of trouble, on pages and in messages alike: what is wrong, the one best thing to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.rows import Level
from leeward.domain.alerts import AlertKind, Severity
from leeward.domain.drills import plan_of


@dataclass(frozen=True, slots=True)
class Best:
    """action: on a button. advice: a sentence. href: with the trouble's subject or name in it."""

    action: str
    advice: str
    href: str


_SAID = {
    AlertKind.RPO: N_("{name} has missed its RPO target."),
    AlertKind.PROTECTION: N_("{name} is not being replicated."),
    AlertKind.HOST: N_("Host {name} cannot be reached."),
    AlertKind.VAULT: N_("The vault cannot be reached."),
    AlertKind.VAULT_LOCKED: N_("This machine does not hold the vault's key."),
    AlertKind.VAULT_FULL: N_("The vault is nearly full."),
    AlertKind.VAULT_DAMAGED: N_("The last check of the vault found damage."),
    AlertKind.VAULT_PLACE: N_("Host {name} cannot use the place of the vault."),
    AlertKind.DRILL: N_("{name} has not been tested for {days} days."),
    AlertKind.DRILL_DUE: N_("A drill of {name} is due."),
    AlertKind.DRILL_FAILED: N_("The last drill of {name} has failed."),
    AlertKind.RUN: N_("{name}: a run has stalled and waits for you."),
    AlertKind.PLAN: N_("A run of the plan {name} has stalled and waits for you."),
}
_OF_MANY = {
    AlertKind.RPO: N_("{count} VMs have missed their RPO target."),
    AlertKind.PROTECTION: N_("{count} VMs are not being replicated."),
    AlertKind.VAULT_PLACE: N_("{count} hosts cannot use the place of the vault."),
    AlertKind.DRILL: N_("{count} protected VMs have not been tested for {days} days."),
    AlertKind.DRILL_DUE: N_("Drills of {count} VMs or plans are due."),
    AlertKind.DRILL_FAILED: N_("The last drills of {count} VMs or plans have failed."),
}
BEST = {
    AlertKind.RPO: Best(
        N_("See why"),
        N_("See on the VM's page why its points come late: its host, the line to the vault, or the vault itself."),
        "/vms/{subject}",
    ),
    AlertKind.PROTECTION: Best(
        N_("See why"), N_("Mend what the reason names; replication goes on by itself then."), "/vms/{subject}"
    ),
    AlertKind.HOST: Best(
        N_("See its agent"),
        N_("See whether the host and its agent run. If it is lost, fail its VMs over."),
        "/hosts#host-{subject}",
    ),
    AlertKind.VAULT: Best(
        N_("Look at the vault"),
        N_("See whether its disk, line or service is there. Agents keep new points in their spool meanwhile."),
        "/first-steps/vault",
    ),
    AlertKind.VAULT_LOCKED: Best(
        N_("Unlock the vault"), N_("Unlock it with the passphrase or the recovery key."), "/first-steps/vault"
    ),
    AlertKind.VAULT_FULL: Best(
        N_("Look at the vault"),
        N_("Give the file system more room, or keep fewer points. A vault that is full takes no points."),
        "/vault",
    ),
    AlertKind.VAULT_DAMAGED: Best(
        N_("Look at the vault"),
        N_("See which objects are damaged and which points need them. Mend what damages them, then check again."),
        "/vault",
    ),
    AlertKind.VAULT_PLACE: Best(
        N_("See its agent"),
        N_("Mend what the reason names: replication from this host and recovery to it depend on it."),
        "/hosts#host-{subject}",
    ),
    AlertKind.DRILL: Best(
        N_("Test failover"),
        N_("Run a test failover: a copy boots apart from production and is removed afterwards."),
        "/failover?vm={subject}&type=test",
    ),
    AlertKind.DRILL_DUE: Best(
        N_("Test failover"),
        N_("Run a test failover; it counts as a drill, and its evidence is kept."),
        "/failover?vm={subject}&type=test",
    ),
    AlertKind.DRILL_FAILED: Best(
        N_("See what was seen"),
        N_("See what the last test has shown, mend that, and test again."),
        "/vms/{subject}",
    ),
    AlertKind.RUN: Best(
        N_("Continue or take back"),
        N_("See which step has failed and why; then continue the run or take it back."),
        "/runs/{subject}",
    ),
    AlertKind.PLAN: Best(
        N_("Continue or take back"),
        N_("See which step has failed and why; then continue the run, go on without it, or abort it."),
        "/plans/{name}",
    ),
}
# kind → where, when it is about a plan and not about a VM
_OF_PLANS = {
    AlertKind.DRILL_DUE: "/plans/{name}/start?type=test",
    AlertKind.DRILL_FAILED: "/plans/{name}",
}
# of many of a kind: (action, where)
MANY = {
    AlertKind.RPO: (N_("See them"), "/recovery?show=attention"),
    AlertKind.PROTECTION: (N_("See them"), "/recovery?show=attention"),
    AlertKind.VAULT_PLACE: (N_("See their agents"), "/hosts"),
    AlertKind.DRILL: (N_("Choose VMs to test"), "/recovery?show=protected&sort=tested"),
    AlertKind.DRILL_DUE: (N_("Choose VMs to test"), "/recovery?show=protected&sort=tested"),
    AlertKind.DRILL_FAILED: (N_("See them"), "/recovery?show=protected&sort=tested"),
}
# kind → what pages call it
KINDS: Mapping[AlertKind, str] = {
    AlertKind.RPO: N_("RPO missed"),
    AlertKind.PROTECTION: N_("Not replicated"),
    AlertKind.HOST: N_("Host lost"),
    AlertKind.VAULT: N_("Vault not reachable"),
    AlertKind.VAULT_LOCKED: N_("Vault locked"),
    AlertKind.VAULT_FULL: N_("Vault nearly full"),
    AlertKind.VAULT_DAMAGED: N_("Vault damaged"),
    AlertKind.VAULT_PLACE: N_("Vault not usable on a host"),
    AlertKind.DRILL: N_("Test overdue"),
    AlertKind.DRILL_DUE: N_("Drill due"),
    AlertKind.DRILL_FAILED: N_("Drill failed"),
    AlertKind.RUN: N_("Run stalled"),
    AlertKind.PLAN: N_("Plan stalled"),
}
SEVERITIES = {Severity.CRITICAL: N_("Critical"), Severity.WARNING: N_("Warning")}
LEVELS = {Severity.CRITICAL: Level.BAD, Severity.WARNING: Level.WARN}


def said(kind: AlertKind, name: str, drill_s: float) -> Phrase:
    """What is wrong. drill_s: the longest time between two tests."""
    return phrase(_SAID[kind], name=name, days=_days(drill_s))


def said_of_many(kind: AlertKind, count: int, drill_s: float) -> Phrase:
    """Of kinds of which there may be many at a time."""
    return phrase(_OF_MANY[kind], count=count, days=_days(drill_s))


def best(kind: AlertKind, subject: str, name: str) -> str:
    """The address of the page to look at."""
    if kind in _OF_PLANS and plan_of(subject) is not None:
        return _OF_PLANS[kind].format(name=quote(name, safe=""))
    return BEST[kind].href.format(subject=quote(subject, safe=""), name=quote(name, safe=""))


def _days(seconds: float) -> int:
    return round(seconds / 86_400)
