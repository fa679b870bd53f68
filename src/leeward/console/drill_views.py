"""Schedules of drills as they are asked for, and as they are shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from leeward.console.views import DrillRequest, DrillView
from leeward.domain.drills import (
    LONGEST_EVERY_S,
    LONGEST_KEEP_S,
    SHORTEST_S,
    Mode,
    Schedule,
    next_due,
    read_window,
    show_window,
)
from leeward.domain.errors import BadInput
from leeward.domain.plans import Plan
from leeward.state.drills import KeptDrill
from leeward.wire.translate import utc_of, when


def drill_view(
    drill: KeptDrill, tested: Mapping[str, float], now: float, *, vm: str = "", plan: Plan | None = None
) -> DrillView:
    """Of a VM of this name, or of a plan. tested: subject → when its last good test ended. Times: UTC seconds."""
    schedule = drill.schedule
    last = tested.get(schedule.subject)
    return DrillView(
        plan=plan.name if plan else "",
        vm=vm,
        vm_id="" if plan else schedule.subject,
        vm_ids=[member.vm_id for member in plan.members] if plan else [schedule.subject],
        every_s=schedule.every_s,
        mode=schedule.mode.value,
        window=show_window(schedule.begins, schedule.ends),
        keep_s=schedule.keep_s,
        last_good=when(last),
        next_due=utc_of(next_due(schedule, last)),
        overdue=next_due(schedule, last) <= now,
        last_drill=when(drill.tried),
        last_outcome=drill.outcome,
        last_run=drill.run_id,
    )


def read_schedule(subject: str, request: DrillRequest, now: float) -> Schedule:
    """Raises BadInput, whose subject is the field."""
    if not SHORTEST_S <= request.every_s <= LONGEST_EVERY_S:
        raise BadInput("a drill comes round once an hour at most, and within ten years", subject="every_s")
    if not 0 <= request.keep_s <= LONGEST_KEEP_S:
        raise BadInput("a drill's copy is kept for a day at most", subject="keep_s")
    begins, ends = read_window(request.window)
    return Schedule(subject, request.every_s, Mode(request.mode), begins, ends, request.keep_s, now)
