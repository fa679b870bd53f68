"""Drills of recovery plans in a whole console in memory; only the clock is not real."""

import threading
import time
from contextlib import suppress

import pytest
from tests.console.plan_world import DB, SHOP, Killed
from tests.console.test_drills import DAY, MONTHLY, Drilled, copies, events, failing

from leeward.console.drill_documents import adopted_schedule
from leeward.console.plan_views import PlanRetryRequest
from leeward.console.views import DrillRequest
from leeward.domain.drills import CLEAN_AGAIN_S, LONGEST_S, Mode, subject_of
from leeward.domain.errors import BadInput, NotFound, Refused, StoreUnavailable

pytestmark = pytest.mark.usefixtures("quick")

MONTH = 30 * DAY
PROVEN = [
    {"name": "database", "vms": ["db"], "checks": [{"vm": "db", "kind": "agent"}]},
    {"name": "application", "vms": ["app", "front"]},
]


class Planned(Drilled):
    def plan_drill(self, request=MONTHLY, **changes):
        self.create(**changes)
        return self.drills.put_plan("shop", request, "anna")

    def tick(self):
        """And wait until what was begun is over."""
        self.drills.tick()
        self.settle()

    def settle(self):
        still = ("running", "undoing")
        self.wait(lambda: all(run.state not in still for run in self.failovers.runs()), 40)
        self.wait(lambda: not self.engine.walking(), 40)

    def plan_view(self):
        return self.drills.of_plan("shop")

    def runs(self):
        """Of the plan, oldest first: (kind, state, by)."""
        return [(run.kind.value, run.state.value, run.by) for run in self.plans.runs.all("shop")][::-1]


@pytest.fixture
def world(tmp_path):
    made = Planned(tmp_path)
    yield made
    made.close()


DONE, CLEANED = ("test", "done", "drill"), ("test", "cleaned", "drill")


def test_a_drill_of_a_plan_from_first_to_last_and_the_next_one(world):
    view = world.plan_drill(groups=PROVEN)
    assert (view.plan, view.vm, view.overdue, len(view.vm_ids)) == ("shop", "", True, 3)
    world.tick()
    assert (world.runs(), sorted(copies(world))) == ([DONE], ["app", "db", "front"])
    world.tick()
    view = world.plan_view()
    assert (view.last_outcome, view.overdue, view.last_good is None) == ("passed", False, False)
    assert view.last_run == world.plans.runs.all("shop")[0].id
    world.ahead = 590.0
    world.tick()
    assert world.runs() == [DONE]
    world.ahead = 605.0
    world.tick()
    assert (world.runs(), copies(world)) == ([CLEANED], [])
    for days, found in ((29, [CLEANED]), (31, [CLEANED, DONE])):
        world.ahead = days * DAY
        world.tick()
        assert world.runs() == found
    assert events(world) == ["drill scheduled", "drill done"]
    # Its VMs count as tested, each with its evidence.
    tested = world.drills.tested()
    assert all(tested[world.service.vm_id(name)] > 0 for name in ("db", "app", "front"))
    newest, _ = world.service.evidence.of(DB)
    assert (newest.by, newest.plan, newest.outcome) == ("drill", "shop", "passed")


def test_only_in_its_window_and_not_beside_a_drill_of_a_vm(world):
    world.minute = 12 * 60
    world.plan_drill(MONTHLY.model_copy(update={"window": "22:00-04:00"}))
    world.schedule("db")
    world.tick()
    assert (world.runs(), copies(world)) == ([], ["db"])
    world.minute = 23 * 60
    world.tick()
    assert world.runs() == []
    world.ahead = 700.0
    world.tick()  # cleaned up
    world.tick()
    assert world.runs() == [DONE]
    # The VM's own schedule waits for the plan's copies to go, although it is due.
    world.drills.put(DB, MONTHLY.model_copy(update={"every_s": 3600.0}), "anna")
    world.ahead = 2 * 3600.0
    world.drills.tick()
    world.settle()
    assert ("cleanup" in world.kinds(), copies(world)) == (True, [])
    world.tick()
    assert copies(world) == ["db"]


def test_a_test_that_somebody_makes_counts(world):
    world.plan_drill()
    world.begin("test")
    world.until_state("done")
    assert world.plan_view().overdue is False
    world.tick()
    assert world.runs() == [("test", "done", "anna")]
    world.ahead = 31 * DAY
    begin, asked = world.plans.runs.begin, []
    world.plans.runs.begin = lambda *given, **more: asked.append(given)
    world.tick()
    assert (world.runs(), asked) == ([("test", "done", "anna")], [])  # somebody's own copies are not touched
    world.plans.runs.begin = begin
    world.ask("cleanup")
    world.until_state("cleaned")
    world.tick()
    assert world.runs()[1:] == [DONE]


def test_a_plan_that_gets_its_schedule_or_its_name_after_it_was_tested_is_not_due(world):
    """Who looks often keeps for a while what was tested, and asks for the schedules anew."""
    world.create()
    world.begin("test")
    world.until_state("done")
    kept = world.drills.tested()
    world.drills.put_plan("shop", MONTHLY, "anna")
    (view,) = world.drills.all(kept)
    assert (view.overdue, view.last_good is None) == (False, False)
    kept = world.drills.tested()
    world.plans.change("shop", {**SHOP, "name": "store"}, None, "anna")
    (view,) = world.drills.all(kept)
    assert (view.plan, view.overdue) == ("store", False)


def test_tests_that_were_no_good_are_read_once_not_at_each_look(world):
    world.plan_drill()
    read, asked = world.database.plans.plan_run, []
    world.database.plans.plan_run = lambda run_id: asked.append(run_id) or read(run_id)
    there, start = world.recovery.copies, world.recovery.copies.start

    def looks():
        """→ how many runs are read at the next look, and at the one after it."""
        found = []
        for _ in range(2):
            asked.clear()
            world.drills.tested()
            found.append(len(asked))
        return found

    for count in range(3):
        there.start = failing("no memory left")
        world.begin("test")
        world.until_state("stalled")
        world.settle()
        assert looks() == [1, 0], count
        world.ask("cleanup")
        world.until_state("cleaned")
        world.settle()
        assert looks() == [1, 0], count
        assert world.plan_view().overdue
    there.start = start
    world.begin("test")
    world.until_state("done")
    assert (looks(), world.plan_view().overdue) == ([1, 0], False)


def test_copies_that_somebody_makes_after_a_drill_are_not_touched(world):
    world.plan_drill()
    world.tick()
    world.ask("cleanup")
    world.until_state("cleaned")
    world.service.start_test("db", "latest", "anna")
    world.wait(lambda: world.service.test("db").done)
    world.ahead = DAY
    asked = []
    world.plans.runs.cleanup = lambda *given: asked.append(given)
    world.tick()
    assert (copies(world), asked) == (["db"], [])


def test_an_approval_is_given_by_the_drill(world):
    groups = [{"name": "database", "vms": ["db"]}, {"name": "application", "vms": ["app"], "approval": True}]
    world.plan_drill(groups=groups)
    world.drills.tick()
    world.until_state("waiting")
    world.tick()
    run = world.until_state("done")
    assert [step.by for step in run.steps if step.act == "approve"] == ["drill"]
    world.tick()
    assert world.plan_view().last_outcome == "passed"


def test_a_drill_that_stalls_is_seen_cleaned_up_and_tried_again(world):
    world.plan_drill()
    there, start = world.recovery.copies, world.recovery.copies.start
    broken = failing("no memory left")
    there.start = broken
    world.tick()
    world.until_state("stalled")
    world.tick()
    view = world.plan_view()
    assert (view.last_outcome, view.overdue) == ("failed", True)
    world.ahead = 700.0
    world.tick()
    assert (world.runs(), copies(world)) == ([CLEANED], [])
    there.start = start
    world.tick()
    assert len(world.runs()) == 1
    world.schedule("db", MONTHLY.model_copy(update={"every_s": 40 * DAY}))
    world.tick()
    assert world.kinds()[-1] == "test"  # what the plan's drill left behind does not hold up the VM's
    assert copies(world) == ["db"]
    world.ahead = 1.1 * DAY
    world.tick()
    world.tick()
    assert world.runs()[1:] == [DONE]
    world.tick()
    assert world.plan_view().last_outcome == "passed"
    assert events(world) == ["drill scheduled", "drill failed", "drill scheduled", "drill done", "drill done"]


def test_one_that_has_stalled_and_is_retried_by_somebody_is_left_to_them(world):
    world.plan_drill(MONTHLY.model_copy(update={"keep_s": DAY}))
    there, start = world.recovery.copies, world.recovery.copies.start
    broken = failing("no memory left")
    there.start = broken
    world.tick()
    world.until_state("stalled")
    world.tick()
    there.start = start
    world.ahead = LONGEST_S + 60.0
    go, retried = threading.Event(), threading.Event()

    def slow(*given, **more):
        retried.set()
        assert go.wait(20)
        return start(*given, **more)

    there.start = slow
    world.plans.runs.retry("shop", PlanRetryRequest(), "anna")
    assert retried.wait(20)
    world.drills.tick()
    go.set()
    world.until_state("done")


def test_one_that_stalls_before_there_is_a_copy_holds_up_nothing_for_good(world):
    world.plan_drill()
    there, build = world.recovery.copies, world.recovery.copies.build
    broken = failing("no room left")
    there.build = broken
    world.tick()
    world.until_state("stalled")
    world.tick()
    there.build = build
    assert (world.plan_view().last_outcome, copies(world)) == ("failed", [])
    world.schedule("db")
    world.tick()
    assert copies(world) == []  # it keeps its time, for who wants to look
    world.ahead = 700.0
    world.tick()
    assert world.runs() == [CLEANED]
    world.tick()
    assert copies(world) == ["db"]


def test_one_that_does_not_come_up_is_aborted_and_its_copies_go(world):
    world.plan_drill()
    world.links[1].cut = True
    world.drills.tick()
    world.wait(lambda: world.failovers.runs())
    world.ahead = LONGEST_S + 60.0
    world.drills.tick()
    world.until_state("aborting")
    world.links[1].cut = False
    world.until_state("aborted")
    world.settle()
    world.drills.tick()
    assert world.plan_view().last_outcome == "undone"
    world.ahead += 700.0
    world.tick()
    assert copies(world) == []


@pytest.mark.parametrize("error", [StoreUnavailable("cut"), Refused("somebody was quicker")])
def test_what_could_not_be_begun_just_now_is_no_failed_drill(world, error):
    world.plan_drill()
    begin, before = world.plans.runs.begin, world.plan_view()

    def cut(*_, **__):
        raise error

    world.plans.runs.begin = cut
    world.tick()
    assert (world.plan_view(), world.runs()) == (before, [])
    world.plans.runs.begin = begin
    world.tick()
    assert world.runs() == []
    world.ahead = 301.0
    world.tick()
    assert world.runs() == [DONE]


def test_a_plan_whose_vms_are_not_all_well_waits(world):
    world.plan_drill()
    world.service.set_paused("front", True)
    world.wait(lambda: world.service.status("front")[0].state == "paused")
    world.tick()
    assert world.runs() == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 4, 7])
def test_a_console_that_dies_at_a_write_goes_on_with_the_same_drill(world, write, after):
    """From the drill's own note to the plan's run and those of its VMs: one test, which is cleaned up."""
    world.plan_drill()
    fate = world.fate
    note = world.database.drills.note
    world.database.drills.note = fate.fatal(note)
    fate.after, fate.at = after, fate.writes + write
    with suppress(Killed):
        world.drills.tick()
    assert world.wait(fate.dead.is_set)
    world.revive()
    for _ in range(3):
        world.tick()
        if world.runs():
            world.until_state("done")
    assert world.runs() == [DONE]
    assert sorted(copies(world)) == ["app", "db", "front"]
    assert [run.kind.value for run in world.failovers.runs()] == ["test"] * 3
    assert world.plan_view().last_outcome in ("passed", "unproven")
    world.ahead = 700.0
    fate = world.fate
    fate.after, fate.at = after, fate.writes + write
    with suppress(Killed):
        world.drills.tick()
    world.wait(fate.dead.is_set)
    world.revive()
    for _ in range(2):
        world.tick()
        world.ahead += CLEAN_AGAIN_S
    assert (world.runs(), copies(world)) == ([CLEANED], [])


def test_schedules_are_changed_and_removed(world):
    world.plan_drill()
    again = world.drills.put_plan("shop", DrillRequest(every_s=7 * DAY, window="1:00-2:00"), "anna")
    assert (again.every_s, again.mode, again.window) == (7 * DAY, "warn", "01:00-02:00")
    world.tick()
    assert world.runs() == []  # it only tells
    for _ in range(2):
        world.drills.remove_plan("shop", "anna")
    assert world.drills.all() == []
    assert events(world) == ["drill scheduled", "drill scheduled", "drill no longer scheduled"]
    for asked in (
        lambda: world.drills.put_plan("nobody", MONTHLY, "anna"),
        lambda: world.drills.remove_plan("x", "a"),
    ):
        with pytest.raises(NotFound):
            asked()
    with pytest.raises(BadInput):
        world.drills.put_plan("shop", MONTHLY.model_copy(update={"window": "x"}), "anna")


def test_a_plan_that_gets_another_vm_is_due_again_and_one_that_loses_one_is_not(world):
    world.plan_drill(groups=[{"name": "database", "vms": ["db", "app"]}])
    world.tick()
    assert world.plan_view().overdue is False
    world.plans.replace("shop", {**SHOP, "groups": [{"name": "database", "vms": ["db"]}]}, "anna")
    assert world.plan_view().overdue is False
    world.plans.replace("shop", SHOP, "anna")
    assert world.plan_view().overdue is True


def test_a_plan_that_is_renamed_keeps_its_schedule_and_its_copies_go(world):
    world.plan_drill()
    world.tick()
    world.plans.change("shop", {**SHOP, "name": "store"}, None, "anna")
    assert world.drills.of_plan("shop") is None
    assert world.drills.of_plan("store").overdue is False
    world.ahead = 700.0
    world.tick()
    assert copies(world) == []


def alike(view):
    return view.plan, view.vm, view.every_s, view.mode, view.window, view.keep_s


def test_a_console_that_knows_nothing_but_the_vault_has_the_schedules_of_vms_and_plans(world):
    weekly = DrillRequest(every_s=7 * DAY, mode="run", window="22:00-04:00", keep_s=60.0)
    world.schedule("db", weekly)
    world.schedule("app")
    world.schedule("front")
    world.drills.remove(world.service.vm_id("front"), "front", "anna")
    world.plan_drill()
    world.plans.change("shop", {**SHOP, "name": "store"}, None, "anna")
    world.plans.create({"name": "other", "groups": [{"name": "x", "vms": ["db"]}]}, "anna")
    world.drills.put_plan("other", MONTHLY, "anna")
    world.drills.remove_plan("other", "anna")
    known = sorted(map(alike, world.drills.all()))
    assert [(plan, vm) for plan, vm, *_ in known] == [("", "app"), ("", "db"), ("store", "")]
    world.start_portal()
    assert sorted(map(alike, world.drills.all())) == known
    world.drills.clock = lambda: time.time() + world.ahead
    world.drills.minute = lambda now: 23 * 60
    world.tick()
    assert (world.failovers.runs(), [view.overdue for view in world.drills.all()]) == ([], [False] * 3)
    world.ahead = DAY + 60.0
    assert [view.overdue for view in world.drills.all()] == [True] * 3


def test_what_the_vault_was_not_told_it_is_told_by_the_next_console(world):
    world.plan_drill()
    world.schedule("db")
    vault = world.open_vault_of_console()
    for kind in ("drill", "plans"):
        vault.put_document(DB, kind, {})
    world.drills.tell_again(vault)
    assert vault.document(DB, "drill")["every_s"] == MONTHLY.every_s
    assert vault.document(DB, "plans")["drills"]["shop"]["mode"] == "run"
    newest = [info.key for info in vault.store.scan(f"vm/{DB}/doc/drill.")][-1]
    damaged = vault.store.get(newest)[:-8] + bytes(8)
    vault.store.delete(newest)
    vault.store.put(newest, [damaged])
    world.drills.tell_again(vault)
    assert vault.document(DB, "drill")["every_s"] == MONTHLY.every_s
    written = []
    vault.put_document = lambda *told: written.append(told)
    world.drills.tell_again(vault)
    assert written == []


@pytest.mark.parametrize("document", [{"every_s": 1.0}, {"every_s": 7 * DAY, "window": "x"}, {"mode": 3}, [1]])
def test_a_schedule_in_the_vault_that_means_nothing_is_none(document):
    assert adopted_schedule(DB, document, 0.0) is None


def test_a_plan_that_is_deleted_takes_its_schedule_with_it_and_leaves_no_copy(world):
    world.plan_drill()
    world.tick()
    world.plans.delete("shop", "anna")
    assert world.drills.all() == []
    (kept,) = world.database.drills.all()
    assert (kept.schedule.subject, kept.schedule.mode) == (subject_of("shop"), Mode.OFF)
    # Meanwhile another plan must not take its name: of two rows one would be forgotten.
    world.plans.create({**SHOP, "name": "other"}, "anna")
    world.drills.put_plan("other", MONTHLY.model_copy(update={"mode": "warn"}), "anna")
    with pytest.raises(Refused, match="still being cleaned up"):
        world.plans.change("other", SHOP, None, "anna")
    world.ahead = 700.0
    world.tick()
    assert copies(world) == []
    world.ahead += CLEAN_AGAIN_S
    world.tick()
    world.plans.change("other", SHOP, None, "anna")
    assert world.drills.of_plan("shop").mode == "warn"
