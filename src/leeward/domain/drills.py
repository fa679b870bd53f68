"""Drills: tests that come round, of VMs and of plans. What is to be done now, by schedules and what is known. Pure.

Only good tests count (see `leeward.domain.evidence`), whoever asked for them. Drills that Leeward runs by itself are
run one at a time, whether of a VM or of a plan, and none is begun where anything else of its VMs is under way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from leeward.domain.errors import BadInput

# What failed is tried again after this, or after the interval where that is shorter.
RETRY_S = 86_400.0
# A drill that has not come up by then is taken back: it must not hold up all others.
LONGEST_S = 2 * 3600.0
# A copy that could not be removed is tried again after this, and holds up only its own VM.
CLEAN_AGAIN_S = 900.0
# What is tested is named by the VM's id; a plan by its name after this, which no id begins with.
_PLAN = "plan:"
SHORTEST_S, LONGEST_EVERY_S, LONGEST_KEEP_S = 3600.0, 3660 * 86_400.0, 86_400.0


def subject_of(plan: str) -> str:
    return _PLAN + plan


def plan_of(subject: str) -> str | None:
    """Its name; None for a VM."""
    return subject.removeprefix(_PLAN) if subject.startswith(_PLAN) else None


class Mode(StrEnum):
    """WARN: it is told that a test is due. RUN: it is also run: test failover, evidence, clean-up. OFF: nobody wishes
    for it any more; it is kept until its last drill has been cleaned up."""

    WARN = "warn"
    RUN = "run"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Schedule:
    """subject: what is tested (see `plan_of`). every_s: between good tests. begins, ends: in which time of the day it
    is run, in minutes of the console's local time, over midnight where ends is less; the same: at any time. keep_s:
    how long the copy stays. since: when it was made, UTC seconds: from then on what was never tested is due."""

    subject: str
    every_s: float
    mode: Mode = Mode.WARN
    begins: int = 0
    ends: int = 0
    keep_s: float = 600.0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a VM with a schedule, or of all VMs of a plan with one. enabled: it is protected, current, and
    no phase is under way. busy: another run of it, or of a plan with it, is not over, a copy that is not the drill's
    is there, or it has been put off. tested: end of its last good test. longest_s: within which a drill comes up.

    Of its last drill: tried: when it was begun; going: its run is under way; asks: and waits for an approval; ending:
    and that is being taken back already; ended: when that came to its end; copy: of what it made something is there;
    cleaned: when its removal was last asked for; cleaning: that is under way; noted: it had come to its end before,
    and goes on because somebody has asked for it. Times: UTC seconds.
    """

    enabled: bool
    busy: bool = False
    tested: float | None = None
    tried: float | None = None
    going: bool = False
    asks: bool = False
    ending: bool = False
    ended: float | None = None
    copy: bool = False
    cleaned: float | None = None
    cleaning: bool = False
    noted: bool = False
    longest_s: float = LONGEST_S


class Do(StrEnum):
    """APPROVE: what a plan asks a person for. Nobody is there in the night, and a test touches nothing."""

    BEGIN = "begin"
    APPROVE = "approve"
    TAKE_BACK = "take-back"
    CLEAN = "clean"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Deed:
    do: Do
    subject: str


def next_due(schedule: Schedule, tested: float | None) -> float:
    """UTC seconds."""
    return schedule.since if tested is None else tested + schedule.every_s


def due(schedule: Schedule, known: Known, now: float) -> bool:
    return next_due(schedule, known.tested) <= now


def in_window(schedule: Schedule, minute: int) -> bool:
    """minute: of the day, local time."""
    begins, ends = schedule.begins, schedule.ends
    if begins == ends:
        return True
    return begins <= minute < ends if begins < ends else minute >= begins or minute < ends


def decide(given: Sequence[tuple[Schedule, Known]], now: float, minute: int) -> list[Deed]:
    """What to do now; of drills at most one is begun, the one that is due for the longest."""
    deeds = [deed for schedule, known in given if (deed := _end(schedule, known, now))]
    if any(_holds_up(schedule, known, now) for schedule, known in given):
        return deeds
    ready = [
        (next_due(schedule, known.tested), schedule.subject)
        for schedule, known in given
        if _may_begin(schedule, known, now, minute)
    ]
    return [*deeds, Deed(Do.BEGIN, min(ready)[1])] if ready else deeds


def _end(schedule: Schedule, known: Known, now: float) -> Deed | None:
    """Also of a schedule that was changed meanwhile to one that only warns, or removed: what was begun is brought to
    its end."""
    if known.going:
        late = known.tried is not None and now - known.tried > known.longest_s
        if late and not known.ending and not known.noted:
            return Deed(Do.TAKE_BACK, schedule.subject)
        return Deed(Do.APPROVE, schedule.subject) if known.asks else None
    if known.cleaning:
        return None
    kept_until = None if known.ended is None else known.ended + schedule.keep_s
    if not known.copy:
        # A copy that has just been made, or whose host does not answer just now, is not seen.
        gone = kept_until is None or now >= kept_until + CLEAN_AGAIN_S
        return Deed(Do.FORGET, schedule.subject) if gone and schedule.mode is Mode.OFF else None
    again = known.cleaned is None or now - known.cleaned >= CLEAN_AGAIN_S
    return Deed(Do.CLEAN, schedule.subject) if kept_until is not None and now >= kept_until and again else None


def _holds_up(schedule: Schedule, known: Known, now: float) -> bool:
    if known.going:  # the host of one that is being taken back may be away for good
        return known.tried is None or now <= known.tried + known.longest_s + CLEAN_AGAIN_S
    return known.copy and known.ended is not None and now < known.ended + schedule.keep_s + CLEAN_AGAIN_S


def _may_begin(schedule: Schedule, known: Known, now: float, minute: int) -> bool:
    if schedule.mode is not Mode.RUN or not due(schedule, known, now) or not in_window(schedule, minute):
        return False
    if not known.enabled or known.busy or known.copy or known.cleaning:
        return False
    return known.tried is None or now - known.tried >= min(RETRY_S, schedule.every_s)


_WINDOW = re.compile(r"\s*(\d{1,2}):(\d\d)\s*[-–]\s*(\d{1,2}):(\d\d)\s*")


def read_window(text: str) -> tuple[int, int]:
    """ "22:00-04:00" → minutes of the day; "" → (0, 0), at any time. Raises BadInput."""
    if not text.strip():
        return 0, 0
    match = _WINDOW.fullmatch(text)
    if match:
        hours, minutes = (int(match[1]), int(match[3])), (int(match[2]), int(match[4]))
        if all(hour < 24 for hour in hours) and all(minute < 60 for minute in minutes):
            return hours[0] * 60 + minutes[0], hours[1] * 60 + minutes[1]
    raise BadInput(f"{text!r} is no time of the day", subject="window", hint="Write it like 22:00-04:00")


def show_window(begins: int, ends: int) -> str:
    """As `read_window` takes it."""
    if begins == ends:
        return ""
    return f"{begins // 60:02}:{begins % 60:02}-{ends // 60:02}:{ends % 60:02}"
