"""An agent far away, as the console sees it: what it last told, and what it is to be told.

Two locks. `_lock` guards memory and is held for an instant only, since the listener's event loop takes it. `writing`
is held while the database is written, so that what is durable and what is in memory change in the same order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from leeward.domain.errors import Refused
from leeward.state.agents import AgentRecord, AgentRecords, JobRecord
from leeward.wire.jobs import Job, JobReport, JobState, without_bulk
from leeward.wire.messages import AgentReport, DesiredState, HostReport
from leeward.wire.polls import HOLD_S, Orders, Poll, Section, Tell, Told

# An open line is proof of life as long as the agent asks again in time; a closed one for the time of a reconnect.
_SILENT_S = HOLD_S + 25.0
_RECONNECT_S = 3.0
_FORMER_RUNS = 16
# How much younger than what is kept "last heard of" may be after a restart of the console.
_SAVE_HEARD_S = 60.0


class RemoteAgent:
    """Implements `leeward.console.links.AgentLink`.

    place: revision of the vault's place that it held when it asked last.
    writing: shared by all agents of a console. on_hosts: called, for an instant, when it tells of other hosts.
    """

    def __init__(
        self,
        record: AgentRecord,
        records: AgentRecords,
        writing: threading.RLock,
        on_hosts: Callable[[], None] = lambda: None,
    ) -> None:
        self.id = record.id
        self.software = ""
        self.expires: datetime | None = None
        self._record = record
        self._records = records
        self._writing = writing
        self._on_hosts = on_hosts
        self._lock = threading.Lock()
        self._watchers: set[Callable[[], None]] = set()
        self._run = ""
        self._former: deque[str] = deque(maxlen=_FORMER_RUNS)
        self._numbers: dict[Section, int] = {}
        self._lines = 0
        self._gone = False
        self._dirty = False
        self._asked_generation = 0
        self.place = 0
        self._heard_at = float("-inf")  # nothing yet in this run of the console
        self._saved_at = 0.0
        # What was kept from before this console started is as old as its clock says.
        self._told_at = _monotonic(record.heard)

    # --- AgentLink ----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def present(self) -> bool:
        silent = time.monotonic() - self._heard_at
        return not self._gone and silent < (_SILENT_S if self._lines else _RECONNECT_S)

    def apply(self, desired: DesiredState) -> None:
        with self._writing:
            held = self._record.desired
            if held is not None and desired.generation <= held.generation:
                return
            if held is not None and _alike(desired, held):
                return  # every change of one VM is spread to all agents: most are told nothing new by it
            self._records.save_desired(self.id, desired)
            with self._lock:
                self._record.desired = desired
        self.wake()

    def report(self) -> AgentReport:
        """Before anything was told: an empty one."""
        return self._record.report or AgentReport(agent=self.name, generation=0, time="", protections=())

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._told_at

    def hosts(self) -> list[HostReport]:
        """As last told; hosts of an absent agent say so."""
        hosts = self._record.hosts
        if self.present:
            return list(hosts)
        error = f"its agent {self.name} has not been heard of since {self._record.heard or 'it enrolled'}"
        return [host.model_copy(update={"error": error}) for host in hosts]

    def submit(self, job: Job) -> None:
        with self._writing:
            if job.id in self._record.jobs:
                return
            self._records.add_job(self.id, job)
            with self._lock:
                self._record.jobs[job.id] = JobRecord(job)
        self.wake()

    def job(self, job_id: str) -> JobReport | None:
        entry = self._record.jobs.get(job_id)
        return entry.report if entry else None

    def release(self, job_id: str) -> None:
        with self._writing:
            entry = self._record.jobs.get(job_id)
            if entry is None or entry.released:
                return
            report = entry.report
            if report is not None:
                report = report.model_copy(update={"result": without_bulk(report.result)})
            self._records.release_job(self.id, job_id, report)
            with self._lock:
                entry.released, entry.report = True, report
        self.wake()

    # --- the line -----------------------------------------------------------------------------------

    def tell(self, tell: Tell) -> Told:
        """Take over what is newer than what we have. Raises Refused for a run that another one has replaced."""
        with self._lock:
            self._hear(tell.run)
            self.software = tell.software
            if self._news(tell, Section.REPORT, tell.report):
                self._record.report, self._told_at = tell.report, time.monotonic()
            if self._news(tell, Section.HOSTS, tell.hosts):
                before, self._record.hosts = self._record.hosts, tell.hosts or ()
                if {host.name for host in before} != {host.name for host in self._record.hosts}:
                    self._on_hosts()
            if self._news(tell, Section.JOBS, tell.jobs):
                self._take_jobs(tell.jobs or ())
            return Told(want=self._missing(tell.numbers))

    def _news(self, tell: Tell, section: Section, content: object) -> bool:
        number = tell.numbers.get(section, 0)
        if content is None or number <= self._numbers.get(section, 0):
            return False
        self._numbers[section] = number
        self._dirty = True
        return True

    def _take_jobs(self, reports: tuple[JobReport, ...]) -> None:
        for report in reports:
            entry = self._record.jobs.get(report.id)
            if entry is not None and not _final(entry.report):
                entry.report = report

    def _missing(self, numbers: dict[Section, int]) -> tuple[Section, ...]:
        return tuple(section for section in Section if self._numbers.get(section, 0) < numbers.get(section, 0))

    def orders(self, poll: Poll) -> Orders:
        """What there is to do for an agent that holds what the poll says. Raises Refused as `tell`."""
        held = set(poll.held)
        with self._lock:
            self._hear(poll.run)
            self._asked_generation = poll.generation
            self.place = poll.place or 0
            desired, jobs = self._record.desired, self._record.jobs
            return Orders(
                desired=desired if desired is not None and desired.generation > poll.generation else None,
                jobs=tuple(
                    entry.job
                    for job_id, entry in jobs.items()
                    if job_id not in held and not entry.released and not _final(entry.report)
                ),
                # Jobs that we know nothing of stay: a console restored from a backup must not end what it forgot.
                releases=tuple(job_id for job_id in poll.held if job_id in jobs and jobs[job_id].released),
                want=self._missing(poll.numbers),
            )

    def _hear(self, run: str) -> None:
        if run in self._former:
            raise Refused(
                "another agent with this certificate has begun to ask",
                subject=self.name,
                hint="One of the two was copied from the other: enrol that one with a token of its own",
            )
        if run != self._run:
            if self._run:
                self._former.append(self._run)
            self._run, self._numbers = run, {}
            for changed in self._watchers:
                changed()  # a former run whose poll is held is to hear at once that it is one
        self._heard_at = time.monotonic()
        self._record.heard = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def line_opened(self) -> None:
        self._lines += 1

    def line_closed(self) -> None:
        self._lines -= 1

    def revoked(self) -> None:
        """Nobody is to ask for this agent any more."""
        self._gone = True
        self.wake()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` (from any thread) whenever orders may be others. Returns what ends this."""
        with self._lock:
            self._watchers.add(changed)

        def forget() -> None:
            with self._lock:
                self._watchers.discard(changed)

        return forget

    def wake(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for changed in watchers:
            changed()

    # --- the agents' keeper -------------------------------------------------------------------------

    def unsaved(self) -> AgentRecord | None:
        """What was told since the last call, to be kept; None when there is nothing."""
        with self._lock:
            if not self._dirty and self._heard_at < self._saved_at + _SAVE_HEARD_S:
                return None
            self._dirty, self._saved_at = False, self._heard_at
            record = self._record
            jobs = {job_id: JobRecord(e.job, e.report) for job_id, e in record.jobs.items() if not e.released}
            return AgentRecord(
                id=self.id,
                name=record.name,
                enrolled=record.enrolled,
                heard=record.heard,
                report=record.report,
                hosts=record.hosts,
                jobs=jobs,
            )

    def replaced_by(self, agent_id: str, enrolled: str) -> None:
        """Another enrolment goes on in this one's place; the database has been told already."""
        with self._lock:
            self.id = self._record.id = agent_id
            self._record.enrolled = enrolled
            self.expires = None
        self.wake()

    @property
    def enrolled(self) -> str:
        return self._record.enrolled

    @property
    def heard(self) -> str:
        return self._record.heard

    @property
    def trouble(self) -> str:
        """What an operator should know of the line, "" when there is nothing."""
        desired = self._record.desired.generation if self._record.desired else 0
        if self._asked_generation > desired:
            return (
                f"it holds a newer desired state ({self._asked_generation}) than this console ({desired}): was the "
                "console restored from a backup?"
            )
        return ""


def _final(report: JobReport | None) -> bool:
    return report is not None and report.state is not JobState.RUNNING


def _monotonic(heard: str) -> float:
    if not heard:
        return time.monotonic()
    age = (datetime.now(UTC) - datetime.fromisoformat(heard)).total_seconds()
    return time.monotonic() - max(age, 0.0)


_WISHES = [name for name in DesiredState.model_fields if name != "generation"]


def _alike(one: DesiredState, other: DesiredState) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _WISHES)
