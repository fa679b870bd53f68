"""Where a protected VM stands between its two sites, and what can happen to it next: one table, nothing else.

A VM is at *home* (its source runs it), *away* (the recovery site runs it), or *back* (home runs it again and the
recovery site's copy is still kept). Between these it is on its way. Operators ask for something (plan a failover,
commit, …), procedures end in one of three ways (done, stalled, undone); the table says what each means in each phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    HOME = "home"
    FAILING_OVER = "failing-over"
    FAILOVER_STALLED = "failover-stalled"
    FAILOVER_UNDOING = "failover-undoing"
    AWAY = "away"  # not committed: nothing has been deleted yet
    COMMITTING = "committing"
    SETTLED = "settled"  # away, and the operator has said that it stays
    FAILING_BACK = "failing-back"
    FAILBACK_STALLED = "failback-stalled"
    FAILBACK_UNDOING = "failback-undoing"
    BACK = "back"  # home runs it again; the recovery copy is kept until commit
    FINISHING = "finishing"


class Event(StrEnum):
    PLANNED = "planned"
    UNPLANNED = "unplanned"
    COMMIT = "commit"
    FAILBACK = "failback"
    UNPLANNED_FAILBACK = "unplanned-failback"
    RETRY = "retry"
    CANCEL = "cancel"
    DONE = "done"
    STALLED = "stalled"
    UNDONE = "undone"


# What an operator can ask for; the others are how procedures end.
REQUESTS = (
    Event.PLANNED,
    Event.UNPLANNED,
    Event.COMMIT,
    Event.FAILBACK,
    Event.UNPLANNED_FAILBACK,
    Event.RETRY,
    Event.CANCEL,
)

TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.HOME, Event.PLANNED): Phase.FAILING_OVER,
    (Phase.HOME, Event.UNPLANNED): Phase.FAILING_OVER,
    (Phase.FAILING_OVER, Event.DONE): Phase.AWAY,
    (Phase.FAILING_OVER, Event.STALLED): Phase.FAILOVER_STALLED,
    (Phase.FAILING_OVER, Event.CANCEL): Phase.FAILOVER_UNDOING,
    (Phase.FAILOVER_STALLED, Event.RETRY): Phase.FAILING_OVER,
    (Phase.FAILOVER_STALLED, Event.CANCEL): Phase.FAILOVER_UNDOING,
    # A failover whose source breaks down under it goes on as an unplanned one: a planned one that waits for the dead
    # source, has stalled, or is just being taken back to it. Waiting for what never returns must not be the only way.
    (Phase.FAILING_OVER, Event.UNPLANNED): Phase.FAILING_OVER,
    (Phase.FAILOVER_STALLED, Event.UNPLANNED): Phase.FAILING_OVER,
    (Phase.FAILOVER_UNDOING, Event.UNPLANNED): Phase.FAILING_OVER,
    (Phase.FAILOVER_UNDOING, Event.UNDONE): Phase.HOME,
    (Phase.FAILOVER_UNDOING, Event.STALLED): Phase.FAILOVER_STALLED,
    (Phase.AWAY, Event.COMMIT): Phase.COMMITTING,
    (Phase.COMMITTING, Event.DONE): Phase.SETTLED,
    (Phase.COMMITTING, Event.STALLED): Phase.AWAY,
    (Phase.SETTLED, Event.FAILBACK): Phase.FAILING_BACK,
    (Phase.FAILING_BACK, Event.DONE): Phase.BACK,
    (Phase.FAILING_BACK, Event.STALLED): Phase.FAILBACK_STALLED,
    (Phase.FAILING_BACK, Event.CANCEL): Phase.FAILBACK_UNDOING,
    (Phase.FAILBACK_STALLED, Event.RETRY): Phase.FAILING_BACK,
    (Phase.FAILBACK_STALLED, Event.CANCEL): Phase.FAILBACK_UNDOING,
    # And the recovery site may die under the VM: at rest there, committed or not, just coming up, or on its way
    # home. It is brought up at home from what the vault has.
    (Phase.AWAY, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.SETTLED, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.COMMITTING, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.FAILING_OVER, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.FAILOVER_STALLED, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.FAILING_BACK, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.FAILBACK_STALLED, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.FAILBACK_UNDOING, Event.UNPLANNED_FAILBACK): Phase.FAILING_BACK,
    (Phase.FAILBACK_UNDOING, Event.UNDONE): Phase.SETTLED,
    (Phase.FAILBACK_UNDOING, Event.STALLED): Phase.FAILBACK_STALLED,
    (Phase.BACK, Event.COMMIT): Phase.FINISHING,
    (Phase.FINISHING, Event.DONE): Phase.HOME,
    (Phase.FINISHING, Event.STALLED): Phase.BACK,
}

_GONE = "; if the recovery site is gone: `leeward failover failback {vm} --unplanned`"
# Why nothing else is possible in a phase, and what is the sensible thing to do. {vm} is the VM's name.
_WHY: dict[Phase, tuple[str, str]] = {
    Phase.HOME: ("it runs at its home site", "Fail it over first: `leeward failover planned {vm}`"),
    Phase.FAILING_OVER: (
        "a failover of it is under way",
        "Watch it with `leeward failover show {vm}`, or take it back with `leeward failover cancel {vm}`",
    ),
    Phase.FAILOVER_STALLED: (
        "a failover of it has stalled",
        "Go on with `leeward failover retry {vm}`, or take it back with `leeward failover cancel {vm}`",
    ),
    Phase.FAILOVER_UNDOING: (
        "a failover of it is being taken back",
        "Watch it with `leeward failover show {vm}`; if home is gone meanwhile: `leeward failover unplanned {vm}`",
    ),
    Phase.AWAY: (
        "it runs at the recovery site, and that is not committed yet",
        "When it is as it should be: `leeward failover commit {vm}`" + _GONE,
    ),
    Phase.COMMITTING: ("its failover is being committed", "Watch it with `leeward failover show {vm}`" + _GONE),
    Phase.SETTLED: ("it runs at the recovery site", "Bring it home with `leeward failover failback {vm}`" + _GONE),
    Phase.FAILING_BACK: (
        "it is on its way home",
        "Watch it with `leeward failover show {vm}`, or take it back with `leeward failover cancel {vm}`",
    ),
    Phase.FAILBACK_STALLED: (
        "its failback has stalled",
        "Go on with `leeward failover retry {vm}`, or take it back with `leeward failover cancel {vm}`",
    ),
    Phase.FAILBACK_UNDOING: (
        "its failback is being taken back",
        "Watch it with `leeward failover show {vm}`" + _GONE,
    ),
    Phase.BACK: (
        "it is home again, and that is not committed yet",
        "When it is as it should be: `leeward failover commit {vm}`",
    ),
    Phase.FINISHING: ("its failback is being committed", "Watch it with `leeward failover show {vm}`"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event has no place in a phase. hint: the next sensible action."""

    reason: str
    hint: str


def after(phase: Phase, event: Event, vm: str = "the VM") -> Phase | Refusal:
    """The phase that follows, or why there is none. vm: name for the hint."""
    found = TRANSITIONS.get((phase, event))
    if found is not None:
        return found
    reason, hint = _WHY[phase]
    if event is Event.COMMIT and phase is Phase.HOME:
        reason = f"there is nothing to commit: {reason}"
    if event is Event.COMMIT and phase is Phase.SETTLED:
        reason = f"it is committed already: {reason}"
    if event in (Event.RETRY, Event.CANCEL) and phase is Phase.HOME:
        # Whoever wants to take something back does not want to fail it over first.
        hint = "What was done last: `leeward failover show {vm}`; to fail it over: `leeward failover planned {vm}`"
    if event in (Event.RETRY, Event.CANCEL) and phase in (Phase.HOME, Phase.AWAY, Phase.SETTLED, Phase.BACK):
        reason = f"nothing is under way that could be {'retried' if event is Event.RETRY else 'cancelled'}: {reason}"
    return Refusal(reason, hint.format(vm=vm))


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/failover.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {_id(Phase.HOME)}"]
    for (phase, event), target in TRANSITIONS.items():
        lines.append(f"    {_id(phase)} --> {_id(target)}: {event}")
    return "\n".join(lines)


def _id(phase: Phase) -> str:
    return phase.value.replace("-", "_")


def under_way(phase: Phase) -> bool:
    """A procedure is (or, stalled, waits to be) in the middle of its steps."""
    return phase not in (Phase.HOME, Phase.AWAY, Phase.SETTLED, Phase.BACK)


def runs_away(phase: Phase) -> bool:
    """The recovery site is the VM's rightful place now, or will be unless the failback succeeds."""
    return phase in (
        Phase.AWAY,
        Phase.COMMITTING,
        Phase.SETTLED,
        Phase.FAILING_BACK,
        Phase.FAILBACK_STALLED,
        Phase.FAILBACK_UNDOING,
    )
