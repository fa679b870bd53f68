"""An agent in the console's own process, as the console sees it: agent, jobs and copies behind one face."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from leeward.agent.agent import Agent
from leeward.agent.copy_tasks import Copies
from leeward.agent.jobs import JobRunner
from leeward.wire.jobs import Job, JobReport
from leeward.wire.messages import AgentReport, DesiredState, HostReport, ReplicaReport


class LocalAgent:
    """See `leeward.console.links.AgentLink`. The same face serves an agent's poll loop."""

    def __init__(
        self,
        agent: Agent,
        jobs: JobRunner,
        copies: Mapping[str, Copies],
        replicas: Callable[[], tuple[ReplicaReport, ...]] = tuple,
    ) -> None:
        self._agent = agent
        self._jobs = jobs
        self._copies = copies
        self._replicas = replicas

    @property
    def name(self) -> str:
        return self._agent.name

    @property
    def present(self) -> bool:
        return True

    def apply(self, desired: DesiredState) -> None:
        self._agent.apply(desired)

    def report(self) -> AgentReport:
        copies = tuple(copy for keeper in list(self._copies.values()) for copy in keeper.reports())
        return self._agent.report().model_copy(update={"copies": copies, "replicas": self._replicas()})

    @property
    def age_s(self) -> float:
        return 0.0

    def hosts(self) -> list[HostReport]:
        return self._agent.hosts()

    def submit(self, job: Job) -> None:
        self._jobs.submit(job)

    def job(self, job_id: str) -> JobReport | None:
        return self._jobs.job(job_id)

    def jobs(self) -> list[JobReport]:
        return self._jobs.jobs()

    def release(self, job_id: str) -> None:
        self._jobs.release(job_id)
