"""Looking before leaping: what a run sees before its first deed, and which epoch it may follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from leeward.console.breaches import Over, over, reading
from leeward.console.fleet import Fleet
from leeward.domain.errors import NotFound, Refused, StoreFull, Unavailable
from leeward.domain.procedures import Kind
from leeward.domain.protection import ProtectionState, ReplicaState
from leeward.domain.runs import Run, RunState
from leeward.orchestrator.desk import Done
from leeward.recovery.copies import room_for
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.vault.facade import Vault
from leeward.vault.log import VmLog
from leeward.vault.reigning import MOVES, Reign
from leeward.wire.messages import ProtectionMessage, ReplicaReport
from leeward.wire.translate import utc

# A console that has just started has not heard of all agents yet.
_PATIENCE_S = 3.0


class VaultOpener(Protocol):
    """The vault, opened when it is first needed."""

    def open(self) -> Vault: ...


class Checks:
    """Changes nothing. left: of a VM, the hosts at which a run that gave way has left something."""

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        vault: VaultOpener,
        left: Callable[[str], Collection[str]] = lambda vm_id: (),
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._vault = vault
        self._left = left

    def check(self, run: Run) -> Done:
        """→ claim: the epoch that may be followed; passing: what of the log is passed over for that (see
        `leeward.domain.runs.passing`); definition: of the VM at home; replica: there is a warm one that
        could be failed over to without the vault; afresh: what is left there of another run goes first."""
        replica = self.replica(run.vm_id, run.away) if run.kind is Kind.UNPLANNED else None
        if run.options.get("from_vault"):
            replica = None
        self._must_answer(run.away, "the recovery host")
        if run.kind is Kind.PLANNED:
            self._must_answer(run.home, "the home host")
        left = self._left(run.vm_id)
        self._no_other_copy(run, left)
        try:
            done = self._check_vault(run)
        except Unavailable as away:
            if replica is None:
                raise
            done = self._check_replica(run, replica, away)
        found = {name: True for name, so in (("replica", replica), ("afresh", run.away in left)) if so}
        return Done(done.detail, {**(done.result or {}), **found})

    def _check_vault(self, run: Run) -> Done:
        vm_log = self._vault.open().log(run.vm_id)
        with reading(run, vm_log):
            point = vm_log.choose(run.point)
            with vm_log.open_point(point.id, cache_bytes=0) as image:
                definition = image.definition
                if run.kind is Kind.PLANNED and self._fleet.view().replica(run.vm_id, run.away) is None:
                    self._must_have_room(run.away, room_for(image))
            # That the newest one can be read has shown that all can be.
            passed = over(run, vm_log, point) if run.point != "latest" else None
            claim = self._claim(run, vm_log, run.home, passed)
        note = run.options.get("note")
        told = f"point {point.id}: {note}" if note else f"newest usable point: {point.id}"
        # Nobody is to take a point that was asked for otherwise for the newest one.
        if run.point == "app":
            told = f"newest application-consistent point: {point.id}"
        elif run.point != "latest" and not note:
            told = f"the point that was asked for: {point.id}"
        found = {"claim": claim, "definition": definition}
        return Done(told, found) if passed is None else Done(passed.told, {**found, "passing": passed.passing})

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
        wish = self._wish(run.vm_id)
        claim = max(replica.epoch, wish.claim if wish else 0)
        return Done(
            f"the vault is away: the warm replica at {run.away} holds point {replica.point} of {replica.time}",
            {"claim": claim},
        )

    def replica(self, vm_id: str, host: str) -> ReplicaReport | None:
        """The warm replica on a host that could be failed over to now."""
        found = self._fleet.view().replica(vm_id, host)
        return found if found is not None and found.state in (ReplicaState.WARM, ReplicaState.BEHIND) else None

    def _no_other_copy(self, run: Run, left: Collection[str]) -> None:
        view = self._fleet.view()
        copies = [copy for copy in view.copies if (copy.vm_id, copy.purpose) == (run.vm_id, "failover")]
        there = in_the_way([copy.host for copy in copies if view.present(copy.host)], run, left)
        if there:
            raise Refused(
                f"a copy from an earlier failover is still there, on {there}",
                subject=run.vm_name,
                hint="Remove it on that host, then retry",
            )

    def _claim(self, run: Run, vm_log: VmLog, host: str, passed: Over | None, known: int = 0) -> int:
        """As `_claim_from`, also where a part of the log is passed over: by what is certain of it."""
        if passed is None:
            return self._claim_from(run, vm_log, host, known)
        if passed.reign is not None:
            self._may_follow(run, passed.reign, host, known)
        return passed.epoch

    def _claim_from(self, run: Run, vm_log: VmLog, host: str, known: int = 0) -> int:
        """The epoch that may be followed: one that is written from `host`, or not newer than the one that is known to
        be over (of a host that has not come to take its own yet). Raises Refused when the VM is elsewhere."""
        reign = vm_log.reign()
        return 0 if reign is None else self._may_follow(run, reign, host, known)

    def _may_follow(self, run: Run, reign: Reign, host: str, known: int) -> int:
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

    def moved_by_another(self, vm_id: str) -> str:
        """The host at which the VM is since another console moved it there from its home; "" where none has. By the
        log: both consoles find the same. Raises LeewardError."""
        wish, life = self._wish(vm_id), self._database.lives.get(vm_id)
        home = life.home if life else wish.host if wish else ""
        move = self._vault.open().log(vm_id).last_move()
        if move is None or move.info.get("host") in (None, home):
            return ""
        try:
            self._database.runs.run(str(move.info.get("run", "")))
        except NotFound:
            return str(move.info["host"])
        return ""

    def _given_up(self, run: Run, move: Reign) -> bool:
        """Whether a move is a failback of this console's that gave way, or its being taken back: the VM came to the
        recovery site before."""
        return move.reason != "failover" and self.ours(run, move.info.get("run"))

    def reclaim(self, run: Run) -> dict[str, Any]:
        """Options for another try of a run whose taking of the log failed: the operator has seen why, and wants it to
        follow the epoch that is there now. Raises Refused when that is of another move, StoreError."""
        if run.failed_step in ("epoch-back", "epoch-away"):
            return self._reclaim_back(run)
        if run.failed_step not in ("epoch", "epoch-home"):
            return {}
        try:
            vm_log = self._vault.open().log(run.vm_id)
            with reading(run, vm_log):
                passed = over(run, vm_log, vm_log.choose(run.point)) if run.options.get("explicit") else None
            reign = vm_log.reign() if passed is None else None
        except Unavailable:
            if run.result("check").get("replica"):
                return {}  # what was seen last must do: it may be meant to go on without the vault
            raise
        if reign is not None and reign.info.get("run") == run.id and reign.reason != "undo":
            return {"claim": reign.epoch - 1}  # it was taken after all
        host = run.away if run.failed_step == "epoch-home" else run.home
        if passed is None:
            return {"claim": self._claim_from(run, vm_log, host)}
        return {"claim": self._claim(run, vm_log, host, passed), "passing": passed.passing}

    def _reclaim_back(self, run: Run) -> dict[str, Any]:
        """The host that the log goes back to has its disks whole, so that no point of it needs to be readable."""
        try:
            breach = self._vault.open().log(run.vm_id).breach()
        except Unavailable:
            return {}
        return {"passing": {"point": 0, "unread": list(breach.unread)}} if breach is not None else {}

    def check_home(self, run: Run) -> Done:
        """→ claim, definition."""
        life = self._database.lives.get(run.vm_id)
        if run.kind is Kind.UNPLANNED_FAILBACK:
            return self._check_unplanned_home(run, life)
        self._must_answer(run.away, "the recovery host")
        self._must_answer(run.home, "the home host")
        wish = self._wish(run.vm_id)
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
        with reading(run, vm_log):
            point = vm_log.choose(run.point)
            with vm_log.open_point(point.id, cache_bytes=0) as image:
                definition = life.definition if life and life.definition else image.definition
            passed = over(run, vm_log, point) if run.point != "latest" else None
            wish = self._wish(run.vm_id)
            claim = self._claim(run, vm_log, run.away, passed, known=wish.claim if wish else 0)
        if passed is not None:
            return Done(passed.told, {"claim": claim, "definition": definition, "passing": passed.passing})
        move = vm_log.last_move(lambda found: self._given_up(run, found))
        lost = f"what is newer than point {point.id} of {utc(point.time_ns)} is lost"
        theirs = move is not None and move.info.get("host") == run.away
        if not theirs or (move is not None and point.epoch < move.epoch):
            lost = f"{lost}: {run.away} has brought no recovery point of its own into the vault"
        return Done(lost, {"claim": claim, "definition": definition})

    def _wish(self, vm_id: str) -> ProtectionMessage | None:
        return self._database.wish(vm_id)

    def _must_have_room(self, host: str, needed: int) -> None:
        """A VM that is to be shut down for it must find room. (The host itself looks again, more closely.)"""
        report = self._fleet.view().hosts.get(host)
        if report is not None and report.free is not None and report.free < needed:
            raise StoreFull(
                f"the VM may need up to {needed:,} bytes there, and about {report.free:,} are free",
                subject=host,
                hint="Make room on the recovery host's storage, or clean up test copies, then retry",
            )

    def _must_answer(self, host: str, what: str) -> None:
        ends = time.monotonic() + _PATIENCE_S
        while not self._fleet.view().present(host) and time.monotonic() < ends:
            time.sleep(0.05)
        if not self._fleet.link(host).present:
            raise Unavailable(f"the agent of {what} does not answer", subject=host, hint="Start it, then retry")
        error = self._fleet.view().hosts[host].error
        if error:
            raise Unavailable(f"{what} does not answer: {error}", subject=host)


def in_the_way(hosts: Sequence[str], run: Run, left: Collection[str] = ()) -> str:
    """A host whose copy of an earlier failover forbids another one; "" when there is none. Pure.

    hosts: that answer, and have a copy. One that does not answer keeps its VM off when it is back, and removes it. A
    copy that is left of a run that gave way nobody has seen yet: it is made anew, and elsewhere (left: there) it is
    kept off and removed when this run is over.
    """
    mine = [run.away] if run.options.get("after") else []
    return next((host for host in hosts if host not in (*mine, *left)), "")
