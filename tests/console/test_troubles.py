"""What is wrong, as a picture of everything shows it."""

from datetime import UTC, datetime

import pytest
from tests.console.web.test_rows import NOW, a_moment, a_run, vm_status

from leeward.console.room import Room
from leeward.console.troubles import Limits, StalledPlan, late, overdue_s, troubles, undrilled
from leeward.console.views import DrillView, HostView
from leeward.console.web.vault_door import VaultState
from leeward.domain.alerts import AlertKind, key_of

DAY = 86_400.0


def found(moment, open_keys=()):
    return [(one.kind.value, one.subject) for one in troubles(moment, open_keys).found]


def test_nothing_is_wrong_when_all_is_well():
    assert found(a_moment(vm_status("a"), vm_status("b", "disabled"))) == []


def test_an_rpo_is_missed_by_as_much_as_it_is_above_its_target():
    status = vm_status("a", rpo_target_s=60.0, rpo_actual_s=100.0)
    assert overdue_s(status) == 40.0
    (trouble,) = troubles(a_moment(status)).found
    assert (trouble.kind, trouble.subject, trouble.held_s) == (AlertKind.RPO, "id-a", 40.0)
    assert found(a_moment(vm_status("a", rpo_target_s=60.0, rpo_actual_s=60.0))) == []


def test_for_how_long_it_was_missed_is_only_known_while_the_host_answers():
    """A console that has just been started has heard of no agent yet, and what it knows is as old as it was away."""
    silent = HostView(name="office", site="source", uri="x", reachable=False, error="silent", vms=1)
    status = vm_status("a", rpo_target_s=60.0, rpo_actual_s=3600.0)
    (rpo,) = [one for one in troubles(a_moment(status, hosts=(silent,))).found if one.kind is AlertKind.RPO]
    assert rpo.held_s == 0.0


def test_the_home_page_speaks_of_a_clear_miss_only():
    assert not late(vm_status(rpo_target_s=60.0, rpo_actual_s=180.0))
    assert late(vm_status(rpo_target_s=60.0, rpo_actual_s=180.1))
    assert not late(vm_status(rpo_target_s=1.0, rpo_actual_s=10.0))
    assert late(vm_status(rpo_target_s=1.0, rpo_actual_s=10.1))


def test_a_vm_that_is_paused_misses_nothing():
    assert found(a_moment(vm_status("a", "paused", rpo_target_s=1.0, rpo_actual_s=9999.0))) == []


def test_an_rpo_that_nobody_can_tell_is_not_known():
    assert key_of(AlertKind.RPO, "id-a") in troubles(a_moment(vm_status("a", rpo_actual_s=None))).unknown
    assert key_of(AlertKind.RPO, "id-a") not in troubles(a_moment(vm_status("a"))).unknown


def test_hosts_runs_plans_and_states():
    gone = HostView(name="office", site="source", uri="x", reachable=False, error="no answer", vms=1)
    moment = a_moment(
        vm_status("a", "error", reason="damaged"),
        hosts=(gone,),
        open_runs=(a_run("b"), a_run("c", id="r2", state="running")),
        stalled_plans=(StalledPlan("p1", "shop", "no"),),
    )
    assert found(moment) == [("host", "office"), ("run", "r1"), ("plan", "p1"), ("protection", "id-a")]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (VaultState.OPEN, []),
        (VaultState.NONE, []),
        (VaultState.AWAY, [("vault", "")]),
        (VaultState.LOCKED, [("vault-locked", "")]),
        (VaultState.UNKNOWN, []),
    ],
)
def test_the_vault(state, expected):
    assert found(a_moment(vm_status(), vault=state)) == expected
    assert (key_of(AlertKind.VAULT, "") in troubles(a_moment(vault=state)).unknown) is (state is VaultState.UNKNOWN)


def test_damage_that_a_check_found_is_told_until_a_later_one_finds_none():
    assert found(a_moment(vm_status(), damaged=3)) == [("vault-damaged", "")]
    assert found(a_moment(vm_status(), damaged=0)) == []


def test_a_host_whose_agent_cannot_use_the_vaults_place():
    told = "s3://office/leeward: the vault's place that was told cannot be used: denied"
    odd = HostView(name="office", site="source", uri="x", reachable=True, error="", vms=1, trouble=told)
    (trouble,) = troubles(a_moment(vm_status(), hosts=(odd,))).found
    assert (trouble.key, trouble.name, trouble.detail) == ("vault-place:office", "office", told)
    assert "vault-place:office" not in troubles(a_moment(vm_status(), hosts=(odd,))).unknown
    # What it told before it fell silent may be over by now.
    silent = odd.model_copy(update={"reachable": False, "error": "its agent does not answer"})
    for one in (silent, silent.model_copy(update={"trouble": ""})):
        moment = a_moment(vm_status(), hosts=(one,))
        assert found(moment) == [("host", "office")]
        assert "vault-place:office" in troubles(moment).unknown


def test_a_full_vault_stays_full_until_there_is_clearly_more_room():
    key = key_of(AlertKind.VAULT_FULL, "")
    for free, was_open, expected in ((101, False, []), (100, False, [key]), (101, True, [key]), (131, True, [])):
        moment = a_moment(vm_status(), room=Room(1000, free), limits=Limits(full=0.9))
        assert [one.key for one in troubles(moment, {key} if was_open else ()).found] == expected, free


def test_while_the_vault_is_away_nobody_knows_how_full_it_is():
    assert key_of(AlertKind.VAULT_FULL, "") in troubles(a_moment(vault=VaultState.AWAY)).unknown


def test_a_drill_is_due_after_the_interval_from_the_last_good_test_or_from_protecting():
    limits = Limits(drill_s=90 * DAY)

    def due(**more):
        return bool(undrilled(a_moment(vm_status("a"), limits=limits, **more)))

    assert due(tested={}, protected={"id-a": NOW - 91 * DAY})
    assert not due(tested={}, protected={"id-a": NOW - 89 * DAY})
    assert not due(tested={"id-a": NOW - 89 * DAY}, protected={"id-a": NOW - 999 * DAY})
    assert due(tested={"id-a": NOW - 91 * DAY}, protected={"id-a": NOW - 999 * DAY})


def test_no_drill_is_due_where_none_is_wanted_or_none_is_possible():
    old = {"tested": {}, "protected": {}}
    assert undrilled(a_moment(vm_status("a"), limits=Limits(drill_s=0), **old)) == []
    assert undrilled(a_moment(vm_status("a", failover_possible=False), **old)) == []


def test_vms_of_a_plan_with_a_schedule_are_told_by_that():
    old = {"tested": {}, "protected": {"id-a": NOW - 91 * DAY, "id-b": NOW - 91 * DAY}}
    drill = a_drill(plan="shop", vm="", vm_id="", vm_ids=["id-a"])
    moment = a_moment(vm_status("a"), vm_status("b"), drills=(drill,), limits=Limits(drill_s=90 * DAY), **old)
    assert found(moment) == [("drill", "id-b"), ("drill-due", "plan:shop")]


def a_drill(**more):
    told = {
        "plan": "", "vm": "a", "vm_id": "id-a", "vm_ids": ["id-a"], "every_s": DAY, "mode": "warn", "window": "",
        "keep_s": 600.0, "last_good": None,
        "next_due": iso(NOW - 1), "overdue": True, "last_drill": None, "last_outcome": "", "last_run": "",
    }  # fmt: skip
    return DrillView(**{**told, **more})


def iso(at):
    return datetime.fromtimestamp(at, UTC).isoformat()


def test_a_vm_with_a_schedule_is_told_by_that_alone():
    never = {"tested": {}, "protected": {}}
    assert found(a_moment(vm_status("a"), drills=(a_drill(),), **never)) == [("drill-due", "id-a")]
    later = a_drill(next_due=iso(NOW + 1), overdue=False)
    assert found(a_moment(vm_status("a"), drills=(later,), **never)) == []


def test_a_drill_that_is_run_by_itself_has_a_day_for_it():
    for late_s, expected in ((1, []), (DAY - 1, []), (DAY, [("drill-due", "id-a")])):
        drill = a_drill(mode="run", next_due=iso(NOW - late_s))
        assert found(a_moment(vm_status("a"), drills=(drill,))) == expected, late_s


def test_a_drill_that_failed_is_told_until_a_test_is_good():
    failed = {"mode": "run", "last_outcome": "failed", "last_drill": iso(NOW - 60)}
    for more, expected in (
        ({}, [("drill-failed", "id-a")]),
        ({"last_good": iso(NOW - 3600)}, [("drill-failed", "id-a")]),
        ({"last_good": iso(NOW - 30)}, []),
        ({"last_outcome": "unproven"}, []),
        ({"last_outcome": ""}, []),
    ):
        assert found(a_moment(vm_status("a"), drills=(a_drill(**{**failed, **more}),))) == expected, more
