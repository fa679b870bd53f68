"""What can be done with a VM now, and why the rest cannot. Pure; the service decides again when it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from leeward.console.views import ReplicaView, RunView, StatusView, VmView
from leeward.console.web.around import WELL, Around, Hosts, around, no_recovery, no_vault
from leeward.console.web.phrases import N_, Phrase, Quote, phrase
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Closeup
from leeward.domain.access import Role
from leeward.domain.lifecycle import Event, Phase, Refusal, after
from leeward.domain.procedures import Kind
from leeward.domain.protection import ProtectionState, ReplicaState


class Act(StrEnum):
    ENABLE = "enable"
    TEST = "test"
    CLEANUP = "cleanup"
    FAILOVER = "failover"
    COMMIT = "commit"
    FAILBACK = "failback"
    POLICY = "policy"
    PAUSE = "pause"
    RESUME = "resume"
    DISABLE = "disable"


LABELS = {
    Act.ENABLE: N_("Enable replication"),
    Act.TEST: N_("Test failover"),
    Act.CLEANUP: N_("Clean up test"),
    Act.FAILOVER: N_("Failover…"),
    Act.COMMIT: N_("Commit"),
    Act.FAILBACK: N_("Failback…"),
    Act.POLICY: N_("Change policy"),
    Act.PAUSE: N_("Pause replication"),
    Act.RESUME: N_("Resume replication"),
    Act.DISABLE: N_("Disable replication"),
}
# These can be asked of several VMs at once; the others are decisions about one.
TOGETHER = frozenset({Act.ENABLE, Act.TEST, Act.CLEANUP, Act.POLICY, Act.PAUSE, Act.RESUME, Act.DISABLE})

# Where a VM stands, for people who look at a screen and not at a command line.
PHASES: dict[Phase, str] = {
    Phase.HOME: N_("It runs at its home site."),
    Phase.FAILING_OVER: N_("A failover of it is under way."),
    Phase.FAILOVER_STALLED: N_("A failover of it has stalled: continue it, or take it back."),
    Phase.FAILOVER_UNDOING: N_("A failover of it is being taken back."),
    Phase.AWAY: N_("It runs at the recovery site, and that is not committed yet."),
    Phase.COMMITTING: N_("Its failover is being committed."),
    Phase.SETTLED: N_("It runs at the recovery site."),
    Phase.FAILING_BACK: N_("It is on its way home."),
    Phase.FAILBACK_STALLED: N_("Its failback has stalled: continue it, or take it back."),
    Phase.FAILBACK_UNDOING: N_("Its failback is being taken back."),
    Phase.BACK: N_("It is home again, and that is not committed yet."),
    Phase.FINISHING: N_("Its failback is being committed."),
}


@dataclass(frozen=True, slots=True)
class Chance:
    """One thing that could be done. why: not now, None when it can be done."""

    act: Act
    why: Phrase | None = None

    @property
    def open(self) -> bool:
        return self.why is None

    @property
    def label(self) -> str:
        return LABELS[self.act]


def chances(moment: Closeup, status: StatusView, role: Role | None) -> dict[Act, Chance]:
    """Of one VM, as of a moment."""
    return of_vm(status, moment.vms.get(status.vm_id), moment.run_of(status.vm_id), role, around(moment))


def of_vm(
    status: StatusView, vm: VmView | None, run: RunView | None, role: Role | None, about: Around = WELL
) -> dict[Act, Chance]:
    """run: the newest of the VM that is not over."""
    if role is None or not role.covers(Role.OPERATOR):
        no = phrase(N_("Your role is viewer; an operator may do this."))
        return {act: Chance(act, no) for act in Act}
    return {act: Chance(act, _why(act, status, vm, run) or _why_around(act, status, about)) for act in Act}


def _why(act: Act, status: StatusView, vm: VmView | None, run: RunView | None) -> Phrase | None:
    """What stands against it in the VM itself."""
    phase = Phase(status.phase)
    protected = status.policy is not None
    if act is Act.ENABLE:
        if protected:
            return phrase(N_("It is protected already."))
        if vm is not None and vm.unsupported:
            return phrase(N_("It cannot be protected: {why}"), why=Quote(vm.unsupported))
        return None
    if act is Act.CLEANUP:
        tested = status.test_failover or (run is not None and run.kind == "test")
        return None if tested else phrase(N_("There is no test copy of it."))
    if not protected:
        return phrase(N_("It is not protected yet: enable replication first."))
    if act in (Act.PAUSE, Act.RESUME):
        paused = status.state is ProtectionState.PAUSED
        if paused is (act is Act.RESUME):
            return None
        return phrase(N_("It is paused already.") if paused else N_("It is not paused."))
    if act is Act.POLICY:
        return None
    if act is Act.TEST:
        if status.test_failover or (run is not None and run.kind in ("test", "cleanup")):
            return phrase(N_("A test copy of it exists: clean it up first."))
        return no_point(status)
    return _why_not_move(act, status, phase)


def _why_not_move(act: Act, status: StatusView, phase: Phase) -> Phrase | None:
    where = phrase(PHASES[phase])
    if act is Act.DISABLE:
        if phase not in (Phase.HOME, Phase.SETTLED):
            return where
        return phrase(N_("A test copy of it exists: clean it up first.")) if status.test_failover else None
    events = {
        Act.FAILOVER: (Event.PLANNED, Event.UNPLANNED),
        Act.COMMIT: (Event.COMMIT,),
        Act.FAILBACK: (Event.FAILBACK, Event.UNPLANNED_FAILBACK),
    }[act]
    if all(isinstance(after(phase, event), Refusal) for event in events):
        return _home_words(act) if phase is Phase.HOME else where
    if act is not Act.FAILOVER or phase is not Phase.HOME or warm(status) is not None:
        return None
    return no_point(status)


def _why_around(act: Act, status: StatusView, about: Around) -> Phrase | None:
    """What stands against it around the VM. What is asked of an agent alone waits there until it answers."""
    if act in (Act.ENABLE, Act.POLICY):
        return no_vault(about.vault)
    if act is Act.TEST:
        return no_vault(about.vault, without(Kind.TEST, about.vault)) or no_recovery(about)
    if act is Act.FAILBACK:
        way = phrase(N_("The vault cannot be reached, and the way home leads through it."))
        gone = phrase(N_("No host of its home site can be reached."))
        return no_vault(about.vault, way) or (None if about.source is Hosts.THERE else gone)
    if act is not Act.FAILOVER:
        return None
    replica = warm(status)
    if replica is not None and replica.host not in about.lost:
        return None
    alone = phrase(N_("The vault cannot be reached, and there is no warm replica from which it could be started."))
    return no_vault(about.vault, alone) or no_recovery(about)


def without(kind: Kind, vault: VaultState) -> Phrase | None:
    """Why this kind makes no sense while the vault is away."""
    if vault is not VaultState.AWAY or kind is Kind.UNPLANNED:
        return None
    if kind is Kind.TEST:
        return phrase(N_("The vault cannot be reached, and a test copy is made out of it."))
    return phrase(N_("The vault cannot be reached, and a planned failover has to prove that it has everything."))


def _home_words(act: Act) -> Phrase:
    if act is Act.COMMIT:
        return phrase(N_("There is nothing to commit: it runs at its home site."))
    return phrase(N_("It runs at its home site: fail it over first."))


def warm(status: StatusView) -> ReplicaView | None:
    """The warm replica that could be failed over to now, also while the vault is away."""
    replica = status.replica
    whole = replica is not None and replica.point and replica.state in (ReplicaState.WARM, ReplicaState.BEHIND)
    return replica if whole else None


def no_point(status: StatusView) -> Phrase | None:
    """Why there is nothing in the vault yet that the VM could be made of."""
    if status.last_point is not None and (status.failover_possible or status.phase != Phase.HOME):
        return None
    if status.progress is not None and status.last_point is None:
        return phrase(
            N_("The first copy is at {percent} %; failover opens when it is complete."),
            percent=int(status.progress.fraction * 100),
        )
    if status.last_point is None:
        return phrase(N_("There is no recovery point yet; failover opens with the first one."))
    return None


def of_all(chances: list[dict[Act, Chance]]) -> list[Chance]:
    """Of a selection: what can be done with every VM of it, else the first reason why not."""
    if not chances:
        nothing = phrase(N_("Choose one or more VMs in the list."))
        return [Chance(act, nothing) for act in Act]
    shown = []
    for act in Act:
        if len(chances) > 1 and act not in TOGETHER:
            one = phrase(N_("Choose a single VM. Several are moved together by a recovery plan."))
            shown.append(Chance(act, one))
            continue
        shown.append(next((found[act] for found in chances if not found[act].open), Chance(act)))
    return shown
