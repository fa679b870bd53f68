"""What needs somebody's attention, the worst first, each with the one best thing to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.console.views import StatusView
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.rows import Level, late
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Moment
from leeward.domain.lifecycle import Phase
from leeward.domain.protection import ProtectionState

# A drill is due when a VM has not been tested for this long.
DRILL_S = 90 * 86_400.0
# More of one kind than this are told as a number.
_SINGLY = 3


@dataclass(frozen=True, slots=True)
class Matter:
    """detail: in English, as it was told. href: where its best action is."""

    level: Level
    text: Phrase
    detail: str
    action: str
    href: str


@dataclass(frozen=True, slots=True)
class Health:
    """Counts of VMs. protected: with a policy; good: of them, those that could be recovered as wished."""

    level: Level
    vms: int
    protected: int
    good: int
    late: int
    failing: int
    away: int
    untested: int


def health(moment: Moment) -> Health:
    protected = [one for one in moment.statuses if one.policy is not None]
    failing = [one for one in protected if one.state is ProtectionState.ERROR]
    behind = [one for one in protected if late(one) and one.state is not ProtectionState.ERROR]
    good = [
        one
        for one in protected
        if one.state in (ProtectionState.ENABLED, ProtectionState.RESYNCHRONIZING)
        and one.last_point is not None
        and not late(one)
    ]
    copies = {test.copy_name for test in moment.tests}
    level = Level.BAD if failing or moment.vault is VaultState.AWAY else Level.WARN if behind else Level.GOOD
    if not protected:
        level = Level.OFF
    return Health(
        level=level,
        vms=sum(one.vm not in copies for one in moment.statuses),
        protected=len(protected),
        good=len(good),
        late=len(behind),
        failing=len(failing),
        away=sum(one.phase in (Phase.AWAY, Phase.SETTLED, Phase.COMMITTING) for one in protected),
        untested=len(_undrilled(moment)),
    )


def _undrilled(moment: Moment) -> list[StatusView]:
    oldest = moment.taken - DRILL_S
    return [
        one
        for one in moment.statuses
        if one.policy is not None and one.failover_possible and moment.tested.get(one.vm_id, 0.0) < oldest
    ]


def matters(moment: Moment) -> list[Matter]:
    found = [*_vault(moment), *_hosts(moment), *_runs(moment), *_vms(moment), *_drills(moment), *_unprotected(moment)]
    order = list(Level)
    return sorted(found, key=lambda matter: order.index(matter.level))


def _vault(moment: Moment) -> list[Matter]:
    texts = {
        VaultState.NONE: (Level.WARN, N_("There is no vault yet."), N_("Create the vault")),
        VaultState.LOCKED: (Level.BAD, N_("This machine does not hold the vault's key."), N_("Unlock the vault")),
        VaultState.AWAY: (Level.BAD, N_("The vault cannot be reached."), N_("Look at the vault")),
    }
    if moment.vault not in texts:
        return []
    level, text, action = texts[moment.vault]
    return [Matter(level, phrase(text), "", action, "/first-steps/vault")]


def _hosts(moment: Moment) -> list[Matter]:
    found = []
    for host in moment.hosts:
        if not host.reachable:
            text = phrase(N_("Host {host} cannot be reached."), host=host.name)
            href = f"/recovery?host={host.name}"
            found.append(Matter(Level.BAD, text, host.error, N_("See its VMs"), href))
    if moment.hosts and all(host.site != "recovery" for host in moment.hosts):
        text = phrase(N_("No recovery host is known: nothing could be brought up."))
        found.append(Matter(Level.WARN, text, "", N_("How to add one"), "/services/recovery"))
    return found


def _runs(moment: Moment) -> list[Matter]:
    found = []
    for run in moment.open_runs:
        if run.state == "stalled":
            text = phrase(N_("{vm}: a run has stalled and waits for you."), vm=run.vm)
            found.append(Matter(Level.BAD, text, run.failure, N_("Continue or take back"), f"/runs/{run.id}"))
    return found


def _vms(moment: Moment) -> list[Matter]:
    """Each by itself while they are few."""
    failing, behind, waiting = [], [], []
    for one in moment.statuses:
        href = f"/vms/{one.vm_id}"
        if one.policy is None:
            continue
        if one.state is ProtectionState.ERROR:
            text = phrase(N_("{vm} is not being replicated."), vm=one.vm)
            failing.append(Matter(Level.BAD, text, one.reason, N_("See why"), href))
        elif late(one):
            text = phrase(N_("{vm} has missed its RPO target."), vm=one.vm)
            behind.append(Matter(Level.WARN, text, one.reason, N_("See why"), href))
        if one.phase in (Phase.AWAY, Phase.BACK):
            text = phrase(N_("{vm} has been moved, and that is not committed yet."), vm=one.vm)
            waiting.append(Matter(Level.WARN, text, "", N_("Commit"), f"/do/commit?vm={one.vm_id}"))
    many = "/recovery?show=attention"
    copies = [
        Matter(
            Level.BUSY,
            phrase(N_("A test copy of {vm} is running."), vm=test.vm),
            "",
            N_("Clean up test"),
            f"/do/cleanup?vm={test.vm_id}",
        )
        for test in moment.tests
        if test.done
    ]
    return [
        *_few(failing, N_("{count} VMs are not being replicated."), N_("See them"), many),
        *_few(behind, N_("{count} VMs have missed their RPO target."), N_("See them"), many),
        *_few(waiting, N_("{count} VMs have been moved, and that is not committed yet."), N_("See them"), many),
        *_few(copies, N_("{count} test copies are running."), N_("See them"), "/recovery?show=away"),
    ]


def _few(matters: list[Matter], many: str, action: str, href: str) -> list[Matter]:
    if len(matters) <= _SINGLY:
        return matters
    return [Matter(matters[0].level, phrase(many, count=len(matters)), "", action, href)]


def _drills(moment: Moment) -> list[Matter]:
    due = _undrilled(moment)
    if not due:
        return []
    if len(due) == 1:
        text = phrase(N_("{vm} has not been tested for 90 days."), vm=due[0].vm)
        return [Matter(Level.OFF, text, "", N_("Test failover"), f"/failover?vm={due[0].vm_id}&type=test")]
    text = phrase(N_("{count} protected VMs have not been tested for 90 days."), count=len(due))
    return [Matter(Level.OFF, text, "", N_("Choose VMs to test"), "/recovery?show=protected&sort=tested")]


def _unprotected(moment: Moment) -> list[Matter]:
    copies = {test.copy_name for test in moment.tests}
    found = [
        one
        for one in moment.statuses
        if one.policy is None and one.vm not in copies and not getattr(moment.vms.get(one.vm_id), "unsupported", "")
    ]
    if not found:
        return []
    if len(found) == 1:
        text = phrase(N_("{vm} is not protected."), vm=found[0].vm)
        return [Matter(Level.OFF, text, "", N_("Enable replication"), f"/enable?vm={found[0].vm_id}")]
    text = phrase(N_("{count} VMs are not protected."), count=len(found))
    return [Matter(Level.OFF, text, "", N_("Choose VMs to protect"), "/recovery?show=disabled")]
