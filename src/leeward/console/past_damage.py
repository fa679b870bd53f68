"""Going on where a VM is, behind a log that cannot be read to its end.

Its agent does not do that by itself: in just what cannot be read somebody may have taken the VM over. An operator can
say that nobody has. The epoch that begins then is a move like those of failovers, so that a place where the VM runs
all the same, against his word, finds its time over and keeps it off.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from leeward.console.fleet import Fleet
from leeward.console.links import AgentLink
from leeward.domain.errors import Damaged, LeewardError, Refused, Unavailable
from leeward.domain.lifecycle import Phase
from leeward.state.lives import Life
from leeward.vault.log import Breach, VmLog
from leeward.vault.reigning import PAST_DAMAGE
from leeward.wire.jobs import Job, JobKind, JobReport, JobState

_WAIT_S = 60.0
_POLL_S = 0.05


def go_on(vm_log: VmLog, fleet: Fleet, life: Life, host: str, known: int = 0) -> tuple[int, str]:
    """→ the epoch in which the VM is replicated from `host` from now on, and what was passed over, for people.

    All of it is compared with what can be read still. known: the newest epoch of it that the console knows of.
    Raises Refused when there is nothing to go past or the VM is elsewhere by what can be read, NotFound when no agent
    has the host, Unavailable when it does not answer.
    """
    breach = vm_log.breach()
    began = None if breach is not None else _began(vm_log, host, known)
    if began is not None:
        return began, "it had begun already"
    claim, passing, what = _told(breach) if breach is not None else _nobody_known(vm_log, life.vm_name)
    _, move = vm_log.certain()
    there = move.info.get("host") if move else None
    if there not in (None, host):
        raise Refused(f"it runs at {there}", subject=life.vm_name, hint="Protect it where it runs, or fail back")
    link = fleet.link(host)
    if not link.present:
        raise Unavailable(
            f"the agent of {host} does not answer", subject=life.vm_name, hint="See `leeward agents list`"
        )
    job_id = f"past-damage:{uuid.uuid4().hex}"
    arguments = {
        "claim": claim,
        "reason": PAST_DAMAGE,
        # Where it has settled away, its epochs are of the run that brought it there: it has not moved by this.
        "run": life.run_id if life.phase is Phase.SETTLED else job_id,
        "name": life.vm_name,
        "passing": passing,
    }
    job = Job(id=job_id, kind=JobKind.TAKE_EPOCH, vm_id=life.vm_id, host=host, arguments=arguments)
    report = _done(link, job, life.vm_name)
    if report.state is JobState.DONE:
        return int(report.result["epoch"]), what
    # It says no as well after it has begun the epoch, where no point is left that could be read.
    epoch = _began(vm_log, host, claim)
    if epoch is None:
        failure = report.failure
        raise LeewardError(
            failure.message if failure else "the agent could not go on",
            subject=life.vm_name,
            hint=failure.hint if failure else "",
        )
    return epoch, what


def _began(vm_log: VmLog, host: str, known: int) -> int | None:
    """The epoch that was begun by this at the host after the one that is known: the answer may have been lost."""
    try:
        reign = vm_log.reign()
    except Damaged:
        return None
    begun = reign is not None and reign.reason == PAST_DAMAGE and reign.info.get("host") == host
    return reign.epoch if reign is not None and begun and reign.epoch > known else None


def _told(breach: Breach) -> tuple[int, dict[str, Any] | None, str]:
    """The epoch to follow; what may be passed over (see `leeward.vault.writer.Consent`); that, for people."""
    what = f"behind entry {breach.state.seq}: {breach.error.subject}: {breach.error.message}"
    return breach.epoch, {"point": breach.state.seq, "unread": list(breach.unread)}, what


def _nobody_known(vm_log: VmLog, name: str) -> tuple[int, dict[str, Any] | None, str]:
    """The same of a log in which nothing but the beginning of its newest epoch cannot be read."""
    try:
        vm_log.reign()
    except Damaged as error:
        return vm_log.epoch(), None, f"{error.subject}: {error.message}"
    raise Refused("its log can be read to its end", subject=name, hint="Leave --past-damage out")


def _done(link: AgentLink, job: Job, name: str) -> JobReport:
    link.submit(job)
    ends = time.monotonic() + _WAIT_S
    try:
        while time.monotonic() < ends:
            report = link.job(job.id)
            if report is not None and report.state is not JobState.RUNNING:
                return report
            time.sleep(_POLL_S)
    finally:
        link.release(job.id)  # one that has not begun yet is not to begin when nobody reckons with it any more
    raise Unavailable(f"the agent of {job.host} has not told whether it goes on", subject=name, hint="Ask once more")
