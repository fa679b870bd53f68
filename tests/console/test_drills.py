"""Drills in a whole console in memory; only the clock is not real."""

import time
from dataclasses import replace

import pytest
from tests.console.caller import Console
from tests.console.plan_world import DB, PlanWorld

from leeward.console import drills
from leeward.console.plan_views import PlanApproveRequest
from leeward.console.views import DrillRequest, FailbackRequest, FailoverRequest
from leeward.domain.drills import CLEAN_AGAIN_S, LONGEST_S
from leeward.domain.errors import BadInput, HypervisorError, NotFound, Refused, StoreUnavailable
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState

pytestmark = pytest.mark.usefixtures("quick")

DAY = 86_400.0
MONTHLY = DrillRequest(every_s=30 * DAY, mode="run", keep_s=600.0)


def failing(why):
    """In the place of something that a host does."""

    def fail(*_, **__):
        raise HypervisorError(why)

    return fail


class Drilled(PlanWorld):
    def __init__(self, folder):
        super().__init__(folder)
        self.ahead = 0.0
        self.minute = 0
        self.protect_all()

    def start_console(self):
        super().start_console()
        self.service.drills.clock = lambda: time.time() + getattr(self, "ahead", 0.0)
        self.service.drills.minute = lambda now: self.minute

    @property
    def drills(self):
        return self.service.drills

    def kinds(self, vm="db"):
        """Of its runs, oldest first."""
        return [run.kind.value for run in self.failovers.runs(DB if vm == "db" else None)][::-1]

    def schedule(self, name="db", request=MONTHLY):
        vm_id = self.service.vm_id(name)
        return self.drills.put(vm_id, request, "anna")

    def tick(self):
        """And wait until what was begun is over."""
        self.drills.tick()
        self.wait(lambda: all(run.state != "running" for run in self.failovers.runs()))

    def view(self, name="db"):
        return next(view for view in self.drills.all() if view.vm == name)


@pytest.fixture
def world(tmp_path):
    made = Drilled(tmp_path)
    yield made
    made.close()


def copies(world):
    return [copy.vm_name for copy in world.fleet.view().copies if copy.purpose == "test"]


def events(world):
    return [event["what"] for event in world.service.events(50) if event["what"].startswith("drill")][::-1]


def test_a_drill_from_first_to_last_and_the_next_one(world):
    assert world.schedule().overdue is True
    world.tick()
    assert (world.kinds(), copies(world)) == (["test"], ["db"])
    world.tick()
    assert world.view().last_outcome == "passed"
    assert world.view().overdue is False
    world.ahead = 601.0
    world.tick()
    assert (world.kinds(), copies(world)) == (["test", "cleanup"], [])
    (shown,) = world.service.evidence.of(DB)
    assert (shown.by, shown.outcome, shown.picture_bytes > 0) == ("drill", "passed", True)
    for days, count in ((29, 2), (31, 3)):
        world.ahead = days * DAY
        world.tick()
        assert len(world.kinds()) == count
    assert events(world) == ["drill scheduled", "drill done"]


def test_only_in_its_window_and_only_one_at_a_time(world):
    world.minute = 12 * 60
    world.schedule(request=MONTHLY.model_copy(update={"window": "22:00-04:00"}))
    world.tick()
    assert world.failovers.runs() == []
    world.schedule("app")
    world.tick()
    assert copies(world) == ["app"]
    world.minute = 23 * 60
    world.tick()
    assert copies(world) == ["app"]
    world.ahead = 700.0
    world.tick()  # cleaned up
    world.tick()
    assert copies(world) == ["db"]


def test_nothing_is_begun_where_something_else_is_under_way(world):
    world.schedule()
    world.service.start_test("db", "latest", "anna")
    world.wait(lambda: world.service.test("db").done)
    world.ahead = 40 * DAY
    world.tick()
    assert (world.kinds(), copies(world)) == (["test"], ["db"])  # somebody's own copy is not touched
    world.service.cleanup_test("db", "anna")
    world.service.set_paused("db", True)
    world.wait(lambda: world.service.status("db")[0].state == "paused")
    world.tick()
    assert world.kinds() == ["test", "cleanup"]
    world.service.set_paused("db", False)
    world.wait(lambda: world.service.status("db")[0].state == "enabled")
    world.tick()
    assert world.kinds() == ["test", "cleanup", "test"]


@pytest.mark.parametrize(
    ("kind", "begun"), [("test", ["front"]), ("planned", [])], ids=["a test holds up its own VMs", "a move all"]
)
def test_a_plan_that_is_not_over_comes_first(world, kind, begun):
    """Also where it has not come to the VM yet: its group waits for an approval."""
    groups = [{"name": "database", "vms": ["db"]}, {"name": "application", "vms": ["app"], "approval": True}]
    world.create(groups=groups)
    world.begin(kind)
    world.until_state("waiting")
    for name in ("app", "front"):
        world.schedule(name)
    world.drills.tick()
    assert [run.vm_name for run in world.failovers.runs() if run.by == "drill"] == begun
    world.plans.runs.approve("shop", PlanApproveRequest(group="application"), "bert")
    world.until_state("done")


def test_a_copy_that_somebody_makes_after_a_drill_is_not_touched(world):
    world.schedule()
    world.tick()
    world.ahead = 700.0
    world.tick()
    world.service.start_test("db", "latest", "anna")
    world.wait(lambda: world.service.test("db").done)
    world.ahead = DAY
    world.tick()
    assert (world.kinds(), copies(world)) == (["test", "cleanup", "test"], ["db"])


def test_a_test_that_begins_while_a_drill_is_cleaned_up_is_not_touched(world):
    world.schedule()
    world.tick()
    world.ahead = 601.0
    cleanup = world.failovers.cleanup

    def too_late(*asked, **more):
        world.failovers.cleanup = cleanup
        world.service.cleanup_test("db", "anna")
        world.service.start_test("db", "latest", "anna")
        return cleanup(*asked, **more)

    world.failovers.cleanup = too_late
    world.tick()
    newest = world.failovers.runs(DB)[0]
    assert (newest.kind, newest.by, newest.state) == ("test", "anna", "done")
    assert copies(world) == ["db"]


def test_a_drill_that_fails_is_seen_and_tried_again(world):
    world.schedule()
    copies_there, start = world.recovery.copies, world.recovery.copies.start
    broken = failing("no memory left")
    copies_there.start = broken
    world.tick()
    world.tick()
    assert world.view().last_outcome == "failed"
    assert world.view().overdue is True
    assert events(world) == ["drill scheduled", "drill failed"]
    world.ahead = 700.0
    world.tick()
    assert copies(world) == []  # what it had made is gone
    copies_there.start = start
    world.tick()
    assert world.kinds() == ["test", "cleanup"]
    world.ahead = 1.1 * DAY
    world.tick()
    assert world.kinds() == ["test", "cleanup", "test"]
    world.tick()  # on that clock the copy has been there for a day
    assert world.kinds() == ["test", "cleanup", "test", "cleanup"]
    assert world.view().last_outcome == "passed"


def test_one_whose_host_goes_away_is_taken_back_once_and_does_not_hold_up_the_others(world):
    world.schedule()
    world.schedule("app")
    world.links[1].cut = True
    world.drills.tick()
    (run,) = world.failovers.runs()
    world.wait(lambda: world.links[1].waiting)  # what has asked nothing of the host yet has nothing to take back
    world.ahead = LONGEST_S + 60.0
    world.drills.tick()
    world.wait(lambda: world.failovers.run(run.id).state == "undoing")
    walks, walk = [], world.engine.walk
    world.engine.walk = lambda run_id: (walks.append(run_id), walk(run_id))
    for _ in range(3):
        world.drills.tick()
    assert (walks, len(world.failovers.runs())) == ([], 1)
    world.ahead += CLEAN_AGAIN_S
    world.drills.tick()
    newest, _ = world.failovers.runs()
    assert (newest.vm_name, walks) == ("app" if run.vm_name == "db" else "db", [newest.id])
    world.links[1].cut = False


@pytest.mark.parametrize("error", [StoreUnavailable("cut"), Refused("somebody was quicker")])
def test_what_could_not_be_begun_just_now_is_no_failed_drill_and_others_go_first(world, error):
    world.schedule()
    world.tick()
    world.ahead = 601.0
    world.tick()
    world.ahead = 31 * DAY
    world.schedule("app")
    before, point_exists = world.view(), world.failovers._point

    def cut(vm_id, *asked):
        if vm_id == DB:
            raise error
        point_exists(vm_id, *asked)

    world.failovers._point = cut
    world.tick()
    assert (world.view(), events(world)) == (before, ["drill scheduled", "drill done", "drill scheduled"])
    world.tick()
    assert copies(world) == ["app"]
    world.failovers._point = point_exists
    world.tick()
    assert world.kinds() == ["test", "cleanup"]
    world.ahead += 301.0
    world.tick()
    assert world.kinds() == ["test", "cleanup", "test"]


def test_a_console_that_dies_before_it_begins_begins_later(world):
    world.schedule()
    test = world.failovers.test

    def dies(*_, **__):
        raise RuntimeError("killed")

    world.failovers.test = dies
    with pytest.raises(RuntimeError):
        world.drills.tick()
    world.failovers.test = test
    world.tick()
    assert world.kinds() == ["test"]


def test_agents_are_asked_once_however_many_schedules_there_are(world):
    asked, report = [], world.links[1].report
    world.links[1].report = lambda: (asked.append(1), report())[1]
    counts = []
    for name in ("db", "app", "front"):
        world.schedule(name, MONTHLY.model_copy(update={"mode": "warn"}))
        asked.clear()
        world.drills.tick()
        counts.append(len(asked))
    assert counts[0] == counts[1] == counts[2] > 0


def test_a_test_that_took_long_counts_although_many_others_were_begun_after_it(world, monkeypatch):
    monkeypatch.setattr(drills, "_SINCE", 2)
    app, front = (world.service.vm_id(name) for name in ("app", "front"))

    def add(run_id, vm_id, created, **more):
        made = Run(run_id, vm_id, "x", Kind.TEST, "office", "recovery", "latest", "anna", created, **more)
        world.database.runs.add(made)

    add("long", DB, 100.0)
    add("done", app, 101.0, state=RunState.DONE, ended=150.0)
    assert world.drills.tested() == {app: 150.0}
    for number in range(3):
        add(f"{number}", front, 200.0 + number, state=RunState.DONE, ended=300.0 - number)
    assert world.drills.tested() == {app: 150.0, front: 299.0}  # of the newest two, the last that ended
    world.database.runs.replace("long", lambda run: replace(run, state=RunState.DONE, ended=400.0))
    assert world.drills.tested()[DB] == 400.0


def test_one_that_only_tells(world):
    world.schedule(request=MONTHLY.model_copy(update={"mode": "warn"}))
    world.tick()
    assert world.failovers.runs() == []
    assert world.view().overdue is True


def test_schedules_are_changed_and_removed(world):
    first = world.schedule()
    again = world.schedule(request=DrillRequest(every_s=7 * DAY, window="1:00-2:00"))
    assert (again.every_s, again.mode, again.window) == (7 * DAY, "warn", "01:00-02:00")
    assert again.next_due == first.next_due
    world.drills.remove(DB, "db", "anna")
    world.drills.remove(DB, "db", "anna")
    assert world.drills.all() == []
    assert events(world) == ["drill scheduled", "drill scheduled", "drill no longer scheduled"]
    with pytest.raises(NotFound):
        world.schedule("bare")


def test_a_schedule_that_is_removed_leaves_no_copy(world):
    world.schedule()
    world.tick()
    world.drills.remove(DB, "db", "anna")
    assert (world.drills.all(), copies(world)) == ([], ["db"])
    world.tick()
    assert copies(world) == ["db"]
    world.ahead = 601.0
    world.tick()
    assert (world.kinds(), copies(world)) == (["test", "cleanup"], [])
    world.ahead += CLEAN_AGAIN_S
    world.tick()
    assert world.database.drills.all() == []
    assert events(world) == ["drill scheduled", "drill no longer scheduled", "drill done"]


def test_a_schedule_that_is_made_again_knows_its_copy_and_begins_anew(world):
    world.schedule()
    world.tick()
    world.drills.remove(DB, "db", "anna")
    world.ahead = 601.0
    (kept,) = world.database.drills.all()
    world.schedule()
    (again,) = world.database.drills.all()
    assert (again.run_id, again.schedule.since - kept.schedule.since > 600.0) == (kept.run_id, True)
    world.tick()
    assert copies(world) == []


@pytest.mark.parametrize(
    "wrong", [{"every_s": 60}, {"every_s": 1e12}, {"keep_s": -1}, {"keep_s": 1e9}, {"window": "x"}]
)
def test_what_cannot_be_scheduled(world, wrong):
    with pytest.raises(BadInput) as raised:
        world.schedule(request=MONTHLY.model_copy(update=wrong))
    assert raised.value.subject == next(iter(wrong))


def test_the_api(tmp_path):
    console = Console(tmp_path)
    try:
        console.world.protect()
        anna, victor = console.user("anna", "operator"), console.user("victor", "viewer")
        wanted = {"every_s": 30 * DAY, "mode": "run", "window": "22:00-04:00"}
        assert victor.put("/vms/web/drill", wanted).status_code == 403
        made = anna.put("/vms/web/drill", wanted)
        assert made.status_code == 200, made.text
        assert victor.get("/drills").json() == [made.json()]
        for bad in ({**wanted, "mode": "x"}, {**wanted, "every_s": 1}, {"mode": "run"}, {**wanted, "window": "9"}):
            assert anna.put("/vms/web/drill", bad).status_code == 422, bad
        assert anna.delete("/vms/web/drill").json() == {"vm": "web", "drill": None}
        assert victor.get("/drills").json() == []
    finally:
        console.close()


def test_of_a_portal_and_a_console_that_is_back_the_one_tests_a_vm_that_has_moved_it(world):
    world.schedule()
    world.start_portal()
    portal = world.parts
    world.ahead = 2 * DAY  # the portal's first one is due

    def tests(parts):
        """Begun by one look."""
        parts.service.drills.clock = lambda: time.time() + world.ahead
        parts.service.drills.minute = lambda now: 0
        before = len(parts.failovers.runs(DB))
        parts.service.drills.tick()
        world.wait(lambda: all(run.state != "running" for run in parts.failovers.runs()))
        return [run.kind.value for run in parts.failovers.runs(DB)][: len(parts.failovers.runs(DB)) - before]

    def until(parts, phase):
        world.wait(lambda: parts.failovers.life(DB, "db").phase is phase)
        world.wait(lambda: parts.service.status("db")[0].state == "enabled")

    assert tests(portal) == []  # it has no agent of the host where the VM runs
    portal.service.failover("db", Event.UNPLANNED, FailoverRequest())
    until(portal, Phase.AWAY)
    world.start_console()
    console = world.parts
    assert console.learner.look() == ["db"]
    until(console, Phase.AWAY)
    assert tests(console) == []
    world.ahead += 400.0
    console.service.commit("db")  # that moves nothing
    until(console, Phase.SETTLED)
    assert tests(console) == []
    assert tests(portal) == ["test"]
    world.ahead += 700.0
    assert tests(portal) == ["cleanup"]
    console.service.failback("db", FailbackRequest())
    world.wait(lambda: console.failovers.life(DB, "db").phase is Phase.BACK)
    console.service.commit("db")
    until(console, Phase.HOME)
    world.ahead += 400.0
    assert tests(console) == ["test"]
    assert tests(portal) == []
    portal.stop()


def test_a_drill_waits_where_the_vault_does_not_tell_who_has_moved_its_vm(world):
    world.schedule()
    world.schedule("app")
    elsewhere = world.drills._elsewhere

    def away(vm_id):
        if vm_id == DB:
            raise StoreUnavailable("the line to the vault is cut")
        return elsewhere(vm_id)

    world.drills._elsewhere = away
    world.tick()
    world.tick()
    assert copies(world) == ["app"]  # it holds up no other
    world.drills._elsewhere = elsewhere
    world.ahead = 700.0
    world.tick()
    world.tick()
    assert copies(world) == ["db"]
