"""The agent's jobs: kept durably, done once each, one at a time for a VM (those that only look excepted).

A job's file is there before its first deed and goes when the console has let go of the outcome. What was under way
when the agent died is done again from its beginning: every task is harmless to repeat.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeward.agent.ledger import write_durably
from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.recovery.durable import sync_folder
from leeward.wire.jobs import Failure, Job, JobKind, JobReport, JobState

# VMs whose jobs run side by side.
_PARALLEL = 16
# Jobs that change nothing: beside all others, and with threads of their own, so that a long look delays no deed.
_LOOKS = (JobKind.PROBE,)
# Outcomes that no console has asked for in this time are forgotten: the console is gone for good.
_KEEP_S = 30 * 86_400.0


class Cancelled(Exception):
    """The console has let go of the job: it ends where nothing is left half done."""


@dataclass(slots=True)
class Context:
    """What a task gets besides its job. tell: one line of progress, for people."""

    job: Job
    tell: Callable[[str], None]
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises Cancelled when the job is no longer wanted."""
        if self.cancelled.is_set():
            raise Cancelled


Task = Callable[[Context], dict[str, Any]]


@dataclass(slots=True)
class _Entry:
    context: Context
    report: JobReport
    number: int
    released: bool = False


class JobRunner:
    """folder: where jobs are kept. tasks: what does each kind; a task returns its result or raises LeewardError."""

    def __init__(self, folder: Path, tasks: Mapping[JobKind, Task]) -> None:
        self._folder = folder
        self._tasks = tasks
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        # Jobs of one line are done one after the other, in the order in which they were given.
        self._queues: dict[str, deque[str]] = {}
        self._busy: set[str] = set()
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="job")
        self._looking = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="look")
        self._running = False
        self._stopping = False
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._load()

    def start(self) -> None:
        """Begin to work, on what a former run left first."""
        with self._lock:
            self._running = True
            for entry in sorted(self._entries.values(), key=lambda entry: entry.number):
                if entry.report.state is JobState.RUNNING:
                    self._queue(entry)

    def stop(self, timeout_s: float) -> None:
        """No job is begun any more; those under way are given this long and are done again at the next start."""
        with self._lock:
            self._running, self._stopping = False, True
            for entry in self._entries.values():
                entry.context.cancelled.set()
        ends = time.monotonic() + timeout_s
        while self._busy and time.monotonic() < ends:
            time.sleep(0.02)
        for pool in (self._pool, self._looking):
            pool.shutdown(wait=False, cancel_futures=True)

    # --- the console's side ---------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        with self._lock:
            if job.id in self._entries:
                return
            self._number += 1
            report = JobReport(id=job.id, state=JobState.RUNNING, started=time.time())
            entry = self._entry(job, report, self._number)
            self._save(entry)
            self._entries[job.id] = entry
            if self._running:
                self._queue(entry)

    def job(self, job_id: str) -> JobReport | None:
        with self._lock:
            entry = self._entries.get(job_id)
            return entry.report if entry else None

    def jobs(self) -> list[JobReport]:
        with self._lock:
            return [entry.report for entry in self._entries.values()]

    def at_work(self, host: str) -> set[str]:
        """Ids of the VMs for which there is a job at this host that has not ended."""
        with self._lock:
            open_ = [one for one in self._entries.values() if one.report.state is JobState.RUNNING]
            return {one.context.job.vm_id for one in open_ if one.context.job.host == host}

    def release(self, job_id: str) -> None:
        """Forget the outcome; a job under way is asked to end, one that waits is not begun."""
        with self._lock:
            entry = self._entries.get(job_id)
            if entry is None:
                return
            entry.released = True
            entry.context.cancelled.set()
            # A crash from here on must not bring it back: what takes it back may have been done by then.
            self._path(job_id).unlink(missing_ok=True)
            sync_folder(self._folder)
            queue = self._queues.get(_lane(entry.context.job), deque())
            if entry.report.state is not JobState.RUNNING or job_id in queue or not self._running:
                if job_id in queue:
                    queue.remove(job_id)
                self._drop(entry)

    # --- work -----------------------------------------------------------------------------------------

    def _queue(self, entry: _Entry) -> None:
        lane = _lane(entry.context.job)
        self._queues.setdefault(lane, deque()).append(entry.context.job.id)
        self._next(lane)

    def _next(self, lane: str) -> None:
        queue = self._queues.get(lane)
        if not queue:
            self._queues.pop(lane, None)
            return
        if lane in self._busy or not self._running:
            return
        self._busy.add(lane)
        entry = self._entries[queue.popleft()]
        pool = self._looking if entry.context.job.kind in _LOOKS else self._pool
        pool.submit(self._work, lane, entry)

    def _work(self, lane: str, entry: _Entry) -> None:
        try:
            self._do(entry)
        finally:
            with self._lock:
                self._busy.discard(lane)
                self._next(lane)

    def _do(self, entry: _Entry) -> None:
        job = entry.context.job
        log.info("job begins", job=job.id, kind=job.kind, vm_id=job.vm_id)
        result: dict[str, Any] = {}
        failure: Failure | None = None
        try:
            entry.context.check()
            result = self._tasks[job.kind](entry.context)
        except Cancelled:
            with self._lock:
                if entry.released:
                    self._drop(entry)
            return  # else we are stopping: it is done again after the next start
        except LeewardError as error:
            failure = Failure(**error.as_dict(), exit_code=error.exit_code)
            log.warning("job failed", job=job.id, error=str(error))
        except Exception as error:  # a bug of ours ends this job, not the agent
            failure = Failure(code="internal", message=f"internal error: {error!r}", exit_code=70)
            log.exception("job failed unexpectedly", job=job.id)
        state = JobState.FAILED if failure else JobState.DONE
        with self._lock:
            entry.report = entry.report.model_copy(
                update={"state": state, "result": result, "failure": failure, "ended": time.time()}
            )
            if entry.released:
                self._drop(entry)
            else:
                self._save(entry)
        log.info("job ended", job=job.id, state=state)

    def _tell(self, job_id: str, text: str) -> None:
        with self._lock:
            entry = self._entries.get(job_id)
            if entry is not None:
                entry.report = entry.report.model_copy(update={"progress": text})

    # --- files ----------------------------------------------------------------------------------------

    def _entry(self, job: Job, report: JobReport, number: int) -> _Entry:
        return _Entry(Context(job, lambda text: self._tell(job.id, text)), report, number)

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(job_id.encode()).hexdigest()[:32]}.json"

    def _save(self, entry: _Entry) -> None:
        job, report = entry.context.job, entry.report
        document = {
            "number": entry.number,
            "job": job.model_dump(mode="json"),
            "report": report.model_dump(mode="json"),
        }
        write_durably(self._path(job.id), document)

    def _drop(self, entry: _Entry) -> None:
        self._entries.pop(entry.context.job.id, None)
        self._path(entry.context.job.id).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _load(self) -> None:
        for path in self._folder.glob("*.json"):
            try:
                stored = json.loads(path.read_text())
                job, report = Job.model_validate(stored["job"]), JobReport.model_validate(stored["report"])
                number = int(stored["number"])
            except (ValueError, KeyError, TypeError) as error:
                log.warning("a job's file cannot be read; the console gives the job again", error=str(error))
                path.unlink()
                continue
            if report.ended is not None and time.time() - report.ended > _KEEP_S:
                path.unlink()
                continue
            self._entries[job.id] = self._entry(job, report, number)
            self._number = max(self._number, number)


def _lane(job: Job) -> str:
    """Jobs of the same lane are done one after the other: those of one VM on one host, but of a test's copy apart,
    since a failover must not wait until a test's guest has come up."""
    if job.kind in _LOOKS:
        return job.id
    return f"{job.host}/{job.vm_id}/{'test' if job.arguments.get('purpose') == 'test' else ''}"
