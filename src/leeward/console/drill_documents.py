"""Schedules of drills as the vault is told them, beside the VM or with the plan, for a console that knows nothing.
Pure."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from leeward.console.drill_views import read_schedule
from leeward.console.views import DrillRequest
from leeward.domain.drills import Mode, Schedule, show_window
from leeward.domain.errors import BadInput

# The vault's document of a VM's own schedule.
DRILL = "drill"
# A console that has just adopted all that the vault knows is there because of a disaster, most likely: in its first
# hours nobody tests, or wants to be told of tests.
_CALM_S = 86_400.0


def document_of(schedule: Schedule | None) -> dict[str, Any]:
    """Empty: there is none, or no longer."""
    if schedule is None or schedule.mode is Mode.OFF:
        return {}
    window = show_window(schedule.begins, schedule.ends)
    return {"every_s": schedule.every_s, "mode": schedule.mode.value, "window": window, "keep_s": schedule.keep_s}


def adopted_schedule(subject: str, document: Any, now: float) -> Schedule | None:
    """None where there is none, or what stands there means nothing to us. What was tested elsewhere is not known, so
    the first drill is due a day from now, or after the interval where that is shorter. now: UTC seconds."""
    if not document:
        return None
    try:
        request = DrillRequest.model_validate(document)
        return read_schedule(subject, request, now + min(_CALM_S, request.every_s))
    except (ValidationError, BadInput):
        return None
