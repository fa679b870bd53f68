"""What jobs do with VMs made out of recovery points on this agent's hosts, and with VMs that come home to them.

Each is harmless to repeat. Arguments and results are told in each task's docstring.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from leeward.agent.agent import Agent
from leeward.agent.jobs import Cancelled, Context, Task
from leeward.agent.ledger import Ledger, StandDown
from leeward.domain.errors import Fenced, HypervisorError, LeewardError, NotFound, Refused, StoreUnavailable
from leeward.logs import log
from leeward.vault.facade import Vault
from leeward.wire.jobs import PNG, Job, JobKind
from leeward.wire.messages import CopyReport, ReplicaReport

BOOT_TIMEOUT_S = 180.0
_AGAIN_S = 1.0


class Copies(Protocol):
    """Copies on one host; see `leeward.recovery.copies`. purpose: test or failover."""

    def build(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        purpose: str,
        networks: Mapping[str, str],
        *,
        from_vault: bool = False,
    ) -> CopyReport: ...
    def start(self, vm_id: str, purpose: str, *, offline: bool = False) -> CopyReport: ...
    def plug(self, vm_id: str, purpose: str) -> CopyReport: ...
    def watch(self, vm_id: str, purpose: str, timeout_s: float) -> CopyReport: ...
    def picture(self, vm_id: str, purpose: str, check: Callable[[], None]) -> bytes:
        """PNG, at most MOST_BYTES, of its screen. check: raises to end early. Raises LeewardError."""

    def settle(self, vm_id: str) -> None: ...
    def discard(self, vm_id: str, purpose: str) -> None: ...
    def reports(self) -> list[CopyReport]: ...
    def supervise(self) -> None: ...
    def definition(self, vm_id: str, purpose: str) -> str:
        """Of the VM that a copy is made of, as its host defined it."""

    def replica(self, vm_id: str) -> ReplicaReport | None:
        """The warm replica of a VM that could be failed over to now, without the vault."""


class Homes(Protocol):
    """VMs that come home to one host; see `leeward.recovery.home`. tell: progress; check: raises to end early."""

    def prepare(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        tell: Callable[[str], None],
        check: Callable[[], None],
        *,
        afresh: bool = False,
        run: str = "",
    ) -> dict[str, Any]: ...
    def catch_up(
        self, vm_id: str, point_id: str, tell: Callable[[str], None], check: Callable[[], None]
    ) -> dict[str, Any]: ...
    def switch(self, vm_id: str, definition: str, point: str = "") -> dict[str, Any]: ...
    def start(self, vm_id: str, point: str = "") -> dict[str, Any]: ...
    def watch(self, vm_id: str, timeout_s: float) -> dict[str, Any]: ...
    def settle(self, vm_id: str) -> None: ...
    def of_another(self, vm_id: str, runs: Collection[str]) -> bool: ...
    def revert(self, vm_id: str, runs: Collection[str] = ()) -> None: ...


@dataclass(frozen=True, slots=True)
class CopyTasks:
    """copies, homes: by host name. open_vault: what is really in the vault. sparing: while a VM's copy is made its
    replica is left alone by whoever brings it on."""

    agent: Agent
    ledger: Ledger
    copies: Mapping[str, Copies]
    homes: Mapping[str, Homes]
    open_vault: Callable[[], Vault]
    sparing: Callable[[str], AbstractContextManager[None]] = lambda vm_id: nullcontext()

    def tasks(self) -> dict[JobKind, Task]:
        return {
            JobKind.COPY_BUILD: self.build,
            JobKind.COPY_START: self.start,
            JobKind.COPY_PLUG: self.plug,
            JobKind.COPY_WATCH: self.watch,
            JobKind.COPY_PICTURE: self.picture,
            JobKind.COPY_SETTLE: self.settle,
            JobKind.COPY_DISCARD: self.discard,
            JobKind.HOME_PREPARE: self.prepare,
            JobKind.HOME_CATCH_UP: self.catch_up,
            JobKind.HOME_SWITCH: self.switch,
            JobKind.HOME_START: self.start_home,
            JobKind.HOME_WATCH: self.watch_home,
            JobKind.HOME_SETTLE: self.settle_home,
            JobKind.HOME_REVERT: self.revert,
        }

    # --- copies ---------------------------------------------------------------------------------------

    def build(self, context: Context) -> dict[str, Any]:
        """name, point (latest, app or an id), purpose, networks; afresh: what a failover that was given up has left
        goes first; from_vault: a warm replica is not used; owed: the vault was just found to be away; without_vault:
        where it is, the replica's point will do → point, time_ns (where the vault told it), copy, replica;
        definition, where it is made of one: the console may not have been able to read it in the vault."""
        job = context.job
        wanted = job.arguments
        copies, purpose = self._copies(job.host), str(wanted["purpose"])
        if wanted.get("afresh"):
            copies.discard(job.vm_id, purpose)
        point, time_ns = self._point(context)
        context.tell(f"making the VM out of point {point}")
        with self.sparing(job.vm_id):
            copy = copies.build(
                job.vm_id,
                str(wanted["name"]),
                point,
                purpose,
                dict(wanted.get("networks", {})),
                from_vault=bool(wanted.get("from_vault")),
            )
        source = ", on the disks of the warm replica" if copy.replica else ""
        context.tell(f"{copy.copy_name} at point {copy.point}, on {copy.network or 'no network'}{source}")
        found = {"point": copy.point, "time_ns": time_ns, "copy": copy.copy_name, "replica": copy.replica}
        return {**found, "definition": copies.definition(job.vm_id, purpose)} if copy.replica else found

    def _point(self, context: Context) -> tuple[str, int | None]:
        """Its id, and its time in UTC ns where the vault tells it. Without the vault only what the replica holds can
        be had, or what a copy has been begun with."""
        job, wanted = context.job, context.job.arguments
        replica = self._copies(job.host).replica(job.vm_id) if wanted.get("owed") else None
        if replica is not None and replica.point == wanted["point"]:
            return replica.point, None
        try:
            chosen = self.open_vault().log(job.vm_id).choose(str(wanted["point"]))
            return chosen.id, chosen.time_ns
        except StoreUnavailable:
            copies, purpose = self._copies(job.host), str(wanted["purpose"])
            begun = [copy.point for copy in copies.reports() if (copy.vm_id, copy.purpose) == (job.vm_id, purpose)]
            replica = copies.replica(job.vm_id) if purpose == "failover" and not wanted.get("from_vault") else None
            held = replica.point if replica else begun[0] if begun else ""
            if not held or (str(wanted["point"]) != held and not wanted.get("without_vault")):
                raise
            return held, None

    def start(self, context: Context) -> dict[str, Any]:
        """purpose, epoch (for a failover: the one in which this host reigns), run; owed: it was to be taken when the
        vault is back; without_vault: an epoch of ours is believed where the vault is away."""
        job = context.job
        offline = False
        if job.arguments["purpose"] == "failover":
            offline = self._must_reign_or_owe(job)
            self.agent.stand_up(job.vm_id, job.host)
        self._copies(job.host).start(job.vm_id, str(job.arguments["purpose"]), offline=offline)
        return {}

    def plug(self, context: Context) -> dict[str, Any]:
        """purpose, grace_s: seconds after the epoch began, for the old one to find out that its time is over."""
        job = context.job
        self._give_time(context, "giving the home site the time to find out and stop its VM")
        self._copies(job.host).plug(job.vm_id, str(job.arguments["purpose"]))
        return {}

    def watch(self, context: Context) -> dict[str, Any]:
        """purpose → evidence of the boot. A guest that does not come up is told, but is no failure of the job."""
        job = context.job
        context.tell("waiting for the guest")
        copy = self._copies(job.host).watch(job.vm_id, str(job.arguments["purpose"]), BOOT_TIMEOUT_S)
        context.tell(next((step.detail for step in copy.steps if step.name == "boot"), ""))
        return {"evidence": copy.evidence}

    def picture(self, context: Context) -> dict[str, Any]:
        """purpose → png (base64), or why: there is none. Evidence that is missing is no failure of what it is of."""
        job = context.job
        try:
            png = self._copies(job.host).picture(job.vm_id, str(job.arguments["purpose"]), context.check)
        except Cancelled:
            raise
        except LeewardError as error:
            why = error.message
        except Exception as error:  # a bug of ours, or of what draws: the test has passed all the same
            log.exception("no picture could be taken", vm_id=job.vm_id)
            why = f"internal error: {error!r}"
        else:
            context.tell("")
            return {PNG: base64.b64encode(png).decode()}
        context.tell(f"no picture: {why}")
        return {"why": why}

    def _rightful_here(self, context: Context) -> bool:
        """An order may come late, when the VM is here once more. While the vault is away nobody knows; where an epoch
        is owed, it is not known yet who gets the log. Raises Refused where the log does not tell."""
        job = context.job
        while self.ledger.owed(job.vm_id, job.host) is None:
            try:
                vm_log = self.open_vault().log(job.vm_id)
                # One that was never moved belongs where it is replicated from.
                found = vm_log.last_move() or vm_log.reign()
                host = found.info.get("host") if found else None
                if host is None:
                    raise Refused(
                        "the vault does not tell where this VM has its place: it is left as it is here",
                        subject=str(job.arguments.get("name", job.vm_id)),
                        hint=f"See where it runs; if that is not {job.host}, remove by hand what is left of it there",
                    )
                return bool(host == job.host)
            except StoreUnavailable:
                context.check()
                context.tell("waiting for the vault")
                time.sleep(_AGAIN_S)
        return True

    def settle(self, context: Context) -> dict[str, Any]:
        self._copies(context.job.host).settle(context.job.vm_id)
        return {}

    def discard(self, context: Context) -> dict[str, Any]:
        """purpose; idle: only where the VM has its rightful place elsewhere, by the log. Of a failover's copy also
        what kept it off, when it had come home."""
        job = context.job
        purpose = str(job.arguments["purpose"])
        if job.arguments.get("idle") and self._rightful_here(context):
            context.tell("its rightful place is here again: nothing is removed")
            return {}
        self._copies(job.host).discard(job.vm_id, purpose)
        if purpose == "failover":
            self.agent.stand_up(job.vm_id, job.host)
        return {}

    # --- coming home ----------------------------------------------------------------------------------

    def prepare(self, context: Context) -> dict[str, Any]:
        """name, point, run; afresh: a failback that was given up may have left something → point, and what was
        fetched from the vault (bytes)."""
        job, wanted = context.job, context.job.arguments
        point = self.open_vault().log(job.vm_id).choose(str(wanted["point"]))
        name, homes = str(wanted["name"]), self._homes(job.host)
        afresh, run = bool(wanted.get("afresh")), str(wanted.get("run", ""))
        return homes.prepare(job.vm_id, name, point.id, context.tell, context.check, afresh=afresh, run=run)

    def catch_up(self, context: Context) -> dict[str, Any]:
        """point: an id → point, fetched."""
        job = context.job
        return self._homes(job.host).catch_up(job.vm_id, str(job.arguments["point"]), context.tell, context.check)

    def switch(self, context: Context) -> dict[str, Any]:
        """definition: for a host on which the VM is not defined; point: that its new disks must hold."""
        job = context.job
        point = str(job.arguments.get("point", ""))
        return self._homes(job.host).switch(job.vm_id, str(job.arguments["definition"]), point)

    def start_home(self, context: Context) -> dict[str, Any]:
        """epoch: the one in which this host reigns; grace_s: as in `plug`; point: as in `switch`."""
        job = context.job
        self._give_time(context, "giving the recovery site the time to find out and stop its VM")
        self._must_reign(job.vm_id, job.host, int(job.arguments["epoch"]))
        self.agent.stand_up(job.vm_id, job.host)
        return self._homes(job.host).start(job.vm_id, str(job.arguments.get("point", "")))

    def watch_home(self, context: Context) -> dict[str, Any]:
        """→ evidence of the boot."""
        job = context.job
        context.tell("waiting for the guest")
        found = self._homes(job.host).watch(job.vm_id, BOOT_TIMEOUT_S)
        context.tell(str(found.get("detail", "")))
        return found

    def settle_home(self, context: Context) -> dict[str, Any]:
        self._homes(context.job.host).settle(context.job.vm_id)
        return {}

    def revert(self, context: Context) -> dict[str, Any]:
        """name, reason: the VM stays off here, also when a start that failed had half begun; runs: whose new disks
        go, those of a later run stay; idle: as in `discard`. A VM that had come to this host for the first time is
        gone then."""
        job = context.job
        idle, homes = bool(job.arguments.get("idle")), self._homes(job.host)
        runs = [str(run) for run in job.arguments.get("runs", ())]
        # A later run may also have brought the VM here.
        if (idle or homes.of_another(job.vm_id, runs)) and self._rightful_here(context):
            context.tell("its rightful place is here again: nothing is removed")
            return {}
        standdown = StandDown(job.vm_id, str(job.arguments["name"]), job.host, str(job.arguments["reason"]))
        if not self.agent.stand_down(standdown):
            raise HypervisorError("the VM could not be stopped on this host", subject=standdown.vm_name)
        homes.revert(job.vm_id, runs)
        if idle and self.agent.has_not(job.vm_id, job.host):
            self.agent.stand_up(job.vm_id, job.host)
        return {}

    # --- insides --------------------------------------------------------------------------------------

    def _give_time(self, context: Context, why: str) -> None:
        job = context.job
        left = self.agent.grace.left(job.vm_id, job.host, float(job.arguments.get("grace_s", 0.0)))
        ends = time.monotonic() + left
        if left > 0:
            context.tell(why)
        while time.monotonic() < ends:
            context.check()
            time.sleep(0.05)
        context.tell("")

    def _must_reign_or_owe(self, job: Job) -> bool:
        """True: the vault is away."""
        if job.arguments.get("owed") and not self.agent.owing.settle(job.vm_id, job.host, patient=False):
            return True
        epoch, ours = int(job.arguments["epoch"]), self.ledger.epoch_of(job.vm_id, job.host)
        try:
            if job.arguments.get("owed"):
                # The source may have begun epochs of its own after the one that had been seen.
                reign = self.open_vault().log(job.vm_id).reign()
                epoch = reign.epoch if reign and reign.info.get("run") == job.arguments["run"] else epoch
            self._must_reign(job.vm_id, job.host, epoch)
        except StoreUnavailable:
            # Whoever takes over what is ours finds us by itself; nobody else could have been given this very epoch.
            if not job.arguments.get("without_vault") or ours is None or ours < epoch:
                raise
            return True
        return False

    def _must_reign(self, vm_id: str, host: str, epoch: int) -> None:
        """Nobody starts a primary who is not, at this moment, the one writer of its log."""
        reign = self.open_vault().log(vm_id).reign()
        ours = self.ledger.epoch_of(vm_id, host)
        if reign is not None and reign.epoch == epoch and ours is None and reign.info.get("host") == host:
            # This agent has lost its memory; the vault says that it is the one.
            self.agent.reigns(vm_id, epoch, host)
            return
        if reign is None or not reign.epoch == epoch == ours:
            raise Fenced(
                f"it must not be started here: its log is in epoch {reign.epoch if reign else 0}, ours was {ours}",
                subject=vm_id,
                hint="See where it runs with `leeward status`",
            )

    def _copies(self, host: str) -> Copies:
        if host not in self.copies:
            raise NotFound(
                "this host is not set up to run recovered VMs", subject=host, hint="Give it a storage folder"
            )
        return self.copies[host]

    def _homes(self, host: str) -> Homes:
        if host not in self.homes:
            raise NotFound("this host is not set up to take VMs home", subject=host)
        return self.homes[host]
