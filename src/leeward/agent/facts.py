"""What the console has been told and what it has not: numbered sections, told again only when they change.

State and the outcome of jobs are told as soon as they are seen to change; what moves all the time (progress, ages,
counts of cycles) at most once a second.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from leeward.wire.jobs import PNG, JobReport, without_bulk
from leeward.wire.messages import AgentReport, HostReport
from leeward.wire.polls import Section, Tell

# Just under a second, so that with the time of a look and of the way it is a second in all.
PACE_S = 0.7
# Ages pass by themselves on both sides; only an instant that moved by more than this is news.
_AGE_S = 0.5
# Of all pictures in one message, as they are sent: a console takes no message that is larger than twice this.
_PICTURES = 8 << 20


class Facts:
    """Thread-safe. Times are monotonic seconds. run: names this run of the agent."""

    def __init__(self, run: str, software: str) -> None:
        self.run = run
        self._software = software
        self._lock = threading.Lock()
        self._report: AgentReport | None = None
        self._instants: dict[str, float] = {}
        self._hosts: tuple[HostReport, ...] | None = None
        self._jobs: tuple[JobReport, ...] | None = None
        self._numbers = dict.fromkeys(Section, 0)
        self._told = dict.fromkeys(Section, 0)
        self._urgent: Any = None
        self._urgent_sent: Any = None
        self._urgent_told: Any = None
        self._told_at = float("-inf")

    def saw(self, report: AgentReport, jobs: Sequence[JobReport], now: float) -> None:
        instants = {p.vm_id: now - p.rpo_actual_s for p in report.protections if p.rpo_actual_s is not None}
        with self._lock:
            if self._report is None or _lasting(report) != _lasting(self._report) or self._moved(instants):
                self._numbers[Section.REPORT] += 1
                self._instants = instants
            # Told or not, what is told next is as fresh as can be.
            self._report = report
            if tuple(jobs) != self._jobs:
                self._jobs = tuple(jobs)
                self._numbers[Section.JOBS] += 1
            self._urgent = _urgent(report, jobs)

    def saw_hosts(self, hosts: Sequence[HostReport]) -> None:
        with self._lock:
            if tuple(hosts) != self._hosts:
                self._hosts = tuple(hosts)
                self._numbers[Section.HOSTS] += 1

    def _moved(self, instants: dict[str, float]) -> bool:
        if instants.keys() != self._instants.keys():
            return True
        return any(abs(instant - self._instants[vm_id]) > _AGE_S for vm_id, instant in instants.items())

    def due(self, now: float) -> bool:
        """Whether something is to be told now."""
        with self._lock:
            if all(self._told[section] == number for section, number in self._numbers.items()):
                return False
            return self._urgent != self._urgent_told or now - self._told_at >= PACE_S

    def tell(self) -> Tell:
        """All that the console has not been told yet."""
        with self._lock:
            self._urgent_sent = self._urgent
            new = {section for section, number in self._numbers.items() if self._told[section] != number}
            return Tell(
                run=self.run,
                software=self._software,
                numbers=dict(self._numbers),
                report=self._report if Section.REPORT in new else None,
                hosts=self._hosts if Section.HOSTS in new else None,
                jobs=_carried(self._jobs or ()) if Section.JOBS in new else None,
            )

    def told(self, tell: Tell, now: float) -> None:
        """The console has taken it over."""
        with self._lock:
            for section, number in tell.numbers.items():
                self._told[section] = max(self._told[section], number)
            self._told_at = now
            self._urgent_told = self._urgent_sent

    def wanted(self, sections: Sequence[Section]) -> None:
        """The console does not have these: they are to be told again."""
        with self._lock:
            for section in sections:
                self._told[section] = 0
                self._told_at = float("-inf")

    def numbers(self) -> dict[Section, int]:
        """What the console has, as far as we know."""
        with self._lock:
            return dict(self._told)


def _carried(jobs: Sequence[JobReport]) -> tuple[JobReport, ...]:
    """Without the pictures that one message cannot carry. The newest keep theirs: of those before them the console
    has been told already, and keeps what it was told first."""
    left, slim = _PICTURES, set()
    for job in sorted(jobs, key=lambda job: job.ended or 0.0, reverse=True):
        size = len(job.result.get(PNG, ""))
        if size > left:
            slim.add(job.id)
        else:
            left -= size
    return tuple(_slim(job) if job.id in slim else job for job in jobs)


def _slim(job: JobReport) -> JobReport:
    why = "more pictures were taken at once than its agent can send"
    return job.model_copy(update={"result": without_bulk(job.result) | {"why": why}})


def _lasting(report: AgentReport) -> AgentReport:
    """Without what passes by itself."""
    protections = tuple(p.model_copy(update={"rpo_actual_s": None}) for p in report.protections)
    return report.model_copy(update={"time": "", "protections": protections})


def _urgent(report: AgentReport, jobs: Sequence[JobReport]) -> Any:
    """What people and the orchestrator wait for."""
    return (
        report.generation,
        report.place,
        [(p.vm_id, p.state, p.reason, p.failover_possible) for p in report.protections],
        [(c.copy_id, c.failed, c.hydrated, [(s.name, s.state) for s in c.steps]) for c in report.copies],
        report.standdowns,
        [(r.vm_id, r.state, r.reason) for r in report.replicas],
        [(job.id, job.state) for job in jobs],
    )
