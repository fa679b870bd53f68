"""The state a person sees follows from the facts alone."""

from leeward.agent.status import Facts, state_of
from leeward.domain.points import RecoveryPoint
from leeward.domain.protection import ProtectionState as State
from leeward.domain.vm import Consistency
from leeward.replication.replicator import Kind

POINT = RecoveryPoint("7", 1, 10**18, Consistency.CRASH, (), 100)


def test_unknown_until_the_vault_was_read():
    assert state_of(Facts(), 5, None)[0] is State.REPLICATING
    state, reason = state_of(Facts(failure="the vault is away"), 5, None)
    assert state is State.ERROR
    assert "the vault is away" in reason


def test_first_copy_is_replicating_and_says_when_failover_opens():
    state, reason = state_of(Facts(known=True, kind=Kind.INITIAL), 5, None)
    assert state is State.REPLICATING
    assert "failover opens" in reason


def test_enabled_with_a_point():
    assert state_of(Facts(known=True, newest=POINT, kind=Kind.DELTA), 5, 1.0) == (State.ENABLED, "")


def test_a_cycle_that_takes_too_long_is_told():
    facts = Facts(known=True, newest=POINT, kind=Kind.DELTA)
    assert state_of(facts, 5, 14.9) == (State.ENABLED, "")
    late = "behind its target until the cycle under way is complete"
    assert state_of(facts, 5, 15.1) == (State.ENABLED, late)
    assert state_of(facts, 1, 9.0) == (State.ENABLED, "")
    facts.note = "disk vda is raw"
    assert state_of(facts, 5, 15.1) == (State.ENABLED, f"{late}; disk vda is raw")
    facts.paused = True
    assert state_of(facts, 5, 1e6)[0] is State.PAUSED


def test_a_blip_is_told_but_is_no_error_until_the_target_is_missed_thrice():
    facts = Facts(known=True, newest=POINT, kind=Kind.DELTA, failure="host busy")
    assert state_of(facts, 5, 6.0)[0] is State.ENABLED
    assert "host busy" in state_of(facts, 5, 6.0)[1]
    assert state_of(facts, 5, 15.1) == (State.ERROR, "host busy")


def test_resynchronization_names_its_cause():
    facts = Facts(known=True, newest=POINT, kind=Kind.RESYNC, kind_reason="the bitmap is broken")
    state, reason = state_of(facts, 5, 100.0)
    assert state is State.RESYNCHRONIZING
    assert "the bitmap is broken" in reason


def test_paused_and_permanent_failures_win():
    assert state_of(Facts(known=True, newest=POINT, paused=True), 5, 1e6)[0] is State.PAUSED
    fenced = Facts(known=True, newest=POINT, failure="epoch over", permanent=True)
    assert state_of(fenced, 5, 0.1) == (State.ERROR, "epoch over")
    fenced.paused = True
    assert state_of(fenced, 5, 0.1) == (State.ERROR, "epoch over")


def test_points_in_the_spool_are_told_with_the_vaults_trouble():
    facts = Facts(known=True, newest=POINT, kind=Kind.DELTA, waiting=3, away="the vault is away")
    assert state_of(facts, 5, 6.0) == (State.ENABLED, "3 points wait in the local spool: the vault is away")
    assert state_of(facts, 5, 16.0) == (State.ERROR, "3 points wait in the local spool: the vault is away")
    facts.away = ""  # it takes them again: a matter of time
    assert state_of(facts, 5, 16.0) == (
        State.ENABLED,
        "catching up: 3 points wait in the local spool to be sent",
    )
    facts.waiting, facts.paused = 1, True
    assert state_of(facts, 5, 16.0)[1].endswith("1 point waits in the local spool to be sent")


def test_a_first_copy_in_the_spool_is_not_under_way():
    facts = Facts(known=True, kind=Kind.INITIAL, waiting=1, away="the vault is full")
    state, reason = state_of(facts, 5, None)
    assert state is State.ERROR
    assert "the vault is full" in reason


def test_a_comparison_that_cannot_go_on_says_so():
    facts = Facts(known=True, newest=POINT, kind=Kind.RESYNC, kind_reason="the bitmap is broken")
    facts.failure = "the vault is away"
    assert state_of(facts, 5, 6.0)[0] is State.RESYNCHRONIZING
    state, reason = state_of(facts, 5, 16.0)
    assert state is State.ERROR
    assert "the bitmap is broken" in reason
    assert "the vault is away" in reason
