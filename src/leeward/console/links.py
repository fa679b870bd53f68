"""Agents as the console sees them: in this process, or far away."""

from __future__ import annotations

from typing import Protocol

from leeward.wire.jobs import Job, JobReport
from leeward.wire.messages import AgentReport, DesiredState, HostReport


class AgentLink(Protocol):
    """One agent. No method waits for the agent: what is asked for is what was last heard.

    `apply` and `submit` are durable when they return: the agent gets them sooner or later, whatever dies meanwhile.
    """

    @property
    def name(self) -> str: ...

    @property
    def present(self) -> bool:
        """True while the agent answers (an agent far away: heard of within the last few seconds)."""

    def apply(self, desired: DesiredState) -> None: ...

    def report(self) -> AgentReport:
        """As last told; ages in it are as of then."""

    @property
    def age_s(self) -> float:
        """How long ago that was."""

    def hosts(self) -> list[HostReport]: ...

    def submit(self, job: Job) -> None:
        """Give a job. The same id again changes nothing."""

    def job(self, job_id: str) -> JobReport | None:
        """What is known of a job; None: the agent has not told of it yet."""

    def release(self, job_id: str) -> None:
        """The outcome has been taken note of: nobody will ask for this job again. One under way ends unheard."""
