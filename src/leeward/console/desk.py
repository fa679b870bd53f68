"""What the console itself does in a run: looks before it begins, moves protection along, writes the outcome down."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from leeward.console.fleet import Fleet
from leeward.console.links import AgentLink
from leeward.domain.errors import LeewardError, NotFound, Refused, Unavailable
from leeward.domain.lifecycle import Event, Phase, under_way
from leeward.domain.procedures import Kind
from leeward.domain.protection import ProtectionState, ReplicaState
from leeward.domain.runs import Run, RunState, abandon, unabandon
from leeward.logs import log
from leeward.orchestrator.assignments import jobs_of
from leeward.orchestrator.desk import Done
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.vault.facade import Vault
from leeward.vault.log import VmLog
from leeward.vault.reigning import MOVES
from leeward.wire.messages import DesiredState, ProtectionMessage, ReplicaMessage, ReplicaReport, StandDownMessage
from leeward.wire.translate import utc

# The vault's document that tells any console, also one that knows nothing, where a VM stands.
LIFE = "life"
_TRIES = 20
# Phases in which a VM has its rightful place, and the other host's must be kept off.
_GOING = (Phase.FAILING_OVER, Phase.FAILOVER_STALLED)
_RETURNING = (Phase.FAILING_BACK, Phase.FAILBACK_STALLED)
_HOME_OFF = (Phase.AWAY, Phase.COMMITTING, Phase.SETTLED)
# Not while the copy is being removed: its agent has known since BACK, and forgets with the copy.
_AWAY_OFF = (Phase.BACK,)
# A console that has just started has not heard of all agents yet.
_PATIENCE_S = 3.0


class VaultOpener(Protocol):
    """The vault, opened when it is first needed."""

    def open(self) -> Vault: ...


class Desk:
    """See `leeward.orchestrator.desk.Desk`."""

    def __init__(self, database: Database, fleet: Fleet, vault: VaultOpener) -> None:
        self._database = database
        self._fleet = fleet
        self._vault = vault
        self._told_closed: set[str] = set()

    def vault(self) -> Vault:
        return self._vault.open()

    def link(self, host: str) -> AgentLink:
        return self._fleet.link(host)

    def act(self, run: Run, name: str) -> Done:
        actions = {
            "check": self._check,
            "protect": self._protect_away,
            "check-home": self._check_home,
            "protect-away": self._protect_away_again,
            "protect-home": self._protect_home,
        }
        return actions[name](run)

    # --- looking before leaping -----------------------------------------------------------------------

    def _check(self, run: Run) -> Done:
        """→ claim: the epoch that may be followed; definition: of the VM at home; replica: there is a warm one that
        could be failed over to without the vault."""
        replica = self.replica(run.vm_id, run.away) if run.kind is Kind.UNPLANNED else None
        if run.options.get("from_vault"):
            replica = None
        self._must_answer(run.away, "the recovery host")
        if run.kind is Kind.PLANNED:
            self._must_answer(run.home, "the home host")
        self._no_other_copy(run)
        try:
            done = self._check_vault(run)
        except Unavailable as away:
            if replica is None:
                raise
            done = self._check_replica(run, replica, away)
        return Done(done.detail, {**(done.result or {}), **({"replica": True} if replica else {})})

    def _check_vault(self, run: Run) -> Done:
        vm_log = self._vault.open().log(run.vm_id)
        point = vm_log.choose(run.point)
        claim = self._claim_from(run, vm_log, run.home)
        with vm_log.open_point(point.id, cache_bytes=0) as image:
            definition = image.definition
        return Done(f"newest usable point: {point.id}", {"claim": claim, "definition": definition})

    def _check_replica(self, run: Run, replica: ReplicaReport, away: Unavailable) -> Done:
        """What the replica's host last saw of the log is all that can be known now."""
        if run.point not in ("latest", replica.point):
            raise Unavailable(
                f"the vault is away ({away.message}), and the warm replica holds point {replica.point} alone",
                subject=run.vm_name,
                hint="Retry when the vault is back, or cancel and begin anew with the newest point",
            )
        if replica.moved_to not in ("", run.home) and replica.moved_to != run.away:
            raise Refused(
                f"it runs at {replica.moved_to}: another console has moved it there",
                subject=run.vm_name,
                hint=f"Take this run back with `leeward failover cancel {run.vm_name}`",
            )
        wish = next((wish for wish in self._database.desired().protections if wish.vm_id == run.vm_id), None)
        claim = max(replica.epoch, wish.claim if wish else 0)
        return Done(
            f"the vault is away: the warm replica at {run.away} holds point {replica.point} of {replica.time}",
            {"claim": claim},
        )

    def replica(self, vm_id: str, host: str) -> ReplicaReport | None:
        """The warm replica on a host that could be failed over to now."""
        found = self._fleet.view().replica(vm_id, host)
        return found if found is not None and found.state in (ReplicaState.WARM, ReplicaState.BEHIND) else None

    def _no_other_copy(self, run: Run) -> None:
        """One that is left of a run that gave way nobody has seen yet: it is made anew."""
        copy = self._fleet.view().copy(run.vm_id, "failover")
        if copy is not None and (copy.host != run.away or not run.options.get("after")):
            raise Refused(
                f"a copy from an earlier failover is still there, on {copy.host}",
                subject=run.vm_name,
                hint="Remove it on that host, then retry",
            )

    def _claim_from(self, run: Run, vm_log: VmLog, host: str, known: int = 0) -> int:
        """The epoch that may be followed: one that is written from `host`, or not newer than the one that is known to
        be over (of a host that has not come to take its own yet). Raises Refused when the VM is elsewhere."""
        reign = vm_log.reign()
        if reign is None:
            return 0
        there = reign.info.get("host")
        if reign.epoch <= known:
            return reign.epoch
        if reign.reason in MOVES and there not in (None, host) and not self.ours(run, reign.info.get("run")):
            raise Refused(
                f"it runs at {there}: another console has moved it there",
                subject=run.vm_name,
                hint=f"Take this run back with `leeward failover cancel {run.vm_name}`",
            )
        return reign.epoch

    def ours(self, run: Run, other: str | None) -> bool:
        """Whether a reign is of this run, or of one of this console's that gave way before it had moved the VM."""
        if other == run.id:
            return True
        try:
            return other is not None and self._database.runs.run(other).state is RunState.UNDONE
        except NotFound:
            return False

    def reclaim(self, run: Run) -> dict[str, Any]:
        """Options for another try of a run whose taking of the log failed: the operator has seen why, and wants it to
        follow the epoch that is there now. Raises Refused when that is of another move, StoreError."""
        if run.failed_step not in ("epoch", "epoch-home"):
            return {}
        try:
            vm_log = self._vault.open().log(run.vm_id)
            reign = vm_log.reign()
        except Unavailable:
            if run.result("check").get("replica"):
                return {}  # what was seen last must do: it may be meant to go on without the vault
            raise
        if reign is not None and reign.info.get("run") == run.id and reign.reason != "undo":
            return {"claim": reign.epoch - 1}  # it was taken after all
        return {"claim": self._claim_from(run, vm_log, run.away if run.failed_step == "epoch-home" else run.home)}

    def _check_home(self, run: Run) -> Done:
        """→ claim, definition."""
        life = self._database.lives.get(run.vm_id)
        if run.kind is Kind.UNPLANNED_FAILBACK:
            return self._check_unplanned_home(run, life)
        self._must_answer(run.away, "the recovery host")
        self._must_answer(run.home, "the home host")
        wish = next((wish for wish in self._database.desired().protections if wish.vm_id == run.vm_id), None)
        report = self._fleet.view().protection(wish) if wish else None
        if report is None or report.state is not ProtectionState.ENABLED:
            why = report.reason if report else "it is not protected"
            raise Refused(
                f"it is not protected at the recovery site yet: {why}",
                subject=run.vm_name,
                hint="Wait until `leeward status` shows it as enabled, then retry",
            )
        definition = life.definition if life else ""
        claim = self._claim_from(run, self._vault.open().log(run.vm_id), run.away)
        return Done("", {"claim": claim, "definition": definition})

    def _check_unplanned_home(self, run: Run, life: Life | None) -> Done:
        self._must_answer(run.home, "the home host")
        vm_log = self._vault.open().log(run.vm_id)
        point, move = vm_log.choose(run.point), vm_log.last_move()
        wish = next((wish for wish in self._database.desired().protections if wish.vm_id == run.vm_id), None)
        claim = self._claim_from(run, vm_log, run.away, known=wish.claim if wish else 0)
        definition = life.definition if life else ""
        if not definition:
            with vm_log.open_point(point.id, cache_bytes=0) as image:
                definition = image.definition
        lost = f"what is newer than point {point.id} of {utc(point.time_ns)} is lost"
        theirs = move is not None and move.info.get("host") == run.away
        if not theirs or (move is not None and point.epoch < move.epoch):
            lost += f": {run.away} has brought no recovery point of its own into the vault"
        return Done(lost, {"claim": claim, "definition": definition})

    def _must_answer(self, host: str, what: str) -> None:
        ends = time.monotonic() + _PATIENCE_S
        while not self._fleet.view().present(host) and time.monotonic() < ends:
            time.sleep(0.05)
        if not self._fleet.link(host).present:
            raise Unavailable(f"the agent of {what} does not answer", subject=host, hint="Start it, then retry")
        error = self._fleet.view().hosts[host].error
        if error:
            raise Unavailable(f"{what} does not answer: {error}", subject=host)

    # --- protection follows the VM ----------------------------------------------------------------------

    def _protect_away(self, run: Run) -> Done:
        """An epoch that is owed may still go to somebody else: then it is one that we did not know of."""
        taken = run.result("epoch")
        return self._protect_at(run, run.away, int(taken["epoch"]) - bool(taken.get("owed")))

    def _protect_home(self, run: Run) -> Done:
        return self._protect_at(run, run.home, run.result("epoch-home")["epoch"])

    def _protect_away_again(self, run: Run) -> Done:
        """After a failback that was taken back, also where the failover had not come to this."""
        taken = run.undone("epoch-away")
        return self._protect_at(run, run.away, int(taken["epoch"])) if taken.get("epoch") else Done()

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
        standdowns = [off for life in self._database.lives.all().values() for off in self._kept_off(life)]
        replicas = tuple(replica for wish in desired.protections for replica in replicas_of(wish))
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
        self._database.runs.replace(run.id, lambda now: replace(now, ended=time.time()))

    def finish_giving_up(self) -> None:
        for run in self._database.runs.find(states=(RunState.UNDONE,), limit=1000):
            if run.ended is not None:
                continue
            life = self._database.lives.get(run.vm_id)
            if life is not None and life.run_id == run.id and under_way(life.phase):
                self._database.runs.replace(run.id, unabandon)
            else:
                self.give_up(run, run.failure)

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
        self._database.count()
        self.spread()
        if run.state in (RunState.DONE, RunState.UNDONE, RunState.STALLED):
            self._database.record(f"{run.kind} {run.state}", run.vm_name, run.failure, run.by)
        self.publish(life)

    def publish(self, life: Life) -> None:
        """Write into the vault where the VM stands, so that a console elsewhere finds out. Best effort: the epochs in
        the log are what keeps two sites apart, this only explains them."""
        try:
            self._vault.open().put_document(life.vm_id, LIFE, life_document(life))
        except LeewardError as error:
            log.warning("the vault was not told where the VM stands", vm=life.vm_name, error=str(error))


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
        host, reason = life.home, f"it runs at {life.away}"
    elif life.phase in _AWAY_OFF or back:
        host, reason = life.away, f"it runs at {life.home}"
    else:
        return []
    return [StandDownMessage(vm_id=life.vm_id, vm_name=life.vm_name, host=host, reason=reason)]


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
