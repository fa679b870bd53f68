"""What jobs do to the VMs of this agent's hosts: stop them, prove the vault, keep them off, take their logs over.

Each is harmless to repeat, whatever it was killed in. Arguments and results are told in each task's docstring.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from leeward.agent.agent import Agent
from leeward.agent.jobs import Context, Task
from leeward.agent.lastcycle import LastCycle
from leeward.agent.ledger import Ledger, Owed, StandDown
from leeward.domain.errors import Damaged, Fenced, HypervisorError, Refused, StoreUnavailable, VmGone
from leeward.domain.vm import Power
from leeward.vault.facade import Vault
from leeward.vault.log import Consent, LogWriter, VmLog
from leeward.wire.jobs import Job, JobKind
from leeward.wire.messages import ReplicaReport
from leeward.wire.translate import utc

STOP_TIMEOUT_S = 120.0
_SLICE_S = 10.0
_TRIES = 5
_OFF_TIMEOUT_S = 30.0


class SourceTasks:
    """open_vault: what is really in the vault, not what a spool shows. replica: of a VM on a host, when it could be
    failed over to now."""

    def __init__(
        self,
        agent: Agent,
        ledger: Ledger,
        open_vault: Callable[[], Vault],
        last_cycle: LastCycle,
        replica: Callable[[str, str], ReplicaReport | None] = lambda host, vm_id: None,
    ) -> None:
        self._agent = agent
        self._ledger = ledger
        self._open_vault = open_vault
        self._last_cycle = last_cycle
        self._replica = replica

    def tasks(self) -> dict[JobKind, Task]:
        return {
            JobKind.STOP: self.stop,
            JobKind.START: self.start,
            JobKind.LAST_CYCLE: self.last_cycle,
            JobKind.STAND_DOWN: self.stand_down,
            JobKind.STAND_UP: self.stand_up,
            JobKind.TAKE_EPOCH: self.take_epoch,
            JobKind.UNOWE: self.unowe,
        }

    def stop(self, context: Context) -> dict[str, Any]:
        """Shut the guest down. timeout_s: how long it may take; force: power it off when it does not obey.

        → forced: it did not shut down by itself. Replication goes on meanwhile. Raises Refused when it does not obey,
        HypervisorError when it is off, but was not shut down.
        """
        job = context.job
        hypervisor = self._agent.source(job.host).hypervisor
        timeout = float(job.arguments.get("timeout_s", STOP_TIMEOUT_S))
        if hypervisor.vm(job.vm_id).power is Power.OFF:
            hypervisor.shutdown(job.vm_id, 0)  # which knows whether that is why
            return {"forced": False}
        context.tell("the guest is shutting down")
        ends = time.monotonic() + timeout
        while (left := ends - time.monotonic()) > 0:
            # In slices: an unplanned failover that takes over from here must not wait for a guest that does not obey.
            context.check()
            if hypervisor.shutdown(job.vm_id, min(left, _SLICE_S)):
                context.tell("the guest shut down by itself")
                return {"forced": False}
        if not job.arguments.get("force"):
            raise Refused(
                f"the guest did not shut down within {timeout:.0f} s",
                subject=hypervisor.vm(job.vm_id).name,
                hint="Shut it down from inside and retry, or retry with --force to power it off",
            )
        hypervisor.force_off(job.vm_id)
        self._wait_off(job.host, job.vm_id)
        context.tell(f"powered off: the guest did not obey within {timeout:.0f} s")
        return {"forced": True}

    def start(self, context: Context) -> dict[str, Any]:
        """Start a VM that was stopped for a failover which is taken back. Refused while it stands down.

        An order that comes late, when the VM has been moved after all, meets the new epoch. Only a host that neither
        console nor vault can reach finds out later.
        """
        job = context.job
        standdown = self._ledger.standdown(job.vm_id, job.host)
        if standdown is not None:
            raise Refused(f"it must stay off here: {standdown.reason}", subject=standdown.vm_name)
        self._agent.owing.settle(job.vm_id, job.host)
        self._must_not_be_elsewhere(job.vm_id, job.host)
        self._agent.source(job.host).hypervisor.start(job.vm_id)
        return {}

    def _must_not_be_elsewhere(self, vm_id: str, host: str) -> None:
        try:
            log = self._open_vault().log(vm_id)
            reign = log.reign()
            move = log.last_move() if reign is not None and reign.info.get("host") != host else None
        except StoreUnavailable:
            return
        if move is not None and move.info.get("host") != host:
            raise Fenced(
                f"it runs at {move.info.get('host')}", subject=vm_id, hint="See where it runs with `leeward status`"
            )

    def last_cycle(self, context: Context) -> dict[str, Any]:
        """Of a VM that is off: its last changes into the vault, and the proof that nothing differs any more.

        → point, time: the newest recovery point; compared: bytes of disk compared in the proving pass.
        """
        job = context.job
        self._agent.hold(job.vm_id, job.host)
        proof = self._last_cycle.run(job.vm_id, job.host, context)
        compared = f"{proof.compared / (1 << 20):.1f} MiB" if proof.compared else "all that could have changed"
        context.tell(f"point {proof.point.id} holds everything: {compared} compared, no difference")
        return {"point": proof.point.id, "time": utc(proof.point.time_ns), "compared": proof.compared}

    def stand_down(self, context: Context) -> dict[str, Any]:
        """Let the VM be off here and stay off. name: of the VM; reason: for people.

        → was_running. From now on the agent stops the VM whenever it is started on this host.
        """
        job = context.job
        was_running = not self._is_off(job.host, job.vm_id)
        standdown = StandDown(job.vm_id, str(job.arguments["name"]), job.host, str(job.arguments["reason"]))
        if not self._agent.stand_down(standdown):
            raise HypervisorError("the VM could not be stopped on this host", subject=standdown.vm_name)
        self._wait_off(job.host, job.vm_id)
        context.tell("it was running and has been stopped" if was_running else "it is off")
        return {"was_running": was_running}

    def stand_up(self, context: Context) -> dict[str, Any]:
        """Take a stand-down and a hold back."""
        self._agent.stand_up(context.job.vm_id, context.job.host)
        return {}

    def take_epoch(self, context: Context) -> dict[str, Any]:
        """Become the writer of the VM's log. claim: the epoch to follow; reason, run: told in the log; back: runs
        whose taking is given back, whether it has come to that yet or not (see `_take_back`). passing: the log cannot
        be read to its end, and is to go on from an older point (see `consent_of`). owe: where the vault is away, take
        it when it is back (`leeward.agent.owing`), and go on with the point that the replica here holds.

        → epoch; point, time: the newest recovery point now that no other writer can add one. owed: it is to be taken.
        """
        job = context.job
        arguments = job.arguments
        info = self._info(job)
        claim, back, consent = int(arguments["claim"]), arguments.get("back"), consent_of(arguments.get("passing"))
        try:
            log = self._open_vault().log(job.vm_id)
            if back:
                state = _take_back(log, claim, info, back, consent).state
            else:
                state = log.take_epoch(claim, info, consent).state
        except StoreUnavailable as away:
            return self._owe(context, away)
        self._agent.owing.drop(job.vm_id, job.host)
        self._agent.reigns(job.vm_id, state.epoch, job.host)
        point = state.last_point
        if point is None:
            raise Refused("the vault has no recovery point of it", subject=job.vm_id)
        context.tell(f"epoch {state.epoch} has begun after point {point.id}")
        return {"epoch": state.epoch, "point": point.id, "time": utc(point.time_ns)}

    def _info(self, job: Job) -> dict[str, Any]:
        """What an epoch tells of whoever begins it."""
        arguments = job.arguments
        told = {"reason": str(arguments["reason"]), "run": str(arguments["run"])}
        return {"writer": self._agent.name, "host": job.host, **told}

    def _owe(self, context: Context, away: StoreUnavailable) -> dict[str, Any]:
        job, arguments = context.job, context.job.arguments
        hint = str(arguments.get("stuck", "Retry when the vault is back"))
        replica = self._replica(job.host, job.vm_id)
        back = arguments.get("back")
        if not arguments.get("owe") or not (back or replica):
            raise StoreUnavailable(f"the vault is away ({away.message})", subject=away.subject, hint=hint)
        name, claim = str(arguments["name"]), int(arguments["claim"])
        wanted = str(arguments.get("point", "latest"))
        if replica is not None and not back and wanted not in ("latest", replica.point):
            raise Refused(
                f"the vault is away, and the warm replica holds point {replica.point}, not {wanted}",
                subject=name,
                hint="Wait for the vault, or begin anew with the newest point",
            )
        runs = [str(run) for run in (back or [arguments["run"], *arguments.get("after", [])])]
        self._agent.owing.owe(Owed(job.vm_id, name, job.host, claim, self._info(job), runs))
        if replica is None or back:
            context.tell("the vault is away: its log is given back as soon as it can be reached")
            return {"owed": True, "epoch": claim + 1}
        context.tell(
            f"the vault is away: taken is point {replica.point} of {replica.time}, which the warm replica holds; "
            "the log is taken over as soon as it can be reached"
        )
        return {"owed": True, "epoch": claim + 1, "point": replica.point, "time": replica.time}

    def unowe(self, context: Context) -> dict[str, Any]:
        """claim: as of the taking. → unowed: the log was not taken, and will not be; False: it was taken already."""
        job = context.job
        self._agent.owing.drop(job.vm_id, job.host)
        ours = self._ledger.epoch_of(job.vm_id, job.host)
        taken = ours is not None and ours > int(job.arguments["claim"])
        context.tell("the log had been taken over already" if taken else "")
        return {"unowed": not taken}

    def _wait_off(self, host: str, vm_id: str) -> None:
        ends = time.monotonic() + _OFF_TIMEOUT_S
        while not self._is_off(host, vm_id):
            if time.monotonic() > ends:
                raise HypervisorError("the VM does not go off", subject=vm_id)
            time.sleep(0.1)

    def _is_off(self, host: str, vm_id: str) -> bool:
        """A VM that is not defined there cannot run there."""
        try:
            return self._agent.source(host).hypervisor.vm(vm_id).power is Power.OFF
        except VmGone:
            return True


def consent_of(told: dict[str, Any] | None) -> Consent | None:
    """told: point: the sequence number of the one that is wanted; unread: see `leeward.vault.writer.Consent`."""
    return Consent(int(told["point"]), tuple(int(seq) for seq in told["unread"])) if told else None


def _take_back(log: VmLog, claim: int, info: dict[str, Any], runs: list[str], consent: Consent | None) -> LogWriter:
    """Begin an epoch after whatever these runs have made of the log. Raises Fenced when another run has it.

    Also when the run never came to take anything: its order may be on its way still, and must find the log closed.
    """
    for _ in range(_TRIES):
        try:
            reign = log.reign()
        except Damaged as error:
            if consent is None:
                raise _not_back(error) from error
            try:
                return log.take_epoch(claim, info, consent)  # as it was when they were to take it
            except Damaged as more:
                raise _not_back(more) from more
        epoch = reign.epoch if reign else 0
        ours = reign is not None and (reign.info.get("run") in runs or reign.info.get("host") == info["host"])
        follow = epoch - 1 if reign is not None and reign.info == info else epoch if ours else claim
        try:
            return log.take_epoch(follow, info, consent)
        except Fenced:
            if log.epoch() == epoch:
                raise
    raise Fenced("its log changes hands all the time", subject=log.vm_id)


def _not_back(error: Damaged) -> Damaged:
    return Damaged(
        error.message,
        subject=error.subject,
        hint="Put that object back from a copy of the vault. Or, when you are sure that no other site runs the VM, "
        "retry: its log goes on without what cannot be read then",
    )
