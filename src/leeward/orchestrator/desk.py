"""What carrying a run on needs of others: links to agents, a book of runs, and the console's own deeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from leeward.domain.runs import Run
from leeward.wire.jobs import Job, JobReport


class Link(Protocol):
    """The part of an agent's link that a run needs; see `leeward.console.links.AgentLink`."""

    @property
    def present(self) -> bool: ...
    def submit(self, job: Job) -> None: ...
    def job(self, job_id: str) -> JobReport | None: ...
    def release(self, job_id: str) -> None: ...


class RunBook(Protocol):
    """Where runs are kept, durably. Every method is atomic; `changed` returns the run as it is from then on."""

    def run(self, run_id: str) -> Run: ...

    def record(self, run_id: str, name: str, *, undo: bool, **changes: Any) -> Run:
        """Change one step's record."""

    def replace(self, run_id: str, change: Callable[[Run], Run]) -> Run:
        """Read, change, write, as one."""


class Desk(Protocol):
    """What the console itself does in a run."""

    def link(self, host: str) -> Link:
        """The agent that has this host. Raises NotFound."""

    def act(self, run: Run, name: str) -> Done:
        """A step without a job. Raises LeewardError."""

    def take_in(self, run: Run, name: str, done: Done) -> Done:
        """What came of a step, before it is written down: what is too large for a run's row is put where it belongs.
        Harmless to repeat."""

    def follow(self, run: Run) -> None:
        """Bring the VM's phase to where the run is now. Harmless to repeat."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a step. detail: for people; result: for later steps."""

    detail: str = ""
    result: dict[str, Any] | None = None
