"""The table of phases, against what is allowed said in words; and the document that is made out of it."""

import re
from pathlib import Path

import pytest

from leeward.domain.guide import renewed
from leeward.domain.lifecycle import (
    REQUESTS,
    TRANSITIONS,
    Event,
    Phase,
    Refusal,
    after,
    diagram,
    runs_away,
    under_way,
)

RESTS = {Phase.HOME, Phase.AWAY, Phase.SETTLED, Phase.BACK}
FAILOVER = {Phase.FAILING_OVER, Phase.FAILOVER_STALLED, Phase.FAILOVER_UNDOING}
FAILBACK = {Phase.FAILING_BACK, Phase.FAILBACK_STALLED, Phase.FAILBACK_UNDOING}
FORWARD = {Phase.FAILING_OVER, Phase.FAILING_BACK}
STALLED = {Phase.FAILOVER_STALLED, Phase.FAILBACK_STALLED}
UNDOING = {Phase.FAILOVER_UNDOING, Phase.FAILBACK_UNDOING}
COMMITS = {Phase.COMMITTING, Phase.FINISHING}


def target(phase, event):
    """What the rules say, in words; None: it is refused."""
    # An operator fails a VM over that is at home. One whose home dies under a failover is not made to wait for it.
    if event is Event.PLANNED:
        return Phase.FAILING_OVER if phase is Phase.HOME else None
    if event is Event.UNPLANNED:
        return Phase.FAILING_OVER if phase is Phase.HOME or phase in FAILOVER else None
    # What has arrived is committed, and only what is committed may go home.
    if event is Event.COMMIT:
        return {Phase.AWAY: Phase.COMMITTING, Phase.BACK: Phase.FINISHING}.get(phase)
    if event is Event.FAILBACK:
        return Phase.FAILING_BACK if phase is Phase.SETTLED else None
    # One whose recovery site dies under it goes home without it, wherever it stands there.
    if event is Event.UNPLANNED_FAILBACK:
        there = {Phase.AWAY, Phase.SETTLED, Phase.COMMITTING, Phase.FAILING_OVER, Phase.FAILOVER_STALLED} | FAILBACK
        return Phase.FAILING_BACK if phase in there else None
    # What moves or has stalled can be taken back; what has stalled can be gone on with. Commits are neither: they
    # move no VM, and are asked for anew.
    on_failover = phase in FAILOVER
    if event is Event.CANCEL:
        if phase not in FORWARD | STALLED:
            return None
        return Phase.FAILOVER_UNDOING if on_failover else Phase.FAILBACK_UNDOING
    if event is Event.RETRY:
        if phase not in STALLED:
            return None
        return Phase.FAILING_OVER if on_failover else Phase.FAILING_BACK
    # A procedure ends where it was going, back where it came from, or half way.
    if event is Event.DONE:
        arrives = {Phase.FAILING_OVER: Phase.AWAY, Phase.FAILING_BACK: Phase.BACK}
        return (arrives | {Phase.COMMITTING: Phase.SETTLED, Phase.FINISHING: Phase.HOME}).get(phase)
    if event is Event.UNDONE:
        return {Phase.FAILOVER_UNDOING: Phase.HOME, Phase.FAILBACK_UNDOING: Phase.SETTLED}.get(phase)
    assert event is Event.STALLED
    if phase in FORWARD | UNDOING:
        return Phase.FAILOVER_STALLED if on_failover else Phase.FAILBACK_STALLED
    return {Phase.COMMITTING: Phase.AWAY, Phase.FINISHING: Phase.BACK}.get(phase)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_every_phase_and_every_event(phase, event):
    found = after(phase, event, "web")
    wanted = target(phase, event)
    if wanted is None:
        assert isinstance(found, Refusal)
        assert found.reason
        assert "{vm}" not in found.reason + found.hint
    else:
        assert found is wanted


ACTIONS = {"planned": Event.PLANNED, "unplanned": Event.UNPLANNED, "commit": Event.COMMIT, "failback": Event.FAILBACK}
ACTIONS |= {"failback --unplanned": Event.UNPLANNED_FAILBACK}
ACTIONS |= {"retry": Event.RETRY, "cancel": Event.CANCEL}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", REQUESTS)
def test_what_a_refusal_advises_can_be_done(phase, event):
    found = after(phase, event, "web")
    if not isinstance(found, Refusal):
        return
    advised = ["".join(words) for words in re.findall(r"`leeward failover (\w+) web( --unplanned)?`", found.hint)]
    assert advised, found
    for action in advised:
        assert action == "show" or not isinstance(after(phase, ACTIONS[action], "web"), Refusal), found
    # Where anything at all can be asked for, it is named; only a commit under way needs nothing but patience.
    possible = [request for request in REQUESTS if (phase, request) in TRANSITIONS]
    assert not possible or set(advised) != {"show"}, (phase, advised)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_way_on_and_leads_home(phase):
    seen, edge = {phase}, {phase}
    while edge:
        edge = {TRANSITIONS[key] for key in TRANSITIONS if key[0] in edge} - seen
        seen |= edge
    assert Phase.HOME in seen - ({phase} if phase is Phase.HOME else set()) or phase is Phase.HOME
    assert any(key[0] is phase for key in TRANSITIONS)


def test_a_procedure_under_way_can_always_stall():
    for phase in Phase:
        if under_way(phase) and phase not in STALLED:
            assert (phase, Event.STALLED) in TRANSITIONS
        assert under_way(phase) == (phase not in RESTS)


def test_where_the_vm_is_by_right():
    assert {phase for phase in Phase if runs_away(phase)} == {
        Phase.AWAY,
        Phase.COMMITTING,
        Phase.SETTLED,
        *FAILBACK,
    }


def test_the_document_is_up_to_date():
    path = Path(__file__).parents[2] / "docs" / "failover.md"
    text = path.read_text()
    assert diagram() in text
    assert renewed(text) == text, "run `make docs`"


@pytest.mark.parametrize(
    ("phase", "event", "reason", "hint"),
    [
        (Phase.SETTLED, Event.COMMIT, "it is committed already: it runs at", "failback web"),
        (Phase.HOME, Event.COMMIT, "there is nothing to commit: it runs at its home", "failover planned web"),
        (Phase.HOME, Event.CANCEL, "nothing is under way that could be cancelled", "failover show web"),
        (Phase.HOME, Event.RETRY, "nothing is under way that could be retried", "failover show web"),
    ],
)
def test_a_refusal_speaks_of_what_was_asked_for(phase, event, reason, hint):
    found = after(phase, event, "web")
    assert found.reason.startswith(reason)
    assert hint in found.hint
