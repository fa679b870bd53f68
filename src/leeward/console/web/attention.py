"""What needs somebody's attention, the worst first, each with the one best thing to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.console.once import once
from leeward.console.troubles import behind, undrilled, wrong
from leeward.console.views import DrillView
from leeward.console.web.alert_words import BEST, LEVELS, MANY, best, said, said_of_many
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.rows import Level
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Moment
from leeward.domain.alerts import SEVERITIES, AlertKind, Trouble
from leeward.domain.lifecycle import Phase
from leeward.domain.protection import ProtectionState

_RECOVERABLE = (ProtectionState.ENABLED, ProtectionState.RESYNCHRONIZING)
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


@once
def health(moment: Moment) -> Health:
    protected = [one for one in moment.statuses if one.policy is not None]
    failing = {one.vm_id for one in protected if one.state is ProtectionState.ERROR}
    late = behind(moment) - failing
    good = [
        one for one in protected if one.state in _RECOVERABLE and one.last_point is not None and one.vm_id not in late
    ]
    copies = {test.copy_name for test in moment.tests}
    level = Level.BAD if failing or moment.vault is VaultState.AWAY else Level.WARN if late else Level.GOOD
    if not protected:
        level = Level.OFF
    return Health(
        level=level,
        vms=sum(one.vm not in copies for one in moment.statuses),
        protected=len(protected),
        good=len(good),
        late=len(late),
        failing=len(failing),
        away=sum(one.phase in (Phase.AWAY, Phase.SETTLED, Phase.COMMITTING) for one in protected),
        untested=len(undrilled(moment)) + sum(drill.overdue for drill in moment.drills),
    )


def next_drill(moment: Moment) -> DrillView | None:
    """The one that is due first, of those that are not due yet; else of all."""
    coming = [drill for drill in moment.drills if not drill.overdue]
    return next(iter(coming or moment.drills), None)


@once
def matters(moment: Moment) -> tuple[Matter, ...]:
    found = [*_setting_up(moment), *_troubles(moment), *_moves(moment), *_unprotected(moment)]
    order = list(Level)
    return tuple(sorted(found, key=lambda matter: order.index(matter.level)))


def _setting_up(moment: Moment) -> list[Matter]:
    found = []
    if moment.vault is VaultState.NONE:
        text = phrase(N_("There is no vault yet."))
        found.append(Matter(Level.WARN, text, "", N_("Create the vault"), "/first-steps/vault"))
    if moment.hosts and all(host.site != "recovery" for host in moment.hosts):
        text = phrase(N_("No recovery host is known: nothing could be brought up."))
        found.append(Matter(Level.WARN, text, "", N_("Add one"), "/services/recovery"))
    return found


def _troubles(moment: Moment) -> list[Matter]:
    """Those of one kind each by itself while they are few."""
    found, late = wrong(moment), behind(moment)
    failing = {one.subject for one in found if one.kind is AlertKind.PROTECTION}
    kinds: dict[AlertKind, list[Trouble]] = {}
    for one in found:
        # Alerts have the patience to see whether a missed RPO stays so; here it counts when it is clearly missed.
        if one.kind is not AlertKind.RPO or (one.subject in late and one.subject not in failing):
            kinds.setdefault(one.kind, []).append(one)
    return [matter for kind, those in kinds.items() for matter in _of_kind(kind, those, moment.limits.drill_s)]


def _of_kind(kind: AlertKind, found: list[Trouble], drill_s: float) -> list[Matter]:
    level = Level.OFF if kind is AlertKind.DRILL else LEVELS[SEVERITIES[kind]]
    if kind in MANY and len(found) > (1 if kind is AlertKind.DRILL else _SINGLY):
        action, href = MANY[kind]
        return [Matter(level, said_of_many(kind, len(found), drill_s), "", action, href)]
    return [
        Matter(level, said(kind, one.name, drill_s), one.detail, BEST[kind].action, best(kind, one.subject, one.name))
        for one in found
    ]


def _moves(moment: Moment) -> list[Matter]:
    waiting = [
        Matter(
            Level.WARN,
            phrase(N_("{vm} has been moved, and that is not committed yet."), vm=one.vm),
            "",
            N_("Commit"),
            f"/do/commit?vm={one.vm_id}",
        )
        for one in moment.statuses
        if one.policy is not None and one.phase in (Phase.AWAY, Phase.BACK)
    ]
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
    many = "/recovery?show=attention"
    return [
        *_few(waiting, N_("{count} VMs have been moved, and that is not committed yet."), N_("See them"), many),
        *_few(copies, N_("{count} test copies are running."), N_("See them"), "/recovery?show=away"),
    ]


def _few(matters: list[Matter], many: str, action: str, href: str) -> list[Matter]:
    if len(matters) <= _SINGLY:
        return matters
    return [Matter(matters[0].level, phrase(many, count=len(matters)), "", action, href)]


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
