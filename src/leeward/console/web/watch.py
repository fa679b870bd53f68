"""What the pages show: one picture of everything, taken twice a second while somebody looks.

Pages and live streams share it, so a thousand VMs are asked for once and not for each reader; and how old each VM's
newest recoverable instant was is remembered from picture to picture, for the small curves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from leeward.console.once import once
from leeward.console.room import Room
from leeward.console.service import Service
from leeward.console.showing import rto_of
from leeward.console.troubles import Limits, StalledPlan
from leeward.console.views import DrillView, HostView, RunView, StatusView, TestView, VmView
from leeward.console.web.curves import Curves
from leeward.console.web.vault_door import VaultDoor, VaultState
from leeward.console.web.vault_state import LastState, seen
from leeward.domain.errors import LeewardError
from leeward.domain.plan_runs import PlanState
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.vault_care import VaultBook

_TICK_S = 0.5
_REST_S = 10.0
# Somebody looks: a page was asked for, or a stream is open, within this time.
_WATCHED_S = 5.0
_OLD_S = 3.0
# Rarely changing and dearer to ask for.
_SLOW_S = 5.0
_RUNS_BACK = 200
# Up to so many VMs are asked for one by one.
_FEW = 20
# What brings a VM up, so that it has an RTO.
_STARTING = (Kind.TEST, Kind.PLANNED, Kind.UNPLANNED, Kind.FAILBACK, Kind.UNPLANNED_FAILBACK)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Closeup:
    """A few VMs as they are now, to decide on them. statuses, vms: of those only. open_runs: not over yet, newest
    first."""

    statuses: tuple[StatusView, ...]
    vms: Mapping[str, VmView]
    hosts: tuple[HostView, ...]
    open_runs: tuple[RunView, ...]
    vault: VaultState

    def status(self, vm_id: str) -> StatusView | None:
        return next((one for one in self.statuses if one.vm_id == vm_id), None)

    def reachable(self, host: str) -> bool:
        return any(one.name == host and one.reachable for one in self.hosts)

    def run_of(self, vm_id: str) -> RunView | None:
        """The newest that is not over."""
        return next((run for run in self.open_runs if run.vm_id == vm_id), None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment(Closeup):
    """All of them. Equal to itself alone, so that what is made of it can be kept.

    number: greater for a later one. taken: UTC seconds. tested: VM id → when its last good test ended, UTC seconds.
    drills: schedules, the one that is due first first. curves: up to now, whenever they are looked at. protected: VM
    id → since when. rtos: VM id → the newest run that has brought it up. room: of the vault's file system, None where
    it is not ours. damaged: objects of the vault, by the newest check that came to its end. limits: beyond which
    something is wrong.
    """

    number: int
    taken: float
    tests: tuple[TestView, ...]
    tested: Mapping[str, float]
    drills: tuple[DrillView, ...] = ()
    curves: Curves = field(default_factory=Curves)
    protected: Mapping[str, float] = field(default_factory=dict)
    rtos: Mapping[str, Run] = field(default_factory=dict)
    room: Room | None = None
    damaged: int = 0
    stalled_plans: tuple[StalledPlan, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def status(self, vm_id: str) -> StatusView | None:
        return by_id(self).get(vm_id)

    def drill(self, vm_id: str) -> DrillView | None:
        return next((one for one in self.drills if one.vm_id == vm_id), None)

    def plan_drills(self, vm_id: str) -> list[DrillView]:
        """Of plans that have the VM."""
        return [one for one in self.drills if one.plan and vm_id in one.vm_ids]

    def plan_drill(self, plan: str) -> DrillView | None:
        return next((one for one in self.drills if one.plan == plan), None)


@once
def by_id(moment: Moment) -> Mapping[str, StatusView]:
    return {one.vm_id: one for one in moment.statuses}


@once
def ages(moment: Moment) -> Mapping[str, float]:
    """VM id → actual RPO in seconds, where it is known."""
    return {one.vm_id: one.rpo_actual_s for one in moment.statuses if one.rpo_actual_s is not None}


class Watch:
    """Thread-safe. `start` lets it look by itself; without, each question takes a new picture."""

    def __init__(
        self,
        service: Service,
        database: Database,
        door: VaultDoor,
        clock: Callable[[], float] = time.time,
        limits: Callable[[], Limits] = Limits,
        prepared: Sequence[Callable[[Moment], object]] = (),
    ) -> None:
        """prepared: what pages make of a picture, made before they see it; see `once`."""
        self._prepared = prepared
        self._service, self._database, self._limits = service, database, limits
        self._clock = clock
        self._lock = threading.Lock()
        self._moment: Moment | None = None
        self._began = 0.0
        self._curves = Curves()
        self._tested: dict[str, float] | None = None
        self._rtos: dict[str, Run] = {}
        self._protected: dict[str, float] = {}
        self._vault = LastState(lambda: seen(door))
        self._damaged = 0
        self._slow = 0.0
        self._wanted = 0.0
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    # --- asking -----------------------------------------------------------------------------------------

    def look(self) -> Moment:
        """Not older than a few seconds: what is newer the page's stream brings at once."""
        self._wanted = time.monotonic()
        moment = self._moment
        if moment is not None and self._thread is not None and self._clock() - moment.taken < _OLD_S:
            self._awake.set()
            return moment
        self._awake.set()
        return self.fresh()

    def fresh(self) -> Moment:
        """Taken now: after something was changed. Who waits for their turn together share one."""
        asked = time.monotonic()
        with self._lock:
            if self._moment is None or self._began < asked:
                return self._renew()
            return self._moment

    def closeup(self, vm_ids: Sequence[str]) -> Closeup:
        """Of a few VMs, taken now: a picture of everything is dear where there are thousands. The vault's state is
        that of the newest picture, which is never asked for again within seconds anyway."""
        if len(vm_ids) > _FEW:
            return self.fresh()
        vault = self.look().vault
        found = self._service.of_few(vm_ids)
        return Closeup(
            statuses=tuple(found.statuses),
            vms={vm.id: vm for vm in found.vms},
            hosts=tuple(found.hosts),
            open_runs=tuple(self._service.open_runs()),
            vault=vault,
        )

    def newest(self) -> Moment | None:
        """For streams: what there is, without waiting."""
        self._wanted = time.monotonic()
        self._awake.set()
        return self._moment

    def glance(self) -> Moment | None:
        """What there is, for those who do not mind that it may be as old as pictures are while nobody looks."""
        return self._moment

    @property
    def ended(self) -> bool:
        return self._stopping.is_set()

    # --- looking by itself ------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._awake.set()
        if self._thread:
            self._thread.join(5)

    def _work(self) -> None:
        failing = False
        while not self._stopping.is_set():
            self._awake.clear()
            began = time.monotonic()
            try:
                with self._lock:
                    self._renew(self._prepared)
                failing = False
            except LeewardError as error:
                if not failing:
                    log.warning("the dashboard cannot look", error=str(error))
                failing = True
            except Exception:  # a bug here must not end the live pages for good
                log.exception("the dashboard failed to look")
            # A picture that takes long is taken less often: pages and replication need the processor too.
            pause = max(_TICK_S, 2 * (time.monotonic() - began))
            if time.monotonic() - self._wanted < _WATCHED_S:
                self._stopping.wait(pause)
            else:
                self._awake.wait(_REST_S)

    # --- insides ----------------------------------------------------------------------------------------

    def _renew(self, prepared: Sequence[Callable[[Moment], object]] = ()) -> Moment:
        """Under the lock. While what pages need of the new picture is being made they have the one before. When it
        fails nothing has changed: who waits must not get the one of before."""
        began = time.monotonic()
        moment = self._take()
        for prepare in prepared:
            prepare(moment)
        self._moment, self._began = moment, began
        return moment

    def _take(self) -> Moment:
        now = self._clock()
        found = self._service.everything()
        statuses = tuple(found.statuses)
        # Until it has come through once, what was never looked for would be taken for what is not there.
        if self._tested is None or now - self._slow >= _SLOW_S or self._slow > now:
            self._slow = now
            self._look_slowly()
        self._curves.sample(now, statuses)
        return Moment(
            number=self._moment.number + 1 if self._moment else 1,
            taken=now,
            statuses=statuses,
            vms={vm.id: vm for vm in found.vms},
            hosts=tuple(found.hosts),
            tests=tuple(found.tests),
            open_runs=tuple(self._service.open_runs()),
            tested=self._tested or {},
            vault=self._vault.look(),
            drills=tuple(self._service.drills.all(self._tested)),
            curves=self._curves,
            protected=self._protected,
            rtos=self._rtos,
            room=self._vault.room,
            damaged=self._damaged,
            stalled_plans=tuple(
                StalledPlan(run.id, run.plan.name, run.failure)
                for run in self._database.plans.find(states=(PlanState.STALLED,))
            ),
            limits=self._limits(),
        )

    def _look_slowly(self) -> None:
        runs = self._database.runs
        # Of all VMs once; from then on of what is new.
        if self._tested is None:
            self._rtos = newest_rtos([run for kind in _STARTING for run in runs.newest(kind, RunState.DONE)])
        lately = runs.find(limit=_RUNS_BACK)
        self._tested = self._service.drills.tested()
        self._rtos = newest_rtos([*lately, *self._rtos.values()])
        self._protected = self._database.protected_since()
        self._damaged = VaultBook(self._database).damaged()

    def forget_vault(self) -> None:
        """Its state has just been changed: look anew, and at once, since who has changed it goes on to its page."""
        with self._lock:
            self._vault.forget()
        self.fresh()


def newest_rtos(runs: list[Run]) -> dict[str, Run]:
    """VM id → the newest run that has an RTO."""
    found: dict[str, Run] = {}
    for run in runs:
        known = found.get(run.vm_id)
        if rto_of(run) is not None and (known is None or run.created > known.created):
            found[run.vm_id] = run
    return found
