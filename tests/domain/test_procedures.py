"""What procedures promise: nothing irreversible before its time, and undoing that brings the VM back first."""

import pytest

from leeward.domain.procedures import STEPS, UNDO_TELLS, Kind, undo_order

MOVES = (Kind.PLANNED, Kind.UNPLANNED, Kind.FAILBACK, Kind.UNPLANNED_FAILBACK)
STARTS = {"plug", "start-home"}


def names(kind):
    return [step.name for step in STEPS[kind]]


@pytest.mark.parametrize("kind", MOVES)
def test_starting_at_the_new_site_is_the_point_of_no_return_and_comes_after_the_epoch(kind):
    final = [step.name for step in STEPS[kind] if step.final]
    assert len(final) == 1
    assert final[0] in STARTS
    epoch = next(name for name in names(kind) if name in ("epoch", "epoch-home"))
    assert names(kind).index(epoch) < names(kind).index(final[0])


@pytest.mark.parametrize(
    ("kind", "stop", "off", "proof"),
    [
        (Kind.PLANNED, "stop", "stand-down", "last-cycle"),
        (Kind.FAILBACK, "stop-away", "stand-down-away", "last-cycle-away"),
    ],
)
def test_the_vm_is_kept_off_before_its_last_changes_are_proven(kind, stop, off, proof):
    order = names(kind)
    assert (
        order.index(stop)
        < order.index(off)
        < order.index(proof)
        < order.index("epoch" if kind is Kind.PLANNED else "epoch-home")
    )


@pytest.mark.parametrize("kind", MOVES)
def test_undoing_gives_the_log_back_before_the_vm_is_started_and_tidies_last(kind):
    final = next(i for i, step in enumerate(STEPS[kind]) if step.final)
    for begun in range(final + 1):
        order = list(undo_order(kind, begun))
        assert len(order) == len(set(order))
        assert set(order) <= set(UNDO_TELLS)
        restart = [order.index(name) for name in order if name.startswith("restart")]
        for earlier in ("epoch-back", "epoch-away", "stand-up", "stand-up-away"):
            assert not (earlier in order and restart) or order.index(earlier) < restart[0]
        tidying = [order.index(name) for name in order if name in ("discard", "revert")]
        assert not restart or all(index > restart[0] for index in tidying)


@pytest.mark.parametrize("kind", MOVES)
def test_after_a_start_that_failed_its_remains_are_cleared_before_the_vm_is_started_elsewhere(kind):
    final = next(i for i, step in enumerate(STEPS[kind]) if step.final)
    order = undo_order(kind, final + 1)
    assert order[0] in ("discard", "revert")


def test_what_is_taken_back_is_all_that_was_begun():
    assert undo_order(Kind.PLANNED, 0) == ()
    assert undo_order(Kind.PLANNED, 2) == ("restart",)
    assert undo_order(Kind.PLANNED, 6) == ("epoch-back", "stand-up", "restart", "discard")
    assert undo_order(Kind.UNPLANNED, 2) == ("stand-up", "restart")
    assert undo_order(Kind.FAILBACK, 8) == ("epoch-away", "stand-up-away", "restart-away", "revert")
