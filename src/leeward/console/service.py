"""What the console can do, independent of how it is asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from leeward.console.checks import VaultOpener
from leeward.console.desk import Desk
from leeward.console.drills import Drills
from leeward.console.evidence import EvidenceBook
from leeward.console.failovers import Failovers
from leeward.console.fleet import Fleet, FleetView
from leeward.console.learning import CATALOG, catalog_document
from leeward.console.listing import ALL, Page
from leeward.console.outlook import Outlook
from leeward.console.past_damage import go_on
from leeward.console.showing import host_view, run_view, test_view
from leeward.console.statuses import Statuses
from leeward.console.views import (
    FailbackRequest,
    FailoverRequest,
    HostView,
    LossRequest,
    LossView,
    ProtectRequest,
    RetryRequest,
    RunView,
    StatusView,
    TestView,
    VmView,
)
from leeward.domain.consistency import Choice
from leeward.domain.durations import short
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, Unavailable
from leeward.domain.lifecycle import Event, Phase, Refusal, after, runs_away
from leeward.domain.procedures import Kind
from leeward.domain.protection import LEAST_BANDWIDTH
from leeward.domain.runs import Run, RunState
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.vault.facade import Vault
from leeward.vault.log import VmLog
from leeward.wire.messages import PolicyMessage, ProtectionMessage, VmMessage
from leeward.wire.translate import utc_of

_CLEANUP_S = 60.0


@dataclass(frozen=True, slots=True)
class Everything:
    hosts: list[HostView]
    vms: list[VmView]
    statuses: list[StatusView]
    tests: list[TestView]


class Service:
    """vault: its `open` raises while there is no key."""

    def __init__(
        self, database: Database, fleet: Fleet, vault: VaultOpener, desk: Desk, failovers: Failovers
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._vault = vault
        self._desk = desk
        self._failovers = failovers
        self._statuses = Statuses(database, Outlook(vault))
        self.evidence = EvidenceBook(database)
        self.drills = Drills(database, fleet, failovers, self.status, desk.checks.moved_by_another)

    # --- looking ------------------------------------------------------------------------------------

    def everything(self) -> Everything:
        """All that there is, as of one moment, for what one question to each agent costs."""
        view = self._fleet.view()
        return Everything(
            self._hosts(view), self._statuses.all_vms(view), self._statuses.all(view), self._tests(view)
        )

    def of_few(self, vm_ids: Sequence[str]) -> Everything:
        """The same with only these VMs, and without tests: with thousands of VMs it is a tenth of the work. Those
        that nobody knows are left out."""
        view = self._fleet.view()
        statuses, vms = self._statuses.few(view, vm_ids)
        return Everything(self._hosts(view), vms, statuses, [])

    def hosts(self) -> list[HostView]:
        return self._hosts(self._fleet.view())

    def _hosts(self, view: FleetView) -> list[HostView]:
        return [
            host_view(host, present=view.present(name), trouble=view.place_trouble(name))
            for name, host in view.hosts.items()
        ]

    def vms(self, page: Page = ALL) -> tuple[list[VmView], int]:
        """A page of what hosts have, test copies too; and how many there are on all pages."""
        return self._statuses.vms(self._fleet.view(), page)

    def status(self, ref: str | None = None) -> list[StatusView]:
        """Of one VM (none for a test copy, which is no VM of its own), or of all."""
        if ref is None:
            return self.statuses()[0]
        view = self._fleet.view()
        return self._statuses.few(view, [self._resolve(ref, view)])[0]

    def statuses(self, page: Page = ALL) -> tuple[list[StatusView], int]:
        """A page of all VMs, protected or not; and how many there are on all pages."""
        return self._statuses.page(self._fleet.view(), page)

    def _resolve(self, ref: str, view: FleetView | None = None) -> str:
        """A VM's id from its name or id. Raises NotFound, or BadInput when a name is not unique."""
        vm_id = ref.lower()
        if self._database.wish(vm_id) is not None:
            return vm_id
        view = view or self._fleet.view()
        # Looked for, not looked up: a listing of all would have to be made anew after each change of a policy.
        if any(vm.id == vm_id for vm in view.vms):
            return vm_id
        found = self._called(ref, view)
        if len(found) > 1:
            raise BadInput(
                f"{len(found)} VMs have this name: {', '.join(sorted(found))}", subject=ref, hint="Use the id"
            )
        if not found:
            known = ", ".join(sorted(self._statuses.listing(view).ids)) or "none"
            raise NotFound("there is no such VM", subject=ref, hint=f"Known: {known}")
        return found[0]

    def _called(self, name: str, view: FleetView) -> list[str]:
        """Ids of the VMs of this name: the one they have on their hosts or, being on none, had when they were
        protected."""
        found = {vm.id for vm in view.vms if vm.name == name}
        before = {wish.vm_id for wish in self._database.wishes().values() if wish.vm_name == name}
        present = {vm.id for vm in view.vms if vm.id in before}
        return list(found | (before - present))

    def events(self, limit: int) -> list[dict[str, str]]:
        return self._database.events(limit)

    # --- protecting ---------------------------------------------------------------------------------

    def protect(self, ref: str, request: ProtectRequest) -> StatusView:
        vm_id = self._resolve(ref)
        known = self._database.wish(vm_id)
        host = known.host if known else self._rightful_host(vm_id)
        present = next((vm for vm in self._fleet.view().vms if vm.id == vm_id and host in (None, vm.host)), None)
        if present is not None and present.unsupported:
            raise Refused(f"it cannot be protected: {present.unsupported}", subject=present.name)
        policy = _policy(known.policy if known else PolicyMessage(), request)
        if request.warm is not None:
            home = self._failovers.life(vm_id, ref).home or (present.host if present else "")
            policy = policy.model_copy(update={"warm": self._warm_host(request.warm, home)})
        fellows = self._fellows(vm_id, policy.group)
        policy = _grouped(policy, fellows, request, known, ref)
        # Without the vault's key nothing could ever be replicated: say so now, not in a state that stays red.
        vault = self._vault.open()
        if known is not None:
            name = present.name if present else known.vm_name
            # What was paused stays so: who changes how a VM is kept has not said that its disks may be read again.
            wish = known.model_copy(update={"policy": policy, "vm_name": name})
        elif present is not None:
            self._must_be_free(vm_id, present)
            wish = ProtectionMessage(vm_id=vm_id, vm_name=present.name, host=present.host, policy=policy)
        else:
            raise NotFound("there is no such VM", subject=ref)
        if known is None or known.policy.group != policy.group:
            _one_host(wish, fellows)
        if request.past_damage:
            wish = wish.model_copy(update={"claim": self._past_damage(vault.log(vm_id), wish, present)})
        elif known is None:
            reign = vault.log(vm_id).reign()
            wish = wish.model_copy(update={"claim": reign.epoch if reign else 0})
        # All of a group have its interval; those that are changed first are told first.
        others = [other for other in fellows if other.policy.group_s != policy.group_s]
        changed = [_with_interval(other, policy.group_s) for other in others]
        for each in (*changed, wish):
            vault.put_document(each.vm_id, CATALOG, catalog_document(each))
            self._database.protect(each)
        self._desk.spread()
        self._database.record("protect", wish.vm_name, policy.model_dump_json())
        return self.status(vm_id)[0]

    def _warm_host(self, wanted: bool | str, home: str) -> str:
        """Where a warm replica is to be kept; "" for nowhere. Raises BadInput, NotFound."""
        if wanted is False or wanted == "":
            return ""
        host = self._failovers.recovery_host() if wanted is True else str(wanted)
        if host == home:
            raise BadInput("a warm replica is kept at another host than the VM's own", subject=host)
        self._fleet.link(host)
        return host

    def _fellows(self, vm_id: str, group: str) -> list[ProtectionMessage]:
        """The other VMs of a consistency group."""
        wishes = self._database.desired().protections
        return [wish for wish in wishes if group and wish.policy.group == group and wish.vm_id != vm_id]

    def _rightful_host(self, vm_id: str) -> str | None:
        """Where a VM runs that is defined at both sites; None: wherever it is found."""
        life = self._database.lives.get(vm_id)
        return life.away if life and runs_away(life.phase) else None

    def _must_be_free(self, vm_id: str, vm: VmMessage) -> None:
        """A VM that is kept off here because it runs elsewhere must not be protected from here."""
        for off in self._fleet.view().standdowns:
            if (off.vm_id, off.host) == (vm_id, vm.host):
                raise Refused(
                    f"it stays off here: {off.reason}", subject=vm.name, hint="Protect it where it runs, or fail back"
                )

    def set_paused(self, ref: str, paused: bool) -> StatusView:
        wish = self._protected(ref)
        self._database.protect(wish.model_copy(update={"paused": paused}))
        self._desk.spread()
        self._database.record("pause" if paused else "resume", wish.vm_name)
        return self.status(wish.vm_id)[0]

    def _past_damage(self, vm_log: VmLog, wish: ProtectionMessage, present: VmMessage | None) -> int:
        """Go on behind a log that cannot be read to its end. → the epoch in which that is done."""
        life = self._unmoving(wish.vm_id, wish.vm_name)
        if present is None:
            raise Refused(f"it is not to be found at {wish.host}", subject=wish.vm_name, hint="See `leeward vm list`")
        self._must_be_free(wish.vm_id, present)
        for copy in self._fleet.view().copies:
            if (copy.vm_id, copy.purpose) == (wish.vm_id, "failover") and copy.host != wish.host:
                raise Refused(
                    f"{copy.host} has a copy of it from a failover",
                    subject=wish.vm_name,
                    hint="See which of the two is to stay",
                )
        epoch, what = go_on(vm_log, self._fleet, life, wish.host, wish.claim)
        # Not where a failover has begun meanwhile: it knows better where the VM is replicated from.
        self._database.follow(wish.vm_id, wish.host, epoch)
        self._database.record("goes on past damage", wish.vm_name, what)
        return epoch

    def _unmoving(self, vm_id: str, name: str) -> Life:
        """Raises Refused while the VM is on its way between its sites."""
        life = self._failovers.life(vm_id, name)
        if life.phase not in (Phase.HOME, Phase.SETTLED):
            refusal = after(life.phase, Event.PLANNED, name)
            assert isinstance(refusal, Refusal)
            raise Refused(refusal.reason, subject=name, hint=refusal.hint)
        return life

    def unprotect(self, ref: str, force: bool = False) -> int:
        """Stop replicating. Recovery points stay in the vault. → bytes of those that never got there, given up.

        force: give up what waits in the host's spool. Nothing sends it once the protection has ended.
        """
        wish = self._protected(ref)
        self._unmoving(wish.vm_id, wish.vm_name)
        if self._fleet.view().copy(wish.vm_id, "test") is not None:
            raise Refused(
                "a test failover of it exists",
                subject=wish.vm_name,
                hint=f"Remove it first with `leeward failover cleanup {wish.vm_name}`",
            )
        told = self._fleet.view().told(wish)
        waiting = told.spool_bytes if told else 0
        if waiting and not force:
            raise Refused(
                f"recovery points wait at {wish.host} and have not reached the vault ({waiting} bytes); without "
                "protection they never will",
                subject=wish.vm_name,
                hint="They are sent by themselves as soon as the vault takes them. To give them up: "
                f"`leeward unprotect {wish.vm_name} --force`",
            )
        self._database.unprotect(wish.vm_id)
        self._desk.spread()
        lost = f"{waiting} bytes that had not reached the vault were given up" if waiting else ""
        self._database.record("unprotect", wish.vm_name, lost)
        return waiting

    def _protected(self, ref: str) -> ProtectionMessage:
        vm_id = self._resolve(ref)
        wish = self._database.wish(vm_id)
        if wish is not None:
            return wish
        raise Refused("it is not protected", subject=ref, hint=f"Protect it with `leeward protect {ref}`")

    # --- failovers ------------------------------------------------------------------------------------

    def start_test(self, ref: str, point: str, by: str = "operator") -> TestView:
        """Begin in the background; look at it with `test`."""
        return test_view(self._failovers.test(*self.known(ref), point, by), None)

    def begin_test(self, ref: str, point: str, by: str = "operator") -> RunView:
        """The same, for who looks at the run."""
        return self._run_view(self._failovers.test(*self.known(ref), point, by))

    def test(self, ref: str) -> TestView:
        vm_id, name = self.known(ref)
        copy = self._fleet.view().copy(vm_id, "test")
        run = self._newest_test(vm_id)
        if run is None and copy is None:
            raise Refused(
                "there is no test failover of it", subject=name, hint=f"Start one: `leeward failover test {name}`"
            )
        return test_view(run, copy)

    def _newest_test(self, vm_id: str) -> Run | None:
        """The run of a test that is under way or whose copy still is there; None once it has been cleaned up."""
        for run in self._failovers.runs(vm_id):
            if run.over and (run.kind is Kind.CLEANUP or (run.kind is Kind.TEST and run.state is RunState.UNDONE)):
                return None
            if run.kind is Kind.TEST:
                return run
        return None

    def tests(self) -> list[TestView]:
        return self._tests(self._fleet.view())

    def _tests(self, view: FleetView) -> list[TestView]:
        return [test_view(self._newest_test(copy.vm_id), copy) for copy in view.copies if copy.purpose == "test"]

    def begin_cleanup(self, ref: str, by: str = "operator") -> RunView:
        """Remove the copy in the background."""
        vm_id, name = self.known(ref)
        return self._run_view(self._failovers.cleanup(vm_id, name, by))

    def cleanup_test(self, ref: str, by: str = "operator") -> TestView:
        """Remove the copy; returns when it is gone. Raises LeewardError when it could not be removed."""
        vm_id, name = self.known(ref)
        copy = self._fleet.view().copy(vm_id, "test")
        run = self._failovers.cleanup(vm_id, name, by)
        view = test_view(self._newest_test(vm_id) or run, copy)
        self._wait_over(run)
        return view

    def _wait_over(self, run: Run) -> None:
        ends = time.monotonic() + _CLEANUP_S
        while time.monotonic() < ends:
            now = self._failovers.run(run.id)
            if now.state is RunState.STALLED:
                raise LeewardError(now.failure, subject=run.vm_name, hint="Mend that, then clean up again")
            if now.over:
                return
            time.sleep(0.05)
        raise Unavailable("it is still being removed", subject=run.vm_name, hint="Look at `leeward failover list`")

    def failover(self, ref: str, event: Event, request: FailoverRequest, by: str = "operator") -> RunView:
        vm_id, name = self.known(ref)
        options = request.model_dump(exclude={"point"}) | _explicit(request.point)
        return self._run_view(self._failovers.failover(vm_id, name, event, request.point, by, options))

    def instant(self, vm_id: str) -> Choice:
        """What an unplanned failover of a VM of a consistency group goes back to by itself. Raises StoreError."""
        return self._failovers.marks.instant(vm_id)

    def loss(self, ref: str, wanted: LossRequest) -> LossView:
        """What an unplanned failover or failback would start from, and so lose, if it were asked for now."""
        vm_id, name = self.known(ref)
        event = Event(wanted.event)
        found = self._failovers.goes_back_to(
            vm_id, name, event, wanted.point, to=wanted.to, from_vault=wanted.from_vault, newest=wanted.newest
        )
        view = self._fleet.view()
        (status,) = self._statuses.few(view, [vm_id])[0]
        newest = status.last_point
        age = max(0.0, time.time() - found.time)
        if newest is not None and newest.id == found.id and status.rpo_actual_s is not None:
            age = status.rpo_actual_s  # nothing may have been written since
        gentle = Event.PLANNED if event is Event.UNPLANNED else Event.FAILBACK
        runs_at = status.home if event is Event.UNPLANNED else status.away
        host = view.hosts.get(runs_at)
        lossless = host is not None and not host.error and view.present(runs_at) and found.consistency is not None
        possible = not isinstance(after(Phase(status.phase), gentle, name), Refusal)
        return LossView(
            vm=name,
            vm_id=vm_id,
            point=found.id,
            time=utc_of(found.time),
            consistency=found.consistency,
            age_s=age,
            note=found.note,
            lossless=lossless and possible,
        )

    def failback(self, ref: str, request: FailbackRequest, by: str = "operator") -> RunView:
        vm_id, name = self.known(ref)
        options = request.model_dump(exclude={"unplanned", "point"})
        if request.unplanned:
            options |= _explicit(request.point)
            return self._run_view(self._failovers.unplanned_failback(vm_id, name, request.point, by, options))
        if request.point != "latest":
            raise BadInput("a planned failback always brings the newest data", subject=request.point)
        return self._run_view(self._failovers.failback(vm_id, name, by, options))

    def commit(self, ref: str, by: str = "operator") -> RunView:
        return self._run_view(self._failovers.commit(*self.known(ref), by))

    def retry(self, ref: str, request: RetryRequest) -> RunView:
        return self._run_view(self._failovers.retry(*self.known(ref), request.model_dump()))

    def cancel(self, ref: str) -> RunView:
        return self._run_view(self._failovers.cancel(*self.known(ref)))

    def last_run(self, ref: str) -> RunView:
        return self._run_view(self._failovers.last(*self.known(ref)))

    def runs(self, ref: str | None, limit: int) -> list[RunView]:
        vm_id = self.known(ref)[0] if ref else None
        return self._run_views(self._failovers.runs(vm_id, limit))

    def open_runs(self, limit: int = 1000) -> list[RunView]:
        """Those that are not over, newest first."""
        return self._run_views(self._failovers.open_runs(limit))

    def run(self, run_id: str) -> RunView:
        return self._run_view(self._failovers.run(run_id))

    def _run_view(self, run: Run) -> RunView:
        return self._run_views([run])[0]

    def _run_views(self, runs: Sequence[Run]) -> list[RunView]:
        phases = self._database.lives.phases({run.vm_id for run in runs})
        return [run_view(run, phases.get(run.vm_id, Phase.HOME)) for run in runs]

    def vm_id(self, ref: str) -> str:
        return self.known(ref)[0]

    def known(self, ref: str) -> tuple[str, str]:
        """(id, name) of a VM that hosts, state or the vault know, by its name or id. Raises NotFound, BadInput."""
        try:
            vm_id = self._resolve(ref)
        except NotFound:
            return find_in_vault(self._vault.open(), ref)
        wish = self._database.wish(vm_id)
        if wish is not None:
            return vm_id, wish.vm_name
        return vm_id, self._statuses.listing(self._fleet.view()).names.get(vm_id, vm_id)


def find_in_vault(vault: Vault, ref: str) -> tuple[str, str]:
    """(id, name) of a VM by its name or id in the vault's catalog. Raises NotFound, BadInput."""
    names = {}
    for vm_id in vault.vm_ids():
        catalog = vault.document(vm_id, CATALOG) or {}
        names[vm_id] = str(catalog.get("name") or vm_id)
    if ref.lower() in names:
        return ref.lower(), names[ref.lower()]
    found = [vm_id for vm_id, name in names.items() if name == ref]
    if len(found) > 1:
        raise BadInput(
            f"the vault has {len(found)} VMs of this name: {', '.join(found)}", subject=ref, hint="Use the id"
        )
    if not found:
        known = ", ".join(sorted(names.values())) or "none"
        raise NotFound("the vault has no such VM", subject=ref, hint=f"It has: {known}")
    return found[0], ref


def _policy(base: PolicyMessage, request: ProtectRequest) -> PolicyMessage:
    given = request.model_dump(exclude={"warm", "past_damage"})
    wanted = {name: value for name, value in given.items() if value is not None}
    if 0 < wanted.get("bandwidth", 0) < LEAST_BANDWIDTH:
        raise BadInput(
            f"at least {LEAST_BANDWIDTH >> 10}KiB a second, not {wanted['bandwidth']} bytes",
            subject="bandwidth",
            hint="Write it with its unit: 10M is ten megabytes a second; 0 is no limit",
        )
    try:
        return PolicyMessage.model_validate(base.model_dump() | wanted)
    except ValidationError as error:
        raise _unusable(error.errors()[0]) from None


def _unusable(fault: ErrorDetails) -> BadInput:
    """The field, and what it takes in the units in which a person types it."""
    name, given = str(fault["loc"][0]), fault["input"]
    if name == "group":
        return BadInput("letters, digits, dots, dashes and underscores, 64 at most", subject=name)
    bounds = PolicyMessage.model_fields[name].metadata
    least = next(bound.ge for bound in bounds if hasattr(bound, "ge"))
    most = next(bound.le for bound in bounds if hasattr(bound, "le"))
    if name == "bandwidth":
        return BadInput(f"from {least} to {most} bytes a second, not {given}", subject=name)
    return BadInput(f"from {short(least)} to {short(most)}, not {short(given)}", subject=name)


def _grouped(
    policy: PolicyMessage,
    fellows: list[ProtectionMessage],
    request: ProtectRequest,
    known: ProtectionMessage | None,
    ref: str,
) -> PolicyMessage:
    """Who joins a group without saying how often takes its interval; a new one has the usual interval, not that of
    the group which was left."""
    if request.group_s is not None and not policy.group:
        raise BadInput("an interval needs a consistency group", subject=ref, hint="Name one with --group")
    joins = known is None or known.policy.group != policy.group
    if joins and request.group_s is None:
        every_s = fellows[0].policy.group_s if fellows else PolicyMessage().group_s
        return policy.model_copy(update={"group_s": every_s})
    return policy


def _with_interval(wish: ProtectionMessage, group_s: float) -> ProtectionMessage:
    return wish.model_copy(update={"policy": wish.policy.model_copy(update={"group_s": group_s})})


def _one_host(wish: ProtectionMessage, fellows: list[ProtectionMessage]) -> None:
    """Across hosts there is no instant that all agree on. Those that have been moved since they joined may stay."""
    for other in fellows:
        if other.host != wish.host:
            raise Refused(
                f"the group is on host {other.host} ({other.vm_name}), and {wish.vm_name} is not: VMs agree on an "
                "instant only while all of them stand still, which nobody can promise across hosts",
                subject=wish.policy.group,
                hint="Choose another name for the group, or bring the VMs to one host",
            )


def _explicit(point: str) -> dict[str, Any]:
    """Somebody has named this very point, so that what came after it may be given up."""
    return {"explicit": True} if point.isdecimal() else {}
