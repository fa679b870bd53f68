"""Recovery plans on hypervisors in memory: order, approvals, delays, checks, scripts, failures, ways back."""

import http.server
import threading
import time
from contextlib import contextmanager

import pytest
from tests.console.plan_world import APP, DB, NAMES, START, STOP, PlanWorld

from leeward.console.plan_views import PlanApproveRequest, PlanAskRequest, PlanRetryRequest, PlanRunRequest
from leeward.console.views import FailoverRequest
from leeward.domain.errors import BadInput, NotFound, Refused
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.vm import Power
from leeward.wire.jobs import JobKind

# Real time, real processes: not for the fast suite.
pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

EVERYWHERE = list(NAMES.values())


@pytest.fixture
def world(tmp_path):
    made = PlanWorld(tmp_path)
    made.protect_all()
    yield made
    made.close()


@contextmanager
def serving(status):
    """Something on this machine that answers every GET with this status; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def shop(**second):
    """Two groups, with more wishes for the second one."""
    groups = [
        {"name": "database", "vms": ["db"]},
        {"name": "application", "vms": ["app", "front"], **second},
    ]
    return {"groups": groups}


def phases(world):
    return {name: world.failovers.life(vm_id, name).phase for vm_id, name in NAMES.items()}


def step(view, act, vm=""):
    return next(step for step in view.steps if step.act == act and step.vm == vm)


def test_a_planned_run_goes_down_in_reverse_and_comes_up_in_order(world):
    world.create()
    world.begin("planned")
    done = world.until_state("done", "stalled")
    assert (done.state, done.complete, done.failure) == ("done", True, "")
    assert world.where() == dict.fromkeys(EVERYWHERE, "recovery")
    down, up = world.did(STOP), world.did(START)
    assert sorted(down[:2]) == ["app", "front"]
    assert down[2] == "db"
    assert up[0] == "db"
    assert sorted(up[1:]) == ["app", "front"]
    # All were off, and safe, before any came up.
    kinds = [what for what, _ in world.trace]
    assert kinds.index(START) > max(n for n, kind in enumerate(kinds) if kind in (STOP, JobKind.COPY_BUILD))
    assert done.rto_s > 0
    # What is there already is not moved again.
    world.begin("unplanned")
    assert world.until_state("done", "stalled").complete
    assert len(world.did(START)) == 3


def test_a_test_run_is_cleaned_up_with_one_command_and_touches_nothing(world):
    world.script("not.sh", "exit 1")
    world.create(**shop(before=[{"run": "not.sh", "kinds": ["planned"]}]))
    world.begin("test")
    done = world.until_state("done", "stalled")
    assert done.complete
    assert step(done, "script").state == "skipped"
    assert len(world.recovery.hypervisor.vms()) == 3
    assert world.did(START)[0] == "db"
    assert phases(world) == dict.fromkeys(EVERYWHERE, Phase.HOME)
    with pytest.raises(Refused, match="test copy of db exists"):
        world.begin("test")
    # A copy that the operator made anew is not this run's.
    world.service.cleanup_test("db")
    world.service.start_test("db", "latest")
    world.wait(lambda: world.service.test("db").done)
    world.ask("cleanup")
    cleaned = world.until_state("cleaned", "stalled")
    assert [vm.name for vm in world.recovery.hypervisor.vms()] == ["db-test"]
    assert [step.state for step in cleaned.back] == ["skipped", "done", "done"]
    with pytest.raises(Refused):
        world.ask("cleanup")
    assert world.where() == dict.fromkeys(EVERYWHERE, "office")


def test_approvals_and_delays_outlive_the_console(world):
    world.create(**shop(approval=True, delay=1.5))
    world.begin("unplanned")
    world.wait(lambda: step(world.last(), "delay").state == "running")
    began = step(world.last(), "delay").started
    assert world.where()["db"] == "recovery"
    world.revive()
    waiting = world.until_state("waiting")
    assert waiting.waits_for == "application"
    assert time.time() - began >= 1.5
    assert step(waiting, "delay").started == began
    world.revive()
    assert world.last().state == "waiting"
    assert world.where()["app"] == "office"
    with pytest.raises(Refused, match="it is group application that waits"):
        world.plans.runs.approve("shop", PlanApproveRequest(group="database"), "bert")
    world.plans.runs.approve("shop", PlanApproveRequest(group="application", note="go"), "bert")
    done = world.until_state("done", "stalled")
    assert done.complete
    assert (step(done, "approve").by, step(done, "approve").detail) == ("bert", "go")
    with pytest.raises(Refused, match="has ended"):
        world.plans.runs.approve("shop", PlanApproveRequest(), "bert")


def test_a_vm_that_fails_stalls_the_run_until_it_is_retried(world):
    world.create()
    world.recovery.hypervisor.add(APP, "somebody else's", {"vda": b"x"}, Power.OFF)  # build will fail
    world.begin("unplanned")
    stalled = world.until_state("stalled", "done")
    assert "app: " in stalled.failure
    assert "exists on the recovery host" in stalled.failure
    assert step(stalled, "start", "front").state == "done"
    with pytest.raises(Refused, match="has stalled"):
        world.begin("unplanned")
    world.recovery.hypervisor.remove(APP)
    world.plans.runs.retry("shop", PlanRetryRequest(), "anna")
    done = world.until_state("done", "stalled")
    assert done.complete
    assert world.did(START).count("front") == 1
    assert world.where() == dict.fromkeys(EVERYWHERE, "recovery")


@pytest.mark.slow
def test_a_plan_can_go_on_without_a_vm_and_come_back_to_it(world):
    groups = [{**shop()["groups"][1], "on_failure": "continue"}, shop()["groups"][0]]
    world.create(groups=groups)
    front = world.office.hypervisor._vms[next(vm_id for vm_id, name in NAMES.items() if name == "front")]
    front.obeys_shutdown = False
    world.begin("planned", timeout_s=0.2)
    done = world.until_state("done", "stalled")
    assert (done.state, done.complete) == ("done", False)
    assert "front: stop" in done.failure
    assert step(done, "start", "front").state == "skipped"
    assert world.where() == {"app": "recovery", "db": "recovery", "front": "office"}
    # Its own run has stalled as any other, and no turn in the plan holds it any more.
    world.plans.runs.retry("shop", PlanRetryRequest(force=True), "anna")
    assert world.until_state("done", "stalled").complete
    assert world.where() == dict.fromkeys(EVERYWHERE, "recovery")


def test_checks_are_made_from_the_recovery_site(world):
    with serving(200) as good, serving(503) as bad:
        checks = [
            {"vm": "app", "kind": "agent"},
            {"vm": "app", "kind": "tcp", "port": good},
            {"vm": "front", "kind": "http", "port": good, "path": "/health"},
            {"vm": "front", "kind": "http", "port": bad, "timeout": 0.5, "on_failure": "continue"},
            {"vm": "app", "kind": "http", "port": bad, "timeout": 0.5},
        ]
        world.create(**shop(checks=checks))
        world.begin("test")
        stalled = world.until_state("stalled", "done")
        found = [step for step in stalled.steps if step.act == "check"]
        assert [step.state for step in found] == ["done", "done", "done", "failed", "failed"]
        assert [step.waived for step in found] == [False, False, False, True, False]
        assert "answers with status 503" in stalled.failure
        assert world.recovery.jobs.jobs() == []  # nothing is left of them at the agent
        world.plans.runs.retry("shop", PlanRetryRequest(), "anna")
        world.wait(lambda: (last := world.last()).state == "stalled" and step(last, "check", "app") and last)
        assert [step.attempt for step in world.last().steps if step.act == "check"] == [1, 1, 1, 1, 2]
        world.plans.runs.retry("shop", PlanRetryRequest(skip=True), "bert")
        done = world.until_state("done")
        assert not done.complete
        assert [step.by for step in done.steps if step.act == "check"][4] == "bert"


@pytest.mark.slow
def test_scripts_are_told_what_is_going_on(world):
    out = world.folder / "out"
    world.script("note.sh", f'echo "$1 $LEEWARD_KIND $LEEWARD_GROUP $LEEWARD_WHEN" $LEEWARD_VMS >>{out}')
    world.script("bad.sh", "echo so sorry; exit 3")
    world.create(
        **shop(
            before=[{"run": "note.sh 'a; rm -rf /'"}],
            after=[{"run": "note.sh b"}, {"run": "bad.sh", "on_failure": "continue"}, {"run": "bad.sh"}],
        )
    )
    world.begin("unplanned")
    stalled = world.until_state("stalled", "done")
    assert out.read_text().splitlines() == [
        "a; rm -rf / unplanned application before app front",
        "b unplanned application after app front",
    ]
    assert stalled.failure == "application: bad.sh ended with code 3"
    assert [step.output for step in stalled.steps if step.act == "script"] == ["", "", "so sorry", "so sorry"]
    world.script("bad.sh", "exit 0")
    world.plans.runs.retry("shop", PlanRetryRequest(), "anna")
    world.until_state("done")
    assert len(out.read_text().splitlines()) == 2


def test_an_abort_takes_back_what_can_be_taken_back(world):
    """Stalled on the way down: everything comes home again."""
    world.create()
    front = world.office.hypervisor._vms[next(vm_id for vm_id, name in NAMES.items() if name == "front")]
    front.obeys_shutdown = False
    world.begin("planned", timeout_s=0.2)
    stalled = world.until_state("stalled", "done")
    assert "front: stop" in stalled.failure
    assert world.did(START) == []
    assert "db" not in world.did(STOP)
    world.ask("abort")
    aborted = world.until_state("aborted")
    assert [step.state for step in aborted.back] == ["done"] * 3
    assert phases(world) == dict.fromkeys(EVERYWHERE, Phase.HOME)
    assert world.where() == dict.fromkeys(EVERYWHERE, "office")
    front.obeys_shutdown = True
    world.begin("planned")
    assert world.until_state("done", "stalled").complete


@pytest.mark.slow
def test_an_abort_leaves_what_has_come_up(world):
    world.create(**shop(approval=True))
    world.begin("planned")
    world.until_state("waiting", "stalled")
    assert world.where() == {"db": "recovery"}  # the others are off, ready to start
    world.ask("abort")
    aborted = world.until_state("aborted")
    assert [step.detail for step in aborted.back] == ["it had come up already", "taken back", "taken back"]
    assert world.where() == {"db": "recovery", "app": "office", "front": "office"}


@pytest.mark.slow
def test_an_abort_that_waits_for_a_dead_home_can_be_let_go_of(world):
    world.create(**shop(approval=True))
    world.begin("planned")
    world.until_state("waiting", "stalled")
    world.links[0].cut = True
    world.ask("abort")
    world.wait(lambda: world.last().state == "aborting")
    time.sleep(0.3)
    assert world.ask("abort").state == "aborted"
    assert world.last().state == "aborted"
    # Nobody waits for them any more, but they are still being taken back.
    world.links[0].cut = False
    world.wait(lambda: phases(world)["app"] is Phase.HOME and phases(world)["front"] is Phase.HOME)
    world.wait(lambda: world.where() == {"db": "recovery", "app": "office", "front": "office"})


def off_at_home(world):
    return all(vm.power is Power.OFF for vm in world.office.hypervisor.vms() if vm.name in EVERYWHERE)


@pytest.mark.slow
def test_a_home_that_dies_when_all_are_ready_is_needed_no_more(world):
    world.create(**shop(approval=True))
    planned = world.begin("planned")
    world.until_state("waiting", "stalled")
    world.office.stop_agent()
    begun = world.begin("unplanned")
    assert world.plans.runs.get(planned.id).failure == f"gave way to run {begun.id}"
    waiting = world.until_state("waiting", "stalled")
    assert step(waiting, "start", "db").state == "done"
    world.plans.runs.approve("shop", PlanApproveRequest(), "anna")
    done = world.until_state("done", "stalled")
    assert done.complete
    assert world.where() == dict.fromkeys(EVERYWHERE, "recovery")
    # They went on in the planned runs in which they were made ready.
    kinds = [run.kind for vm_id in NAMES for run in world.failovers.runs(vm_id)]
    assert kinds == ["planned"] * 3
    assert world.plans.runs.get(planned.id).state == "aborted"


@pytest.mark.slow
def test_an_unplanned_run_takes_over_when_home_dies_on_the_way_down(world):
    world.create()
    front = world.office.hypervisor._vms[next(vm_id for vm_id, name in NAMES.items() if name == "front")]
    front.obeys_shutdown = False
    world.begin("planned", timeout_s=60)
    world.wait(lambda: step(world.last(), "stop", "front").state == "running" and world.did(JobKind.COPY_BUILD))
    world.links[0].cut = True  # its agent and its line to the vault go on: it finds out by itself
    world.begin("unplanned")
    done = world.until_state("done", "stalled", seconds=90)
    assert done.complete, done
    assert [vm.name for vm in world.recovery.hypervisor.vms() if vm.power is Power.RUNNING] == ["app", "db", "front"]
    world.wait(lambda: off_at_home(world))
    assert {name: world.failovers.runs(vm_id)[0].kind for vm_id, name in NAMES.items()} == {
        "app": "planned",  # it was ready
        "front": "unplanned",
        "db": "unplanned",
    }


@pytest.mark.slow
def test_an_abort_takes_tests_back(world):
    world.create(**shop(approval=True))
    world.begin("test")
    world.until_state("waiting", "stalled")
    world.ask("abort")
    assert world.until_state("aborted").failure == ""
    assert [vm.name for vm in world.recovery.hypervisor.vms()] == ["db-test"]
    world.ask("cleanup")
    world.until_state("cleaned")
    assert world.recovery.hypervisor.vms() == []


@pytest.mark.slow
def test_a_paused_run_begins_nothing_until_it_is_resumed(world):
    world.create(**shop(delay=1.0))
    world.begin("unplanned")
    world.wait(lambda: step(world.last(), "delay").state == "running")
    world.ask("pause")
    world.until_state("paused")
    time.sleep(1.2)
    assert world.where() == {"db": "recovery", "app": "office", "front": "office"}
    world.revive()
    assert world.last().state == "paused"
    world.ask("resume")
    assert world.until_state("done", "stalled").complete


@pytest.mark.slow
def test_who_may_run_what_at_the_same_time(world):
    world.create(**shop(approval=True))
    other = {"name": "other", "groups": [{"name": "x", "vms": ["front"]}]}
    world.plans.create(other, "anna")
    world.begin("test")
    world.until_state("waiting")
    with pytest.raises(Refused, match="waits for an approval"):
        world.begin("test")
    with pytest.raises(Refused, match="waits for an approval"):
        world.plans.delete("shop", "anna")
    # A test never stands in the way of the real thing.
    world.begin("unplanned")
    world.wait(lambda: world.last().kind == "unplanned" and world.last().state == "waiting")
    with pytest.raises(BadInput, match="two of its runs"):
        world.plans.runs.approve("shop", PlanApproveRequest(), "anna")
    with pytest.raises(Refused, match="run of plan shop has not ended"):
        world.plans.runs.begin("other", PlanRunRequest(kind="planned"), "anna")
    test = next(run for run in world.plans.runs.all("shop") if run.kind == "test")
    world.plans.runs.abort("shop", PlanAskRequest(run=test.id), "anna")
    world.wait(lambda: world.plans.runs.get(test.id).state == "aborted")
    world.plans.runs.cleanup("shop", PlanAskRequest(run=test.id), "anna")
    world.wait(lambda: world.plans.runs.get(test.id).state == "cleaned")
    world.plans.runs.approve("shop", PlanApproveRequest(), "anna")
    assert world.until_state("done", "stalled").complete
    assert [run.kind for run in world.plans.runs.all("shop")] == ["unplanned", "test"]


@pytest.mark.slow
def test_a_plan_takes_in_what_was_done_by_hand(world):
    world.create()
    world.service.failover("db", Event.PLANNED, FailoverRequest())
    with pytest.raises(Refused, match="db: a failover of it is under way"):
        world.begin("planned")
    world.wait(lambda: phases(world)["db"] is Phase.AWAY)
    world.begin("planned")
    done = world.until_state("done", "stalled")
    assert done.complete
    assert step(done, "start", "db").detail == "it runs at the recovery site already"
    assert world.did(START).count("db") == 1


@pytest.mark.slow
def test_a_vm_that_was_taken_back_by_hand_is_a_failure_and_a_retry_begins_anew(world):
    world.create(**shop(approval=True))
    world.begin("planned")
    world.until_state("waiting")
    world.service.cancel("app")  # held, ready to start
    world.wait(lambda: phases(world)["app"] is Phase.HOME)
    world.plans.runs.approve("shop", PlanApproveRequest(), "anna")
    stalled = world.until_state("stalled", "done")
    assert stalled.failure == "app: it was taken back"
    world.plans.runs.retry("shop", PlanRetryRequest(), "anna")
    assert world.until_state("done", "stalled").complete
    assert world.where() == dict.fromkeys(EVERYWHERE, "recovery")


def test_the_vault_knows_the_plans(world):
    world.create(**shop(approval=True))
    world.plans.create({"name": "gone", "groups": [{"name": "x", "vms": ["db"]}]}, "anna")
    world.plans.delete("gone", "anna")
    known = world.plans.get("shop").document
    world.database.plans.remove("shop")
    assert world.plans.adopt() == ["shop"]
    assert world.plans.get("shop").document == known
    assert world.plans.adopt() == []


@pytest.mark.slow
def test_a_portal_runs_the_plan_when_the_office_is_gone_with_its_console(world):
    world.script("lost.sh", "")
    world.create(**shop(before=[{"run": "lost.sh", "on_failure": "continue"}]))
    world.office.stop_agent()
    for vm in world.office.hypervisor.vms():
        world.office.hypervisor.force_off(vm.id)
    (world.scripts_folder / "lost.sh").unlink()  # it was on the console's machine
    assert world.start_portal() == ["shop"]
    assert "no such script" in world.plans.get("shop").troubles[0]
    world.begin("unplanned")
    done = world.until_state("done", "stalled", seconds=90)
    assert [step.state for step in done.steps if step.act == "start"] == ["done"] * 3
    assert "lost.sh: there is no such script" in done.failure
    assert world.where() == dict.fromkeys(EVERYWHERE, "recovery")
    assert world.did(START)[0] == "db"


def test_a_plan_tells_what_would_make_it_fail(world):
    world.script("x.sh", "exit 0")
    world.create(**shop(before=[{"run": "x.sh"}]))
    assert world.plans.get("shop").troubles == []
    (world.scripts_folder / "x.sh").unlink()
    world.service.unprotect("front")
    troubles = world.plans.get("shop").troubles
    assert troubles[0] == "front is not protected any more"
    assert "x.sh: there is no such script" in troubles[1]
    with pytest.raises(Refused, match="front is not protected any more"):
        world.begin("unplanned")
    with pytest.raises(NotFound, match="no such plan"):
        world.plans.get("nope")
    with pytest.raises(Refused, match="never been run"):
        world.last()
    assert world.database.events(1)[0]["what"] == "unprotect"
    assert world.where()[NAMES[DB]] == "office"
