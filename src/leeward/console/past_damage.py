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
from leeward.state.lives import Life
from leeward.vault.log import VmLog
from leeward.vault.reigning import PAST_DAMAGE
from leeward.wire.jobs import Job, JobKind, JobReport, JobState

_WAIT_S = 60.0
_POLL_S = 0.05


def go_on(vm_log: VmLog, fleet: Fleet, life: Life, host: str) -> tuple[int, str]:
    """→ the epoch in which the VM is replicated from `host` from now on, and what was passed over, for people.

    All of it is compared with what can be read still. Raises Refused when there is nothing to go past or the VM is
    known to be elsewhere, NotFound when no agent has the host, Unavailable when it does not answer.
    """
    claim, passing, what = _breach(vm_log, life.vm_name)
    _, move = vm_log.certain()
    there = move.info.get("host") if move else None
    if there not in (None, host):
        raise Refused(f"it runs at {there}", subject=life.vm_name, hint="Protect it where it runs, or fail back")
    link = fleet.link(host)
    if not link.present:
        raise Unavailable(
            f"the agent of {host} does not answer", subject=life.vm_name, hint="See `leeward agents list`"
        )
    arguments = {"claim": claim, "reason": PAST_DAMAGE, "run": life.run_id, "name": life.vm_name, "passing": passing}
    job = Job(
        id=f"past-damage:{uuid.uuid4().hex}",
        kind=JobKind.TAKE_EPOCH,
        vm_id=life.vm_id,
        host=host,
        arguments=arguments,
    )
    report = _done(link, job, life.vm_name)
    if report.state is JobState.FAILED and not _taken(vm_log, claim):
        failure = report.failure
        raise LeewardError(
            failure.message if failure else "the agent could not go on",
            subject=life.vm_name,
            hint=failure.hint if failure else "",
        )
    return vm_log.epoch(), what


def _breach(vm_log: VmLog, name: str) -> tuple[int, dict[str, Any] | None, str]:
    """The epoch to follow; what may be passed over (see `leeward.vault.writer.Consent`); that, for people."""
    breach = vm_log.breach()
    if breach is not None:
        what = f"behind entry {breach.state.seq}: {breach.error.subject}: {breach.error.message}"
        return breach.epoch, {"point": breach.state.seq, "unread": list(breach.unread)}, what
    try:
        vm_log.reign()
    except Damaged as error:  # all but who writes it
        return vm_log.epoch(), None, f"{error.subject}: {error.message}"
    raise Refused("its log can be read to its end", subject=name, hint="Leave --past-damage out")


def _done(link: AgentLink, job: Job, name: str) -> JobReport:
    link.submit(job)
    ends = time.monotonic() + _WAIT_S
    while time.monotonic() < ends:
        report = link.job(job.id)
        if report is not None and report.state is not JobState.RUNNING:
            link.release(job.id)
            return report
        time.sleep(_POLL_S)
    raise Unavailable(
        f"the agent of {job.host} has not told yet whether it goes on", subject=name, hint="See `leeward status`"
    )


def _taken(vm_log: VmLog, claim: int) -> bool:
    """An agent says no as well after it has begun the epoch, where no point is left that could be read."""
    try:
        reign = vm_log.reign()
    except Damaged:
        return False
    return reign is not None and reign.epoch > claim and reign.reason == PAST_DAMAGE
