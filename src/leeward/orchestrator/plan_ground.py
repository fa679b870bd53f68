"""What the conductor of plans stands on: where plan runs are kept, and what the console does for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from leeward.domain.plan_runs import PlanRun, PlanStep
from leeward.domain.plans import Member
from leeward.domain.runs import Run
from leeward.orchestrator.desk import Link


class PlanBook(Protocol):
    """Where plan runs are kept, durably. Every method is atomic."""

    def plan_run(self, run_id: str) -> PlanRun: ...

    def replace(self, run_id: str, change: Callable[[PlanRun], PlanRun]) -> PlanRun:
        """Read, change, write, as one; the run as it is from then on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a script. detail: one line, for people; output: the end of what it said."""

    well: bool
    detail: str
    output: str


class Ground(Protocol):
    """All of it is harmless to repeat, scripts excepted; what fails raises LeewardError."""

    def ride(self, run_id: str) -> Run | None:
        """The run of one VM. None: it was never begun (written down, perhaps, when we died)."""

    def is_away(self, vm_id: str) -> bool:
        """The VM runs at the recovery site already."""

    def begin(self, run: PlanRun, member: Member, run_id: str, hold: str) -> None:
        """Begin the run of one VM under this id, held before that step."""

    def again(self, run: PlanRun, ride: Run) -> None:
        """Let the run of one VM go on when it has stalled."""

    def hold(self, ride: Run, step: str) -> None:
        """From now on the run of one VM waits before this step; "": it does not wait."""

    def cancel(self, ride: Run) -> None:
        """Take the run of one VM back; nothing where it is too late for that."""

    def begin_cleanup(self, run: PlanRun, member: Member, run_id: str, tested: str) -> str:
        """Remove the copy that the run `tested` has made. "", or why there is nothing to remove."""

    def script(self, run: PlanRun, step: PlanStep, again: bool) -> Ended:
        """Run a script to its end. again: it may have been run before, in part or whole.
        Raises Interrupted when this console shuts down."""

    def place(self, run: PlanRun, vm_id: str) -> str:
        """The host on which the VM was brought up."""

    def link(self, host: str) -> Link:
        """The agent that has this host. Raises NotFound."""

    def tell(self, run: PlanRun, what: str, detail: str = "") -> None:
        """Into the history."""


class Interrupted(Exception):
    """This console shuts down in the middle of a step, which is done again."""
