"""What is decided on the pages, asked for as a page does and carried out by a whole Leeward in memory."""

import re
import time
from dataclasses import replace

import pytest
from tests.console.plan_world import APP, BARE, DB, FRONT

from leeward.console.web.curves import SAMPLE_S
from leeward.domain.lifecycle import Phase
from leeward.domain.runs import RunState

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def operator(stand):
    return stand.as_role("operator", "anna")


@pytest.fixture
def protected(stand):
    stand.world.protect_all()
    return stand


def beside(answer, name):
    """What is said beside a field."""
    found = re.search(rf'id="why-{name}">(.*?)</p>', answer.text, re.S)
    return re.sub(r"<[^>]*>", "", found[1]).strip() if found else ""


def until(condition, seconds=20.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def until_phase(stand, name, phase):
    until(lambda: stand.service.status(name)[0].phase == phase)


# --- enabling -----------------------------------------------------------------------------------------------


def test_replication_is_enabled_for_several_at_once(stand, operator):
    page = operator.get(f"/enable?vm={DB}&vm={APP}").text
    assert page.count('name="vm"') == 2
    assert 'name="rpo_s" type="text" value="5s"' in page
    form = {"vm": [DB, APP], "rpo_s": "1s", "retain_s": "2d", "bandwidth": "7"}
    assert operator.post("/enable", form).headers["hx-redirect"] == "/recovery?show=protected"
    wishes = {wish.vm_id: wish.policy for wish in stand.database.desired().protections}
    assert set(wishes) == {DB, APP}
    assert (wishes[DB].rpo_s, wishes[DB].retain_s, wishes[DB].bandwidth) == (1.0, 172_800.0, 7 << 20)
    entry = next(entry for entry in stand.audit() if entry["what"] == "protect")
    assert (entry["who"], entry["subject"], entry["outcome"]) == ("anna", "db, app", "done")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rpo_s", "soon", "Write it like 5s"),
        ("rpo_s", "0s", "At least 1s."),
        ("rpo_s", "2d", "At most 1d."),
        ("retain_s", "1s", "At least 1min."),
        ("bandwidth", "-1", "Write a whole number."),
        ("bandwidth", "99999999999", "At most"),
    ],
)
def test_a_policy_that_cannot_be_is_said_beside_its_field(shared, field, value, words):
    before = shared.database.desired()
    operator = shared.as_role("operator")
    form = {"vm": DB, "rpo_s": "3s", "retain_s": "7d", "hourly_s": "0s", "app_interval_s": "1h", field: value}
    answer = operator.post("/enable", form)
    assert answer.status_code == 422
    assert words in beside(answer, field)
    for name in ("rpo_s", "retain_s", "hourly_s", "app_interval_s"):
        assert f'name="{name}" type="text" value="{form[name]}"' in answer.text
    assert shared.database.desired() == before


def test_a_policy_is_shown_as_it_is_and_changed(protected, operator):
    page = operator.get(f"/enable?vm={DB}").text
    assert 'name="rpo_s" type="text" value="1s"' in page
    assert operator.post("/enable", {"vm": DB, "rpo_s": "2min"}).headers["hx-redirect"] == f"/vms/{DB}"
    assert protected.service.status("db")[0].rpo_target_s == 120.0


def test_pausing_resuming_and_disabling(protected, operator):
    operator.post("/do/pause", {"vm": [DB, APP]})
    assert {wish.vm_name: wish.paused for wish in protected.database.desired().protections} == {
        "app": True,
        "db": True,
        "front": False,
    }
    operator.post("/enable", {"vm": DB, "rpo_s": "2min"})  # another policy is no leave to go on
    assert [wish.paused for wish in protected.database.desired().protections if wish.vm_id == DB] == [True]
    operator.post("/do/resume", {"vm": [DB, APP]})
    assert not any(wish.paused for wish in protected.database.desired().protections)
    operator.post("/do/disable", {"vm": APP})
    assert {wish.vm_name for wish in protected.database.desired().protections} == {"db", "front"}


def test_what_fails_for_one_of_several_is_told_and_the_rest_is_left(protected, operator):
    answer = operator.post("/do/test", {"vm": [DB, BARE, FRONT]})
    assert answer.status_code == 404
    assert "bare: " in answer.text
    assert 'value="' + DB not in answer.text
    assert all(f'name="vm" value="{vm}"' in answer.text for vm in (BARE, FRONT))


# --- failing over -------------------------------------------------------------------------------------------


def test_the_failover_page_explains_all_before_anything_happens(shared):
    operator = shared.as_role("operator")
    page = operator.get(f"/failover?vm={DB}").text
    for words in (
        "Test failover",
        "Planned failover",
        "Unplanned failover",
        "Nothing is lost",
        "What came after it is",
    ):
        assert words in page
    steps = re.findall(r'<span class="step-text">([^<]*)', page)
    assert steps[1] == "Shut the VM down at home"
    assert "From here on there is no way back" in page
    unplanned = operator.get(f"/failover?vm={DB}&type=unplanned").text
    assert "Stop the VM at home, if home can be reached" in unplanned
    assert "The newest point" in unplanned
    assert shared.failovers_begun() == []


def test_a_failover_has_to_be_confirmed_by_typing_the_vms_name(shared):
    operator = shared.as_role("operator")
    form = {"vm": DB, "type": "planned", "timeout": "2min", "force": "1"}
    for typed in ("", "DB", "something"):
        answer = operator.post("/failover", {**form, "confirm": typed})
        assert answer.status_code == 422
        assert "db" in beside(answer, "confirm")
        assert 'name="timeout" type="text" value="2min"' in answer.text
        assert re.search(r'name="force" value="1" checked', answer.text)
    assert beside(operator.post("/failover", {**form, "confirm": "db", "timeout": "2d"}), "timeout") != ""
    assert operator.post("/failover", {"vm": DB, "type": "nonsense"}).status_code == 422
    assert shared.failovers_begun() == []


def test_a_vm_goes_there_and_comes_back_by_clicks(protected, operator):
    answer = operator.post("/failover", {"vm": DB, "type": "planned", "confirm": "db"})
    run_page = answer.headers["hx-redirect"]
    assert re.fullmatch(r"/runs/\w+", run_page)
    until_phase(protected, "db", Phase.AWAY)
    page = operator.get(run_page).text
    assert "Is the VM as it should be?" in page
    assert page.count('class="step done"') == 10
    listed = operator.get("/recovery").text
    assert "Failed over – running at recovery" in listed
    assert "Kept off: it runs at recovery" in listed
    assert operator.post("/do/failback", {"vm": DB, "type": "failback"}).status_code == 409
    assert operator.post("/do/commit", {"vm": DB}).status_code == 204
    until_phase(protected, "db", Phase.SETTLED)
    until(lambda: protected.service.status("db")[0].state == "enabled")
    assert operator.post("/do/failback", {"vm": DB}).status_code == 204
    until_phase(protected, "db", Phase.BACK)
    assert "Delete the old disks at home" in operator.get(f"/do/commit?vm={DB}").text
    assert operator.post("/do/commit", {"vm": DB}).status_code == 204
    until_phase(protected, "db", Phase.HOME)
    until(lambda: "Commit of a failback done" in operator.get(f"/vms/{DB}").text)  # written after the VM has moved
    history = operator.get(f"/vms/{DB}").text
    for words in ("Planned failover begun", "Planned failover done", "Failback done", "Commit of a failback done"):
        assert words in history


def test_a_vm_comes_home_although_the_recovery_site_is_gone(protected, operator):
    operator.post("/failover", {"vm": DB, "type": "planned", "confirm": "db"})
    until_phase(protected, "db", Phase.AWAY)
    until(lambda: protected.service.status("db")[0].state == "enabled")
    # While its recovery site is there nothing unplanned is offered by itself, though a planned one has to wait.
    page = operator.get(f"/do/failback?vm={DB}").text
    assert re.search(r'value="failback" checked', page)
    assert re.search(r'<button class="danger" disabled', page)
    protected.world.recovery.stop_agent()
    until(lambda: 'value="unplanned-failback" checked' in operator.get(f"/do/failback?vm={DB}").text)
    page = operator.get(f"/do/failback?vm={DB}").text
    assert "that is not committed yet" in page
    assert "Close the log to the recovery site" in page
    form = {"vm": DB, "type": "unplanned-failback"}
    assert "db" in beside(operator.post("/do/failback", {**form, "confirm": "d"}), "confirm")
    answer = operator.post("/do/failback", {**form, "confirm": "db"})
    assert answer.status_code == 204, answer.text
    until_phase(protected, "db", Phase.BACK)
    assert "Unplanned failback of db" in operator.get(answer.headers["hx-redirect"]).text
    protected.world.recovery.start_agent()


@pytest.mark.parametrize("wrong", ["2h", "0s", "soon"])
def test_a_time_that_no_guest_is_given_is_said_beside_its_field(protected, operator, wrong):
    operator.post("/failover", {"vm": DB, "type": "planned", "confirm": "db"})
    until_phase(protected, "db", Phase.AWAY)
    protected.world.create()
    for path, form in (
        ("/do/failback", {"vm": DB, "type": "failback"}),
        ("/failover", {"vm": APP, "type": "planned", "confirm": "app"}),
        ("/plans/shop/start", {"type": "planned", "confirm": "shop"}),
    ):
        answer = operator.post(path, {**form, "timeout": wrong})
        assert answer.status_code == 422, path
        assert beside(answer, "timeout") in ("From 1 second to 1 hour.", "Write it like 5s, 10min, 2h or 7d.")
        assert f'name="timeout" type="text" value="{wrong}"' in answer.text
    assert len(protected.failovers_begun()) == 1


def test_a_test_failover_and_its_end(protected, operator):
    answer = operator.post("/failover", {"vm": DB, "type": "test"})
    run_page = answer.headers["hx-redirect"]
    until(lambda: protected.service.test("db").done)
    assert "Seen enough?" in operator.get(run_page).text
    vm_page = operator.get(f"/vms/{DB}").text
    assert "Test copy" in vm_page
    assert "its agent answers" in vm_page
    assert "test copy of db is running" in operator.get("/").text
    refused = operator.post("/failover", {"vm": DB, "type": "test"})
    assert refused.status_code == 409
    assert "A test failover exists already" in refused.text
    assert operator.post("/do/cleanup", {"vm": DB}).status_code == 204
    until(lambda: protected.world.fleet.view().copy(DB, "test") is None)
    protected.watch._slow = 0.0
    assert ">never<" not in re.search(r'id="vm-facts".*?</section>', operator.get(f"/vms/{DB}").text, re.S)[0]


@pytest.mark.parametrize("path", ["/failover", "/do/test"])
def test_who_begins_a_test_is_led_to_it_whatever_else_begins_meanwhile(protected, operator, path):
    test = protected.world.failovers.test

    def and_somebody_elses(*given):
        run = test(*given)
        protected.database.runs.add(replace(run, id="other", created=run.created + 1, state=RunState.DONE))
        return run

    protected.world.failovers.test = and_somebody_elses
    answer = operator.post(path, {"vm": DB, "type": "test"})
    (begun,) = [run for run in protected.world.failovers.runs(DB) if run.id != "other"]
    assert answer.headers["hx-redirect"] == f"/runs/{begun.id}"


def test_a_chosen_point_is_the_one_that_comes_up(protected, operator):
    points = protected.vault.log(DB).points()
    page = operator.get(f"/failover?vm={DB}&type=unplanned&point={points[0].id}").text
    assert f"Point {points[0].id}, chosen from the timeline" in page
    answer = operator.post("/failover", {"vm": DB, "type": "test", "point": points[0].id})
    assert answer.status_code == 204
    until(lambda: protected.service.test("db").done)
    assert protected.service.test("db").point == points[0].id
    assert operator.post("/failover", {"vm": APP, "type": "test", "point": "99999"}).status_code == 404


def test_a_stalled_run_can_be_taken_back(protected, operator):
    protected.world.recovery.stop_agent()
    answer = operator.post("/failover", {"vm": DB, "type": "planned", "confirm": "db"})
    run_page = answer.headers["hx-redirect"]
    until_phase(protected, "db", Phase.FAILOVER_STALLED)
    page = operator.get(run_page).text
    assert "the agent of the recovery host does not answer" in page
    assert "Continue" in page
    assert "a run has stalled and waits for you" in operator.get("/").text
    assert operator.post(f"{run_page}/cancel").headers["hx-redirect"] == run_page
    until_phase(protected, "db", Phase.HOME)
    assert "Taken back" in operator.get(run_page).text
    refused = operator.post(f"{run_page}/cancel")
    assert refused.status_code == 409
    assert 'role="alert"' in refused.text
    protected.world.recovery.start_agent()


def test_a_planned_failover_is_not_offered_when_home_is_gone(shared):
    shared.world.links[0].cut = True
    page = shared.as_role("operator").get(f"/failover?vm={DB}").text
    shared.world.links[0].cut = False
    assert "Its home host office cannot be reached." in page
    assert re.search(r'value="unplanned" checked', page)


@pytest.mark.parametrize("vm", ["", "nothing", "../../etc", "x" * 5000, "db"])
def test_a_vm_that_is_not_there_is_no_traceback(shared, vm):
    operator = shared.as_role("operator")
    for path in ("/enable", "/failover", "/do/commit", "/do/nothing"):
        assert operator.get(path, params={"vm": vm}).status_code in (404, 422)
        assert operator.post(path, {"vm": vm, "type": "test"}).status_code in (404, 422)


def test_a_form_of_another_kind_is_refused(shared):
    operator = shared.as_role("operator")
    answer = operator.ask("POST", "/do/pause", content=b'{"vm": "x"}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    answer = operator.ask("POST", "/do/pause", content=b"vm=%ff%fe", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422


def test_the_watch_remembers_how_old_the_newest_instant_was(protected):
    protected.watch._clock = lambda: protected.now
    protected.now = 1_800_000_000.0
    for _ in range(3):
        protected.watch.fresh()
        protected.now += SAMPLE_S
    assert len(protected.watch.fresh().curves.of(DB)) == 4
    protected.now += 1
    assert len(protected.watch.fresh().curves.of(DB)) == 4


# --- plans --------------------------------------------------------------------------------------------------


def test_a_plan_is_tested_and_cleaned_up(protected, operator):
    protected.world.create()
    page = operator.get("/plans/shop/start").text
    for words in ("Copies of all its VMs", "All its VMs are shut down", "The home site is gone"):
        assert words in page
    assert operator.post("/plans/shop/start", {"type": "test"}).headers["hx-redirect"] == "/plans/shop"
    protected.world.until_state("done")
    page = operator.get("/plans/shop").text
    assert "/plans/shop/ask/cleanup" in page
    assert "/plans/shop/ask/approve" not in page
    refused = operator.post("/plans/shop/ask/approve", {"run": protected.world.last().id})
    assert refused.status_code == 409
    assert "Its last run has ended" in refused.text
    assert operator.post("/plans/shop/ask/cleanup", {"run": protected.world.last().id}).status_code == 204
    protected.world.until_state("cleaned")


def test_a_plan_that_moves_vms_has_to_be_confirmed_and_waits_for_its_approvals(protected, operator):
    groups = [{"name": "database", "vms": ["db"]}, {"name": "rest", "vms": ["app"], "approval": True}]
    protected.world.create(groups=groups)
    refused = operator.post("/plans/shop/start", {"type": "planned", "timeout": "1min", "confirm": "shops"})
    assert refused.status_code == 422
    assert "shop" in beside(refused, "confirm")
    assert 'value="1min"' in refused.text
    assert operator.post("/plans/shop/start", {"type": "planned", "confirm": "shop"}).status_code == 204
    protected.world.until_state("waiting")
    page = operator.get("/plans/shop").text
    assert "Group rest waits for somebody to approve of it." in page
    form = {"run": protected.world.last().id, "group": "rest", "note": "go"}
    assert operator.post("/plans/shop/ask/approve", form).status_code == 204
    protected.world.until_state("done")
    assert protected.world.where() == {"db": "recovery", "app": "recovery", "front": "office"}
    assert operator.post("/plans/shop/ask/nothing", form).status_code == 404
    assert operator.post("/plans/none/ask/pause", form).status_code == 404


POLICY = {
    "rpo_s": "1s",
    "retain_s": "24h",
    "hourly_s": "0s",
    "daily_s": "0s",
    "app_interval_s": "0s",
    "bandwidth": "0",
}
DRILL = {"drill_every": "30d", "drill_mode": "run", "drill_window": "22:00-04:00", "drill_keep": "5min"}


def test_drills_are_scheduled_with_the_policy(stand):
    stand.world.protect_all()
    operator = stand.as_role("operator")
    assert 'name="drill_every" type="text" value=""' in operator.get(f"/enable?vm={DB}").text
    assert operator.post("/enable", {"vm": DB, **POLICY, **DRILL}).status_code == 204
    (drill,) = stand.service.drills.all()
    assert (drill.vm, drill.every_s, drill.mode, drill.window, drill.keep_s) == (
        "db",
        30 * 86_400,
        "run",
        "22:00-04:00",
        300,
    )
    form = operator.get(f"/enable?vm={DB}").text
    for value in ('value="30d"', 'value="22:00-04:00"', 'value="5min"', '<option value="run" selected>'):
        assert value in form, value
    home = operator.get("/").text
    assert "next drill due: db" in home
    assert "A drill of db is due." not in home  # it will be run by itself
    operator.post("/enable", {"vm": DB, **POLICY, **DRILL, "drill_mode": "warn"})
    assert "A drill of db is due." in operator.get("/").text
    operator.post("/enable", {"vm": DB, **POLICY, **DRILL})
    assert "due now" in operator.get(f"/vms/{DB}").text
    # Saving the policy again is no news; of several VMs an empty field leaves each as it is.
    before = len(stand.service.events(100))
    operator.post("/enable", {"vm": DB, **POLICY, **DRILL})
    said = [event["what"] for event in stand.service.events(100)][: len(stand.service.events(100)) - before]
    assert "drill scheduled" not in said
    operator.post("/enable", {"vm": [DB, APP], **POLICY, "drill_every": "", "drill_keep": ""})
    assert len(stand.service.drills.all()) == 1
    operator.post("/enable", {"vm": DB, **POLICY, **DRILL, "drill_every": "0s"})
    assert stand.service.drills.all() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"drill_every": "often"}, "Write it like 5s"),
        ({"drill_every": "5s"}, "From 1 hour to 10 years"),
        ({"drill_window": "at night"}, "Write it like 22:00-04:00"),
        ({"drill_keep": "9d"}, "At most 1d"),
    ],
)
def test_a_wrong_drill_is_told_beside_its_field_and_nothing_is_changed(stand, wrong, said):
    stand.world.protect_all()
    operator = stand.as_role("operator")
    answer = operator.post("/enable", {"vm": DB, **POLICY, "rpo_s": "7s", **DRILL, **wrong})
    assert answer.status_code == 422
    (name, value) = next(iter(wrong.items()))
    assert said in answer.text
    assert f'id="why-{name}"' in answer.text
    assert f'value="{value}"' in answer.text
    assert 'value="7s"' in answer.text
    assert stand.service.drills.all() == []
    assert stand.service.status("db")[0].rpo_target_s == 1


def test_a_drill_that_failed_is_told_at_home(stand):
    stand.world.protect_all()
    stand.as_role("operator").post("/enable", {"vm": DB, **POLICY, **DRILL, "drill_window": ""})
    stand.world.recovery.copies.start = lambda *_, **__: 1 / 0
    drills = stand.service.drills
    drills.tick()
    stand.world.wait(lambda: stand.service.runs(DB, 1)[0].state == "stalled")
    drills.tick()
    home = stand.as_role("viewer").get("/").text
    assert "The last drill of db has failed." in home
    assert f'href="/vms/{DB}"' in home
