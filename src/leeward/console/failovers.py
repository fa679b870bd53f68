"""What an operator can ask of a VM's life between its sites: checked, written down, then carried on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from leeward.console.beginning import STILL, Beginner, Engine
from leeward.console.desk import Desk
from leeward.console.fleet import Fleet
from leeward.console.marks import Marks
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, StoreUnavailable, Unavailable
from leeward.domain.lifecycle import Event, Phase, Refusal, after, under_way
from leeward.domain.points import RecoveryPoint
from leeward.domain.procedures import Kind
from leeward.domain.runs import (
    HOLD,
    Run,
    RunState,
    abandon,
    ask_cancel,
    gives_way,
    gives_way_home,
    inheritance,
    retry,
    unabandon,
)
from leeward.domain.vm import Consistency
from leeward.network.apart import apart
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.wire.messages import ProtectionMessage

_TOO_LATE = "another failover makes no sense: the one under way needs its home no more, or has just ended"
_TOO_EARLY = "nothing of what is under way hangs on the recovery site alone, or it has just ended"

# Whoever is about to be asked a question waits no longer for a vault that need not answer.
_PATIENCE_S = 4.0


@dataclass(frozen=True, slots=True)
class Target:
    """The recovery point that a VM would be started from. time: of it, UTC seconds. consistency: None where only a
    warm replica could be asked. note: why it is not simply the one that was asked for, "" when it is."""

    id: str
    time: float
    consistency: Consistency | None
    note: str


class Failovers:
    """away: the recovery host to use when none is named; raises when there is none."""

    def __init__(self, database: Database, fleet: Fleet, desk: Desk, engine: Engine, away: Callable[[], str]) -> None:
        self._database = database
        self._fleet = fleet
        self._desk = desk
        self._engine = engine
        self._away = away
        self._beginner = Beginner(database, desk, engine)
        self.marks = Marks(database, desk.vault)
        # People, plans and drills ask for tests and clean-ups: what is found here must still be so when it is begun.
        self._testing = threading.Lock()

    # --- looking --------------------------------------------------------------------------------------

    def life(self, vm_id: str, name: str) -> Life:
        """Where the VM stands; a VM that never moved is at home."""
        known = self._database.lives.get(vm_id)
        wish = self._database.wish(vm_id)
        if known is not None:
            # At home is where it is protected, also when that is another host than before its last failover.
            return replace(known, home=wish.host) if wish and known.phase is Phase.HOME else known
        return Life(vm_id, wish.vm_name if wish else name, Phase.HOME, wish.host if wish else "")

    def runs(self, vm_id: str | None = None, limit: int = 50) -> list[Run]:
        return self._database.runs.find(vm_id=vm_id, limit=limit)

    def open_runs(self, limit: int) -> list[Run]:
        """Those that are not over, newest first."""
        return self._database.runs.unfinished(limit=limit)

    def run(self, run_id: str) -> Run:
        return self._database.runs.run(run_id)

    def last(self, vm_id: str, name: str) -> Run:
        """The VM's newest run. Raises Refused when there never was one."""
        found = self._database.runs.find(vm_id=vm_id, limit=1)
        if not found:
            raise Refused("it has never been failed over or tested", subject=name)
        return found[0]

    def taken(self, run_id: str) -> Run | None:
        """See `Beginner.taken`."""
        return self._beginner.taken(run_id)

    def revive(self) -> None:
        """Carry on what an earlier process left; the engine has begun with what it knows of itself."""
        self._desk.finish_giving_up()
        for run in self._database.runs.unfinished(limit=None):
            if not self._has_its_vm(run):
                # Written down, but we died before the VM was given to it; or given to another one before this ended.
                self._desk.give_up(run, "another run has the VM" if run.begun else "it was never begun")
        self.carry_on()
        for life in self._database.lives.all().values():
            if under_way(life.phase):  # its run may have ended just before we died
                self._desk.follow(self._database.runs.run(life.run_id))

    def carry_on(self) -> None:
        """Runs that nobody carries on although they are neither over nor stalled: the walk of a process that was shut
        down may have noted its own end just before. Two walks of one run do no harm."""
        walking = self._engine.walking()
        for run in self._database.runs.unfinished(limit=None):
            if run.id not in walking and run.state is not RunState.STALLED and self._has_its_vm(run):
                self._engine.walk(run.id)

    def _has_its_vm(self, run: Run) -> bool:
        life = self._database.lives.get(run.vm_id)
        return run.kind in STILL or (life is not None and life.run_id == run.id)

    def recovery_host(self) -> str:
        """The one that is used when none is named. Raises NotFound."""
        return self._away()

    # --- asking ---------------------------------------------------------------------------------------

    def failover(
        self, vm_id: str, name: str, event: Event, point: str, by: str, options: dict[str, Any], run_id: str = ""
    ) -> Run:
        """event: PLANNED or UNPLANNED. options: to (a recovery host), force, timeout_s, networks, newest (see
        `Marks`), from_vault, without_vault (see `leeward.domain.runs.may_owe`), hold (see the same's `held`),
        explicit: the point was named by somebody, not chosen for him. run_id: asking with the same one twice is the
        same as asking once."""
        known = self.taken(run_id) if run_id else None
        if known is not None:
            return known
        life = self.life(vm_id, name)
        self._allowed(life, event)
        self._protected(vm_id, name)
        if event is Event.PLANNED and point != "latest":
            raise BadInput(
                "a planned failover always brings the newest data", subject=point, hint="Leave --point out"
            )
        if event is Event.PLANNED and options.get("without_vault"):
            raise BadInput(
                "a planned failover proves that the vault has everything, so it needs the vault",
                subject=name,
                hint="Leave --without-vault out",
            )
        away = str(options.pop("to", None) or self._away())
        self._not_there(life, away)
        warm = event is Event.UNPLANNED and not options.get("from_vault") and self._desk.checks.replica(vm_id, away)
        # Where a replica may do, nobody waits here for a vault that does not answer; the run itself looks at both.
        if not warm or point not in ("latest", warm.point):
            self._point(vm_id, name, point)
        point = self._agree(life, event, point, options, warm=bool(warm))
        other = self._give_way(life, event)
        if other is not None:
            options = {**options, **inheritance(other)}
        try:
            return self._beginner.begin(life, event, Kind(event.value), away, point, by, options, run_id, other)
        except LeewardError:
            if other is not None:
                self._desk.follow(self._database.runs.replace(other.id, unabandon))
            raise

    def goes_back_to(
        self,
        vm_id: str,
        name: str,
        event: Event,
        point: str,
        *,
        to: str | None,
        from_vault: bool,
        newest: bool | None,
    ) -> Target:
        """What an unplanned failover or failback would start from, if it were asked for now. Changes nothing.

        Raises what that would raise: nobody is to be asked about something that is refused afterwards. What its run
        finds out by itself is not looked at, like whether it needs the word that `without_vault` is.
        """
        life = self.life(vm_id, name)
        self._allowed(life, event)
        self._protected(vm_id, name)
        self._give_way(life, event, only_look=True)
        warm, options = None, {"newest": newest}
        if event is Event.UNPLANNED:
            away = str(to or self._away())
            self._not_there(life, away)
            warm = None if from_vault else self._desk.checks.replica(vm_id, away)
            point = self._agree(life, event, point, options, warm=warm is not None)
        else:
            self._home(life, {"to": to})
        note = str(options.get("note") or "")
        if warm is None or point not in ("latest", warm.point):
            found = self._point(vm_id, name, point)
            return Target(found.id, found.time_ns / 1e9, found.consistency, note)
        # As in the failover itself, a vault that does not answer is no reason to wait where the replica will do.
        asked = apart(lambda: self._point(vm_id, name, point), "target")
        with suppress(StoreUnavailable, Unavailable, NotFound):
            if wait([asked], _PATIENCE_S).done:
                found = asked.result()
                return Target(found.id, found.time_ns / 1e9, found.consistency, note)
        at = datetime.fromisoformat(warm.time).timestamp()
        return Target(warm.point, at, None, note or f"the warm replica at {warm.host}: the vault cannot be asked")

    def _agree(self, life: Life, event: Event, point: str, options: dict[str, Any], *, warm: bool) -> str:
        """The point at which a VM of a consistency group agrees with the others, where the newest was asked for.

        warm: there is a replica, which has to do when the vault cannot be asked.
        """
        newest = options.pop("newest", None)
        if event is not Event.UNPLANNED or point != "latest":
            return point
        if under_way(life.phase) and self._database.runs.run(life.run_id).result("last-cycle"):
            return point  # it was shut down for it, and its newest point holds everything
        try:
            chosen, note = self.marks.for_one(life.vm_id, newest)
        except StoreUnavailable:
            if not warm:
                raise
            chosen, note = "", "the newest point: the vault cannot be asked for an instant of its group"
        if note:
            options["note"] = note
        return chosen or point

    def _home(self, life: Life, options: dict[str, Any]) -> str:
        """The host that it is to come home to. Raises BadInput for the one where it runs, NotFound for no host."""
        home = str(options.pop("to", None) or life.home)
        if home == life.away:
            raise BadInput("it runs there already", subject=home, hint="Name another host with --to")
        self._fleet.link(home)
        return home

    def _not_there(self, life: Life, away: str) -> None:
        """Raises BadInput for its home, NotFound for no host."""
        if away == life.home:
            raise BadInput("it runs there already", subject=away, hint="Name a host of the other site with --to")
        self._fleet.link(away)

    def _give_way(self, life: Life, event: Event, *, only_look: bool = False) -> Run | None:
        """The run that an unplanned failover or failback takes over from, since a site broke down under it; from here
        on nothing more is done for it. only_look: it goes on, this was to know. Raises Refused where it may not give
        way."""
        if not under_way(life.phase):
            return None
        away = event is not Event.UNPLANNED_FAILBACK
        ready, why = (gives_way, _TOO_LATE) if away else (gives_way_home, _TOO_EARLY)
        reason = "gives way to an unplanned failover" if away else "gives way to an unplanned failback"

        def given(now: Run) -> Run:
            return abandon(now, reason) if ready(now) else now

        runs = self._database.runs
        run = given(runs.run(life.run_id)) if only_look else runs.replace(life.run_id, given)
        if run.state is RunState.UNDONE and run.ended is None:
            return run
        way = "cancel" if run.reversible and not away else "show"
        way = "retry" if run.state is RunState.STALLED and way == "show" else way
        raise Refused(why, subject=life.vm_name, hint=f"Go on with `leeward failover {way} {life.vm_name}`")

    def failback(self, vm_id: str, name: str, by: str, options: dict[str, Any]) -> Run:
        """options: to (another host of the home site), force, timeout_s."""
        life = self.life(vm_id, name)
        self._allowed(life, Event.FAILBACK)
        self._protected(vm_id, name)
        home = self._home(life, options)
        life = replace(life, home=home)
        return self._beginner.begin(life, Event.FAILBACK, Kind.FAILBACK, life.away, "latest", by, options)

    def unplanned_failback(self, vm_id: str, name: str, point: str, by: str, options: dict[str, Any]) -> Run:
        """The recovery site is gone. options: to (another host than the one it came from), force, explicit (as in
        `failover`).

        there: added here, the epoch in which the recovery site runs the VM, where that was just being moved there.
        """
        life = self.life(vm_id, name)
        self._allowed(life, Event.UNPLANNED_FAILBACK)
        home = self._home(life, options)
        self._point(vm_id, name, point)
        life = replace(life, home=home)
        other = self._give_way(life, Event.UNPLANNED_FAILBACK)
        if other is not None and other.kind in (Kind.FAILBACK, Kind.UNPLANNED_FAILBACK):
            options = {**options, **inheritance(other)}
            if other.home != home:
                options.pop("tried", None)  # what it may have left running is not at this one
        elif other is not None and other.kind is not Kind.COMMIT:
            taken = other.result("epoch")
            options["there"] = int(taken["epoch"]) - bool(taken.get("owed"))
        event, kind = Event.UNPLANNED_FAILBACK, Kind.UNPLANNED_FAILBACK
        try:
            return self._beginner.begin(life, event, kind, life.away, point, by, options, giving_way=other)
        except LeewardError:
            if other is not None:
                self._desk.follow(self._database.runs.replace(other.id, unabandon))
            raise

    def commit(self, vm_id: str, name: str, by: str) -> Run:
        life = self.life(vm_id, name)
        self._allowed(life, Event.COMMIT)
        kind = Kind.FINISH if life.phase is Phase.BACK else Kind.COMMIT
        return self._beginner.begin(life, Event.COMMIT, kind, life.away, "latest", by, {})

    def test(
        self,
        vm_id: str,
        name: str,
        point: str,
        by: str,
        options: dict[str, Any] | None = None,
        run_id: str = "",
    ) -> Run:
        """Phases do not matter: a test touches nothing. options: to, networks; added here: rpo_target_s, as it
        was. run_id: as in `failover`."""
        known = self.taken(run_id) if run_id else None
        if known is not None:
            return known
        options = dict(options or {})
        self._no_test(vm_id, name)
        self._point(vm_id, name, point)  # the vault may make us wait, so others need not wait with us
        life = self.life(vm_id, name)
        away = str(options.pop("to", None) or life.away or self._away())
        wish = self._database.wish(vm_id)
        options["rpo_target_s"] = wish.policy.rpo_s if wish else None
        with self._testing:
            known = self.taken(run_id) if run_id else None
            if known is not None:
                return known
            self._no_test(vm_id, name)
            return self._beginner.add(life, Kind.TEST, away, point, by, options, run_id)

    def _no_test(self, vm_id: str, name: str) -> None:
        """Raises Refused when there is one."""
        copy = self._fleet.view().copy(vm_id, "test")
        if copy is not None:
            raise Refused(
                f"a test failover exists already ({copy.copy_name}, point {copy.point})",
                subject=name,
                hint=f"Remove it with `leeward failover cleanup {name}`",
            )
        self._not_testing(vm_id, name)

    def cleanup(self, vm_id: str, name: str, by: str, run_id: str = "", only: str = "") -> Run:
        """Remove a test's copy; a test that has not come up yet is taken back. only: the test that is meant, where
        another one must be left alone."""
        with self._testing:
            known = self.taken(run_id) if run_id else None
            return known or self._cleanup(vm_id, name, by, run_id, only)

    def _cleanup(self, vm_id: str, name: str, by: str, run_id: str, only: str) -> Run:
        newest = self._database.runs.find(vm_id=vm_id, kinds=(Kind.TEST,), limit=1) if only else []
        if newest and newest[0].id != only:
            raise Refused(
                "another test failover of it has begun since", subject=name, hint="Clean that up when it is done with"
            )
        for run in self._database.runs.unfinished(vm_id, (Kind.TEST,)):
            if run.state is RunState.RUNNING:
                self.take_back(run)
                return run
        copy = self._fleet.view().copy(vm_id, "test")
        if copy is None:
            raise Refused(
                "there is no test failover of it to clean up",
                subject=name,
                hint=f"Start one with `leeward failover test {name}`",
            )
        self._not_testing(vm_id, name)
        life = self.life(vm_id, name)
        return self._beginner.add(life, Kind.CLEANUP, copy.host, copy.point, by, {}, run_id)

    def _not_testing(self, vm_id: str, name: str) -> None:
        for run in self._database.runs.unfinished(vm_id, STILL):
            if run.kind is Kind.TEST and run.state is RunState.RUNNING:
                raise Refused(
                    "a test failover of it is just being started",
                    subject=name,
                    hint=f"Wait until it is up, or take it back with `leeward failover cleanup {name}`",
                )
            if run.state is not RunState.STALLED:
                raise Refused("its test failover is just being removed", subject=name, hint="Wait until it is gone")

    def retry(self, vm_id: str, name: str, options: dict[str, Any]) -> Run:
        life = self.life(vm_id, name)
        run = self._moving(life, Event.RETRY)
        wanted = {name: value for name, value in options.items() if value is not None}
        return self._carry_on(run, lambda now: retry(now, {**wanted, **self._desk.checks.reclaim(now)}))

    def again(self, run: Run, options: dict[str, Any]) -> Run:
        """The same for a run of any kind; nothing when it has not stalled."""
        if run.state is not RunState.STALLED:
            return run
        if run.kind not in STILL:
            return self.retry(run.vm_id, run.vm_name, options)
        return self._carry_on(run, lambda now: retry(now) if now.state is RunState.STALLED else now)

    def hold(self, run: Run, step: str) -> Run:
        """Let the run wait before this step, or ("") no longer wait. The walk of a held run has ended, so that what
        lets it go on has to begin another one; two walks of one run do no harm."""
        if run.over or run.options.get(HOLD, "") == step:
            return run
        changed = self._database.runs.replace(run.id, lambda now: replace(now, options={**now.options, HOLD: step}))
        if changed.state in (RunState.RUNNING, RunState.UNDOING):
            self._engine.walk(run.id)
        return changed

    def cancel(self, vm_id: str, name: str) -> Run:
        """Take a run back, as long as nothing final has begun."""
        life = self.life(vm_id, name)
        run = self._moving(life, Event.CANCEL)
        changed = self.take_back(run)
        if changed.state is not RunState.UNDOING and not changed.cancel:
            stalled = changed.state is RunState.STALLED
            raise Refused(
                "clients can reach the VM at its new site: there is no way back, only forward",
                subject=name,
                hint=f"Go on with `leeward failover retry {name}`"
                if stalled
                else f"Let it come up, `leeward failover commit {name}`, then bring it home with a failback",
            )
        return changed

    def take_back(self, run: Run) -> Run:
        """Wish a run to be taken back; nothing, where there is no way back any more."""
        changed = self._database.runs.replace(run.id, ask_cancel)
        if changed.state is RunState.UNDOING:
            self._desk.follow(changed)
        if changed.state is RunState.UNDOING or (changed.cancel and changed.options.get(HOLD)):
            self._engine.walk(run.id)  # one that had stalled or is held has no walk that would heed the wish
        return changed

    # --- insides --------------------------------------------------------------------------------------

    def _allowed(self, life: Life, event: Event) -> None:
        following = after(life.phase, event, life.vm_name)
        if isinstance(following, Refusal):
            raise Refused(following.reason, subject=life.vm_name, hint=following.hint)

    def _protected(self, vm_id: str, name: str) -> ProtectionMessage:
        wish = self._database.wish(vm_id)
        if wish is None:
            raise Refused("it is not protected", subject=name, hint=f"Protect it with `leeward protect {name}`")
        return wish

    def _point(self, vm_id: str, name: str, point: str) -> RecoveryPoint:
        try:
            return self._desk.vault().log(vm_id).choose(point)
        except NotFound as error:
            raise NotFound(error.message, subject=name, hint=error.hint) from None

    def _moving(self, life: Life, event: Event) -> Run:
        self._allowed(life, event)
        return self._database.runs.run(life.run_id)

    def _carry_on(self, run: Run, change: Callable[[Run], Run]) -> Run:
        changed = self._database.runs.replace(run.id, change)
        if changed.attempt == run.attempt:
            raise Refused(
                "it goes on already", subject=run.vm_name, hint=f"See `leeward failover show {run.vm_name}`"
            )
        self._desk.follow(changed)
        self._engine.walk(run.id)
        return changed
