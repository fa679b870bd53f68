"""What one look finds for all drills alike: how VMs are, and what else is under way with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from leeward.console.views import StatusView
from leeward.domain.drills import Known
from leeward.domain.evidence import Outcome
from leeward.domain.lifecycle import Phase, under_way
from leeward.domain.plan_runs import PlanRun
from leeward.domain.plans import PlanKind
from leeward.domain.procedures import Kind
from leeward.domain.protection import ProtectionState
from leeward.domain.runs import Run, RunState
from leeward.state.drills import KeptDrill

# On whose behalf drills are run.
BY = "drill"
GOING = (RunState.RUNNING, RunState.UNDOING)


@dataclass(frozen=True, slots=True)
class Scene:
    """statuses: VM id → how it is. unfinished: VM id → its runs that are not over. copies: VMs that have a test copy.
    plans: runs of plans that are not over; members: run id → VM ids."""

    statuses: Mapping[str, StatusView]
    unfinished: Mapping[str, Sequence[Run]]
    copies: Collection[str]
    plans: Sequence[PlanRun]
    members: Mapping[str, Collection[str]] = field(init=False)

    def __post_init__(self) -> None:
        members = {run.id: frozenset(member.vm_id for member in run.plan.members) for run in self.plans}
        object.__setattr__(self, "members", members)

    def ready(self, vm_id: str) -> bool:
        """It is protected, current, and no phase is under way."""
        status = self.statuses.get(vm_id)
        if status is None or status.state is not ProtectionState.ENABLED or status.last_point is None:
            return False
        return not under_way(Phase(status.phase))

    def engaged(self, vm_id: str, own: Collection[str]) -> bool:
        """Whether a run that is not one of `own` is not over. A drill's that has stalled waits for nobody: the next
        test of the VM ends it."""
        return any(run.id not in own and not _left_behind(run) for run in self.unfinished.get(vm_id, ()))

    def planned(self, vm_id: str, own: str = "") -> bool:
        """Whether a plan's run, but for `own`, is still to come to it, which a copy of a drill would hold up. While
        an application is being moved that is all: the recovery site has other things to do."""
        return any(
            run.id != own and (run.kind is not PlanKind.TEST or vm_id in self.members[run.id]) for run in self.plans
        )


def _left_behind(run: Run) -> bool:
    return run.by == BY and run.state is RunState.STALLED and run.kind in (Kind.TEST, Kind.CLEANUP)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a drill. name: of its VM or plan. failure: "" where there is none."""

    outcome: Outcome
    name: str
    failure: str


class Hands(Protocol):
    """What is done for drills, of VMs or of plans. A drill's run: the one whose id the drill has."""

    def known(self, drill: KeptDrill, scene: Scene, tested: float | None, *, waits: bool) -> Known:
        """waits: it has been put off."""

    def verdict(self, drill: KeptDrill) -> Verdict | None:
        """None while nothing can be said yet."""

    def new_id(self) -> str:
        """For a run."""

    def begun(self, run_id: str) -> bool: ...

    def begin(self, drill: KeptDrill, name: str, run_id: str) -> None:
        """The same again when it was begun under this id. Raises Refused, Unavailable when it cannot be done just
        now; other LeewardErrors."""

    def approve(self, drill: KeptDrill) -> None: ...

    def take_back(self, drill: KeptDrill) -> None: ...

    def clean(self, drill: KeptDrill, name: str) -> None: ...
