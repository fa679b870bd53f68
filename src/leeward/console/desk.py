"""What the console itself does in a run: looks before it begins, moves protection along, writes the outcome down."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from leeward.console.checks import Checks, VaultOpener
from leeward.console.fleet import Fleet
from leeward.console.leftovers import LEAVES, Leftovers, leaves
from leeward.console.links import AgentLink
from leeward.console.telling import Teller
from leeward.domain.errors import NotFound, Refused
from leeward.domain.evidence import MOST_BYTES
from leeward.domain.lifecycle import Event, Phase, under_way
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, abandon, unabandon
from leeward.orchestrator.assignments import jobs_of
from leeward.orchestrator.desk import Done
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.vault.facade import Vault
from leeward.wire.jobs import PNG
from leeward.wire.messages import DesiredState, ProtectionMessage, ReplicaMessage, StandDownMessage

# What every PNG file begins with.
_MAGIC = b"\x89PNG\r\n\x1a\n"
# The vault's document that tells any console, also one that knows nothing, where a VM stands.
LIFE = "life"
_TRIES = 20
# Phases in which a VM has its rightful place, and the other host's must be kept off.
_GOING = (Phase.FAILING_OVER, Phase.FAILOVER_STALLED)
_RETURNING = (Phase.FAILING_BACK, Phase.FAILBACK_STALLED)
_HOME_OFF = (Phase.AWAY, Phase.COMMITTING, Phase.SETTLED)
_AWAY_OFF = (Phase.BACK, Phase.FINISHING)


class Desk:
    """See `leeward.orchestrator.desk.Desk`."""

    def __init__(self, database: Database, fleet: Fleet, vault: VaultOpener) -> None:
        self._database = database
        self._fleet = fleet
        self._vault = vault
        self.teller = Teller(vault)
        self.leftovers = Leftovers(database, fleet, self.spread)
        self.checks = Checks(database, fleet, vault, self.leftovers.places)
        self._told_closed: set[str] = set()

    def vault(self) -> Vault:
        return self._vault.open()

    def link(self, host: str) -> AgentLink:
        return self._fleet.link(host)

    def act(self, run: Run, name: str) -> Done:
        actions = {
            "check": self.checks.check,
            "protect": self._protect_away,
            "check-home": self.checks.check_home,
            "protect-away": self._protect_away_again,
            "protect-home": self._protect_home,
        }
        return actions[name](run)

    def take_in(self, run: Run, name: str, done: Done) -> Done:
        """A test's picture goes to the evidence. Whatever an agent sends in its place, the run goes on."""
        told = done.result or {}
        if run.kind is not Kind.TEST or name != "picture":
            return done
        png, why = picture_of(told)
        self._database.evidence.keep(run.id, run.vm_id, run.created, png, why)
        return Done(done.detail, {"bytes": len(png), **({"why": why} if why else {})})

    # --- protection follows the VM ----------------------------------------------------------------------

    def _protect_away(self, run: Run) -> Done:
        """An epoch that is owed may still go to somebody else: then it is one that we did not know of."""
        taken = run.result("epoch")
        return self._protect_at(run, run.away, int(taken["epoch"]) - bool(taken.get("owed")))

    def _protect_home(self, run: Run) -> Done:
        return self._protect_at(run, run.home, run.result("epoch-home")["epoch"])

    def _protect_away_again(self, run: Run) -> Done:
        """After a failback that was taken back, also where the failover had not come to this."""
        epoch = run.undone("epoch-away").get("epoch", run.options.get("there"))
        return self._protect_at(run, run.away, int(epoch)) if epoch else Done()

    def _protect_at(self, run: Run, host: str, epoch: int) -> Done:
        if not self._database.move(run.vm_id, host, epoch):
            return Done("it is not protected; nothing to move")
        self.spread()
        return Done(f"replicated from {host}")

    def spread(self) -> None:
        """Tell every agent what is wished now."""
        self._fleet.apply(self.desired())

    def newest_generation(self) -> int:
        """The newest state that any agent has heard of."""
        return self._fleet.generation()

    def desired(self) -> DesiredState:
        desired = self._database.desired()
        lives = self._database.lives.all()
        standdowns = [off for life in lives.values() for off in self._kept_off(life)]
        standdowns += self.leftovers.standdowns(lives)
        warm = (wish for wish in desired.protections if wish.policy.warm)
        replicas = tuple(replica for wish in warm for replica in replicas_of(wish))
        return desired.model_copy(update={"standdowns": tuple(standdowns), "replicas": replicas})

    def _kept_off(self, life: Life) -> list[StandDownMessage]:
        closed = life.phase in _GOING and closed_to_home(self._database.runs.run(life.run_id))
        back = life.phase in _RETURNING and closed_to_away(self._database.runs.run(life.run_id))
        return kept_off(life, closed=closed, back=back)

    # --- giving up ---------------------------------------------------------------------------------------

    def give_up(self, run: Run, why: str) -> None:
        """End a run where it stands. Its walk finds that it is over and leaves; what its agents have been told they
        need not do any more. Dead in the middle, it is done again (`finish_giving_up`)."""
        ended = self._database.runs.replace(run.id, lambda now: abandon(now, why))
        if ended.state is not RunState.UNDONE or ended.ended is not None:
            return
        for host, job_id in jobs_of(ended):
            with suppress(NotFound):
                self._fleet.link(host).release(job_id)
        left = leaves(ended, self._database.lives.get(run.vm_id))
        more = {LEAVES: 1} if left else {}
        done = self._database.runs.replace(
            run.id, lambda now: replace(now, ended=time.time(), options={**now.options, **more})
        )
        if left:
            self.leftovers.note(done)
            self.leftovers.tell_of(done)

    def finish_giving_up(self) -> None:
        for run in self._database.runs.endless():
            life = self._database.lives.get(run.vm_id)
            if life is not None and life.run_id == run.id and under_way(life.phase):
                self._database.runs.replace(run.id, unabandon)
            else:
                self.give_up(run, run.failure)

    def let_go(self) -> None:
        """Of what was left at hosts and has been removed since."""
        self.leftovers.let_go()

    # --- outcomes ---------------------------------------------------------------------------------------

    def follow(self, run: Run) -> None:
        """While a run is under way it is the truth, and the VM's phase follows it."""
        if run.state is RunState.UNDONE and run.ended is None:
            return  # another run is about to take over
        for _ in range(_TRIES):
            life = self._database.lives.get(run.vm_id)
            if life is None or life.run_id != run.id or not under_way(life.phase):
                return  # a test, or told already
            events = leading(life.phase, run.state)
            try:
                for event in events:
                    life = self._database.lives.move(life, event, **_changes(run, event))
            except Refused:
                continue  # somebody else was quicker: look again
            if events:
                self._tell(run, life)
            elif (closed_to_home(run) or closed_to_away(run)) and run.id not in self._told_closed:
                # A site that is heard of again must learn at once that the VM is about to run elsewhere.
                self._told_closed.add(run.id)
                self._database.count()
                self.spread()
            return

    def _tell(self, run: Run, life: Life) -> None:
        self.leftovers.note(run)
        self._database.count()
        self.spread()
        if run.state in (RunState.DONE, RunState.UNDONE, RunState.STALLED):
            self._database.record(f"{run.kind} {run.state}", run.vm_name, run.failure, run.by)
        self.publish(life)

    def publish(self, life: Life) -> None:
        """Write into the vault where the VM stands, so that a console elsewhere finds out: the epochs in the log are
        what keeps two sites apart, this only explains them."""
        self.teller.tell(LIFE, {life.vm_id: lambda: life_document(self._database.lives.get(life.vm_id) or life)})


def picture_of(told: Mapping[str, Any]) -> tuple[bytes, str]:
    """(PNG, "") of what an agent has answered, or (b"", why there is none). Pure."""
    if PNG not in told:
        return b"", str(told.get("why") or "its agent sent none")
    try:
        png = base64.b64decode(str(told[PNG]), validate=True)
    except ValueError:
        png = b""
    if not png.startswith(_MAGIC) or len(png) > MOST_BYTES:
        return b"", "what its agent sent is no picture that can be kept"
    return png, ""


def leading(phase: Phase, state: RunState) -> list[Event]:
    """The events that bring a VM's phase to where its run is. Pure."""
    stalled = phase in (Phase.FAILOVER_STALLED, Phase.FAILBACK_STALLED)
    undoing = phase in (Phase.FAILOVER_UNDOING, Phase.FAILBACK_UNDOING)
    if state is RunState.RUNNING:
        return [Event.RETRY] if stalled else []
    if state is RunState.UNDOING:
        return [] if undoing else [Event.CANCEL]
    if state is RunState.STALLED:
        return [] if stalled else [Event.STALLED]
    if state is RunState.DONE:
        return [Event.RETRY, Event.DONE] if stalled else [Event.DONE]
    return [Event.UNDONE] if undoing else [Event.CANCEL, Event.UNDONE]


def _changes(run: Run, event: Event) -> dict[str, Any]:
    """What is to be remembered with a step of the VM's life."""
    if event is Event.DONE and run.kind in (Kind.PLANNED, Kind.UNPLANNED):
        definition = run.result("check").get("definition") or run.result("build").get("definition")
        return {"definition": definition} if definition else {}
    return {}


def life_document(life: Life) -> dict[str, Any]:
    return {
        "vm_name": life.vm_name,
        "phase": life.phase.value,
        "home": life.home,
        "away": life.away,
        "definition": life.definition,
        "run": life.run_id,
    }


def closed_to_home(run: Run) -> bool:
    """A failover has taken the log over and is not being taken back. Pure."""
    return run.state in (RunState.RUNNING, RunState.STALLED) and not run.undo and bool(run.result("epoch"))


def closed_to_away(run: Run) -> bool:
    """The same of an unplanned failback. (A planned one lets the recovery site stand down by a step of its own.)
    Pure."""
    going = run.state in (RunState.RUNNING, RunState.STALLED) and not run.undo
    return going and run.kind is Kind.UNPLANNED_FAILBACK and bool(run.result("epoch-home"))


def kept_off(life: Life, *, closed: bool = False, back: bool = False) -> list[StandDownMessage]:
    """The host on which the VM must be off in this phase. closed: see `closed_to_home`; back: `closed_to_away`.
    Pure."""
    if life.phase in _HOME_OFF or closed:
        reason = f"it runs at {life.away}"
        return [StandDownMessage(vm_id=life.vm_id, vm_name=life.vm_name, host=life.home, reason=reason)]
    return [_recovered(life, life.away)] if life.phase in _AWAY_OFF or back else []


def _recovered(life: Life, host: str) -> StandDownMessage:
    reason = f"it runs at {life.away if life.phase in _HOME_OFF else life.home}"
    return StandDownMessage(vm_id=life.vm_id, vm_name=life.vm_name, host=host, reason=reason, recovered=True)


def replicas_of(wish: ProtectionMessage) -> list[ReplicaMessage]:
    """The warm replica that a VM's policy wants: none at the host where it is replicated from, as after a failover to
    it, since there its disks are. Pure."""
    policy = wish.policy
    if policy.warm in ("", wish.host):
        return []
    return [
        ReplicaMessage(
            vm_id=wish.vm_id,
            vm_name=wish.vm_name,
            host=policy.warm,
            rpo_s=policy.rpo_s,
            bandwidth=policy.bandwidth,
        )
    ]
