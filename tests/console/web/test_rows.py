"""Which rows there are, what they say, and what can be done with them: pure functions on made-up pictures."""

import pytest

from leeward.console.views import HostView, ReplicaView, RunView, StatusView, TestView, VmView
from leeward.console.web.attention import health, matters
from leeward.console.web.language import language_named
from leeward.console.web.possible import Act, of_all, of_vm
from leeward.console.web.rows import PAGE, Level, Wish, all_rows, late, listing, state_of
from leeward.console.web.services import cards
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Moment
from leeward.domain.access import Role
from leeward.domain.lifecycle import Phase
from leeward.domain.protection import ProtectionState
from leeward.wire.messages import PointMessage, PolicyMessage, ProgressMessage

EN = language_named("en")
POINT = PointMessage(id="7", time="2026-01-01T00:00:00.000000Z", consistency="crash", disks=(), bytes=1, epoch=1)
NOW = 1_800_000_000.0


def vm_status(name="db", state="enabled", phase="home", **more):
    protected = state != "disabled"
    values = {
        "vm": name,
        "vm_id": f"id-{name}",
        "host": "office" if phase in ("home", "failing-over", "back") else "site2",
        "state": ProtectionState(state),
        "reason": "",
        "progress": None,
        "rpo_target_s": 5.0 if protected else None,
        "rpo_actual_s": 3.0 if protected else None,
        "verified_at": None,
        "last_point": POINT if protected else None,
        "failover_possible": protected and phase == "home",
        "policy": PolicyMessage() if protected else None,
        "cycles": 0,
        "last_cycle_ms": None,
        "last_cycle_bytes": 0,
        "sent_bytes": 0,
        "spool_bytes": 0,
        "test_failover": None,
        "replica": None,
        "marked_at": None,
        "phase": phase,
        "home": "office",
        "away": "site2" if phase != "home" else "",
    }
    return StatusView(**{**values, **more})


def vm_facts(name="db", unsupported=""):
    return VmView(
        id=f"id-{name}",
        name=name,
        host="office",
        power="running",
        memory_mib=1024,
        vcpus=2,
        disks=[{"name": "vda", "size": 1 << 30}],
        protected=False,
        unsupported=unsupported,
    )


def a_moment(*statuses, **more):
    hosts = (
        HostView(name="office", site="source", uri="x", reachable=True, error="", vms=1),
        HostView(name="site2", site="recovery", uri="x", reachable=True, error="", vms=0),
    )
    values = {
        "number": 1,
        "taken": NOW,
        "statuses": statuses,
        "vms": {one.vm_id: vm_facts(one.vm) for one in statuses},
        "hosts": hosts,
        "tests": (),
        "open_runs": (),
        "tested": {one.vm_id: NOW - 1 for one in statuses},
        "vault": VaultState.OPEN,
    }
    return Moment(**{**values, **more})


def a_test(name="db", **more):
    values = {
        "vm": name,
        "vm_id": f"id-{name}",
        "point": "7",
        "copy_name": f"{name}-test",
        "host": "site2",
        "network": "isolated",
        "steps": [],
        "evidence": {},
        "hydrated": True,
        "done": True,
        "failed": "",
    }
    return TestView(**{**values, **more})


def a_run(name="db", **more):
    values = {
        "id": "r1",
        "vm": name,
        "vm_id": f"id-{name}",
        "kind": "planned",
        "state": "stalled",
        "phase": "failover-stalled",
        "home": "office",
        "away": "site2",
        "point": "latest",
        "by": "anna",
        "created": "2026-01-01T00:00:00Z",
        "ended": None,
        "steps": [],
        "undo": [],
        "reversible": True,
        "cancelling": False,
        "failure": "no space left",
        "rto_s": None,
    }
    return RunView(**{**values, **more})


def shown(status):
    phrase, level = state_of(status)
    return EN.say(phrase), level.value


@pytest.mark.parametrize(
    ("status", "words", "level"),
    [
        (vm_status(state="disabled"), "Disabled", "off"),
        (vm_status(state="replicating"), "Replicating", "busy"),
        (vm_status(), "Enabled", "good"),
        (vm_status(rpo_actual_s=60.0), "Enabled", "warn"),
        (vm_status(state="error"), "Error", "bad"),
        (vm_status(phase="away"), "Failed over – running at site2", "warn"),
        (vm_status(phase="settled"), "Running at site2", "good"),
        (vm_status(phase="settled", state="error"), "Running at site2", "bad"),
        (vm_status(phase="failover-stalled"), "Failover has stalled", "bad"),
        (vm_status(phase="back"), "Home again, not committed", "warn"),
    ],
)
def test_states_as_people_read_them(status, words, level):
    assert shown(status) == (words, level)


def test_every_phase_and_state_has_words_in_every_language():
    for code in ("en", "ja"):
        language = language_named(code)
        for phase in Phase:
            for state in ProtectionState:
                assert language.say(state_of(vm_status(phase=phase.value, state=state.value))[0])


def test_an_rpo_is_missed_only_when_it_is_clearly_so():
    assert not late(vm_status(rpo_actual_s=10.0))
    assert not late(vm_status(rpo_actual_s=15.0))
    assert late(vm_status(rpo_actual_s=15.1))
    assert not late(vm_status(rpo_actual_s=None))
    assert not late(vm_status(rpo_actual_s=999.0, state="paused"))


def test_a_vm_that_was_failed_over_shows_where_it_runs_and_what_is_left_at_home():
    rows = all_rows(a_moment(vm_status(phase="away")))
    assert [(row.kind, row.where) for row in rows] == [("vm", "site2"), ("shadow", "office")]
    assert EN.say(rows[1].state) == "Kept off: it runs at site2"
    assert not rows[1].selectable


def test_a_test_copy_is_a_row_of_the_recovery_site_and_no_vm_of_its_own():
    copy = vm_status("db-test", state="disabled", host="site2")
    rows = all_rows(a_moment(vm_status(), copy, tests=(a_test(),)))
    assert [(row.kind, row.name, row.where) for row in rows] == [("vm", "db", "office"), ("copy", "db-test", "site2")]


def test_a_newer_point_alone_changes_no_row():
    """Of a VM that is replicated each second nothing is sent again but its RPO."""
    newer = POINT.model_copy(update={"id": "8", "time": "2026-01-01T00:00:01.000000Z"})
    before, after = all_rows(a_moment(vm_status())), all_rows(a_moment(vm_status(last_point=newer, rpo_actual_s=1.0)))
    assert before == after


def many(count=120):
    return a_moment(*[vm_status(f"vm{n:03}", "error" if n % 40 == 0 else "enabled") for n in range(count)])


def names(wish, moment=None, ages=None):
    return [row.name for row in listing(all_rows(moment or many()), wish, ages or {}).rows]


def test_long_lists_come_in_pages():
    rows = all_rows(many())
    first = listing(rows, Wish(), {})
    assert (len(first.rows), first.pages, first.found, first.first, first.last) == (PAGE, 3, 120, 1, PAGE)
    last = listing(rows, Wish(page=99), {})
    assert (last.page, len(last.rows), last.last) == (3, 20, 120)
    assert listing([], Wish(page=7), {}).pages == 1


def test_searching_filtering_and_sorting():
    assert names(Wish(words="VM01 office")) == [f"vm01{n}" for n in range(10)]
    assert names(Wish(words="nothing like it")) == []
    assert names(Wish(show="attention")) == ["vm000", "vm040", "vm080"]
    assert names(Wish(host="site2")) == []
    assert names(Wish(sort="name", down=True))[0] == "vm119"
    assert names(Wish(sort="state"))[:4] == ["vm000", "vm040", "vm080", "vm001"]
    assert names(Wish(sort="rpo"), ages={"id-vm007": 99.0, "id-vm008": 9.0})[:2] == ["vm007", "vm008"]


def test_a_wish_as_an_address():
    wish = Wish(words="a b", sort="name", down=True, chosen=("x", "y"))
    assert wish.query() == [("q", "a b"), ("sort", "name"), ("desc", "1"), ("vm", "x"), ("vm", "y")]
    assert Wish().query() == []


# --- what can be done ---------------------------------------------------------------------------------------


def why(act, status, role=Role.OPERATOR, vm=None, run=None):
    reason = of_vm(status, vm, run, role)[act].why
    return None if reason is None else EN.say(reason)


NO_POINT = "There is no recovery point yet; failover opens with the first one."
COPYING = ProgressMessage(phase="copy", done=42, total=100, sent=1, rate=1.0, eta_s=9.0, fraction=0.4299)


@pytest.mark.parametrize(
    ("act", "status", "reason"),
    [
        (Act.ENABLE, vm_status(state="disabled"), None),
        (Act.ENABLE, vm_status(), "It is protected already."),
        (Act.TEST, vm_status(), None),
        (Act.TEST, vm_status(state="disabled"), "It is not protected yet: enable replication first."),
        (Act.TEST, vm_status(test_failover="db-test"), "A test copy of it exists: clean it up first."),
        (
            Act.FAILOVER,
            vm_status(state="replicating", last_point=None, failover_possible=False, progress=COPYING),
            "The first copy is at 42 %; failover opens when it is complete.",
        ),
        (Act.FAILOVER, vm_status(), None),
        (Act.FAILOVER, vm_status(phase="failing-over"), None),  # an unplanned one may take over
        (Act.FAILOVER, vm_status(phase="away"), "It runs at the recovery site, and that is not committed yet."),
        (Act.COMMIT, vm_status(), "There is nothing to commit: it runs at its home site."),
        (Act.COMMIT, vm_status(phase="away"), None),
        (Act.COMMIT, vm_status(phase="back"), None),
        (Act.FAILBACK, vm_status(), "It runs at its home site: fail it over first."),
        (Act.FAILBACK, vm_status(phase="settled"), None),
        (Act.FAILBACK, vm_status(phase="away"), None),  # an unplanned one, should the recovery site be gone
        (Act.FAILBACK, vm_status(phase="back"), "It is home again, and that is not committed yet."),
        (Act.DISABLE, vm_status(phase="away"), "It runs at the recovery site, and that is not committed yet."),
        (Act.DISABLE, vm_status(), None),
        (Act.PAUSE, vm_status(state="paused"), "It is paused already."),
        (Act.RESUME, vm_status(), "It is not paused."),
        (Act.CLEANUP, vm_status(), "There is no test copy of it."),
    ],
)
def test_what_cannot_be_done_says_why(act, status, reason):
    assert why(act, status) == reason
    assert why(act, status, Role.VIEWER) == "Your role is viewer; an operator may do this."


@pytest.mark.parametrize(("state", "reason"), [("warm", None), ("behind", None), ("copying", NO_POINT)])
def test_a_warm_replica_can_be_failed_over_to_when_nobody_can_tell_of_the_vaults_points(state, reason):
    replica = ReplicaView(
        host="site2", point="7", time=POINT.time, lag_s=None, state=state, reason="", bytes=1, fraction=1.0
    )
    unknown = vm_status(last_point=None, failover_possible=False, replica=replica)
    assert why(Act.FAILOVER, unknown) == reason
    assert why(Act.TEST, unknown) == NO_POINT


def test_what_cannot_be_protected_says_why_in_the_hosts_words():
    reason = why(Act.ENABLE, vm_status(state="disabled"), vm=vm_facts(unsupported="a disk is {raw}"))
    assert reason == "It cannot be protected: a disk is {raw}"


def test_of_a_selection_only_what_all_of_it_can_do():
    one, other = of_vm(vm_status(), None, None, Role.ADMIN), of_vm(vm_status(state="paused"), None, None, Role.ADMIN)
    found = {chance.act: chance for chance in of_all([one, other])}
    assert not found[Act.FAILOVER].open
    assert "recovery plan" in EN.say(found[Act.FAILOVER].why)
    assert not found[Act.PAUSE].open
    assert found[Act.TEST].open
    assert all(not chance.open for chance in of_all([]))


# --- home ---------------------------------------------------------------------------------------------------


def told(moment):
    return [(matter.level.value, EN.say(matter.text), matter.href) for matter in matters(moment)]


def test_nothing_needs_attention_when_all_is_well():
    moment = a_moment(vm_status())
    assert told(moment) == []
    assert health(moment).level is Level.GOOD


def test_the_worst_comes_first_each_with_its_one_best_action():
    moment = a_moment(
        vm_status("a", "error", reason="x"),
        vm_status("b", rpo_actual_s=99.0),
        vm_status("c", phase="away"),
        vm_status("d", "disabled"),
        vm_status("e"),
        open_runs=(a_run("f"),),
        tested={f"id-{name}": NOW for name in "abc"},
    )
    assert told(moment) == [
        ("bad", "f: a run has stalled and waits for you.", "/runs/r1"),
        ("bad", "a is not being replicated.", "/vms/id-a"),
        ("warn", "b has missed its RPO target.", "/vms/id-b"),
        ("warn", "c has been moved, and that is not committed yet.", "/do/commit?vm=id-c"),
        ("off", "e has not been tested for 90 days.", "/failover?vm=id-e&type=test"),
        ("off", "d is not protected.", "/enable?vm=id-d"),
    ]
    assert health(moment).level is Level.BAD


def test_many_of_one_kind_are_told_as_a_number():
    moment = a_moment(*[vm_status(f"v{n}", "error") for n in range(9)], tested={})
    assert told(moment)[0] == ("bad", "9 VMs are not being replicated.", "/recovery?show=attention")
    fine = a_moment().hosts
    odd = [host.model_copy(update={"name": f"h{n}", "trouble": "denied"}) for n in range(2) for host in fine]
    assert told(a_moment(hosts=odd))[0] == ("bad", "4 hosts cannot use the place of the vault.", "/hosts")
    one = ("bad", "Host h0 cannot use the place of the vault.", "/hosts#host-h0")
    assert told(a_moment(hosts=[odd[1], fine[0]]))[0] == one


@pytest.mark.parametrize("state", list(VaultState))
def test_a_vault_that_is_not_open_is_told(state):
    found = [text for _, text, href in told(a_moment(vm_status(), vault=state)) if href == "/first-steps/vault"]
    assert bool(found) is (state in (VaultState.NONE, VaultState.LOCKED, VaultState.AWAY))


def test_services_are_on_when_what_they_need_is_there():
    on = {card.key: card.on for card in cards(a_moment(vm_status()), 1)}
    assert on == {"recovery": True, "plans": True, "network": False}
    off = cards(a_moment(vault=VaultState.NONE, hosts=()), 0)
    assert [card.on for card in off] == [False, False, False]
    assert off[0].href == "/services/recovery"
