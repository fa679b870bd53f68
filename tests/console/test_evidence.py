"""Evidence of tests: taken by the agent, kept by the console, there when the copy is long gone."""

import io

import pytest
from PIL import Image
from tests.console.caller import Console
from tests.console.plan_world import DB, FRONT, PlanWorld
from tests.console.world import VM

from leeward.console.desk import picture_of
from leeward.console.evidence import EvidenceBook
from leeward.domain.errors import HypervisorError, NotFound
from leeward.domain.plan_runs import PlanState
from leeward.domain.plans import PlanKind
from leeward.recovery.picture import drawn

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def console(tmp_path):
    made = Console(tmp_path)
    made.world.protect()
    yield made
    made.close()


def after_a_test(console, clean=True):
    service = console.service
    service.start_test("web", "latest", "anna")
    console.world.wait(lambda: service.test("web").done)
    if clean:
        service.cleanup_test("web", "anna")
    return service.evidence.of(VM)[0]


def test_evidence_outlives_its_copy(console):
    view = after_a_test(console)
    assert (view.outcome, view.by, view.host, view.copy_name) == ("passed", "anna", "recovery", "web-test")
    assert [(proof.what, proof.passed) for proof in view.checks] == [("agent", True)]
    assert view.point.isdigit()
    assert 0 <= view.rpo_s < 20
    assert view.rpo_target_s == 1
    assert 0 <= view.rto_s < 20
    image = Image.open(io.BytesIO(console.service.evidence.picture(VM, view.run)))
    assert len(image.convert("RGB").getcolors(1 << 20)) > 1
    # A run's row stays small.
    run = console.world.failovers.run(view.run)
    assert run.result("picture") == {"bytes": view.picture_bytes}
    # And whoever has the run has all of it after a restart.
    console.world.stop_console()
    console.world.start_console()
    assert EvidenceBook(console.world.database).of(VM)[0] == view


def test_a_picture_that_cannot_be_had_fails_nothing(console):
    def no_screen(*_):
        raise HypervisorError("the VM has no screen")

    console.world.recovery.copies.picture = no_screen
    view = after_a_test(console)
    assert (view.outcome, view.picture_bytes, view.no_picture) == ("passed", 0, "the VM has no screen")
    with pytest.raises(NotFound):
        console.service.evidence.picture(VM, view.run)
    console.world.recovery.copies.picture = lambda *_: 1 / 0
    view = after_a_test(console)
    assert view.outcome == "passed"
    assert "ZeroDivisionError" in view.no_picture


def test_what_is_no_picture_is_not_kept(console):
    console.world.recovery.copies.picture = lambda *_: b"<svg onload='x'>"
    assert after_a_test(console).no_picture == "what its agent sent is no picture that can be kept"
    assert picture_of({"png": "%"}) == picture_of({"png": 5}) == (b"", picture_of({"png": "%"})[1])
    assert picture_of({}) == (b"", "its agent sent none")


def test_a_test_that_failed_is_evidence_too(console):
    def broken(*_, **__):
        raise HypervisorError("no memory left")

    console.world.recovery.copies.start = broken
    view = after_a_test(console, clean=False)
    assert view.outcome == "failed"
    assert "no memory left" in view.failure
    assert (view.rto_s, view.picture_bytes) == (None, 0)


def test_a_silent_guest_is_no_good_test(console):
    copies, watch = console.world.recovery.copies, console.world.recovery.copies.watch

    def silent(*given):
        return watch(*given).model_copy(update={"evidence": {"agent": "silent"}})

    copies.watch = silent
    view = after_a_test(console)
    assert (view.outcome, view.rto_s) == ("failed", None)
    assert [(proof.what, proof.passed) for proof in view.checks] == [("agent", False)]


def test_checks_of_a_plan_are_told(tmp_path):
    world = PlanWorld(tmp_path)
    try:
        world.protect_all()
        checks = [
            {"vm": "db", "kind": "agent"},
            {"vm": "db", "kind": "tcp", "port": 1, "timeout": "1s", "on_failure": "continue"},
        ]
        world.create(groups=[{"name": "all", "vms": ["db", "front"], "checks": checks}])
        world.begin(PlanKind.TEST)
        world.until_state(PlanState.DONE)
        book = EvidenceBook(world.database)
        (db,), (front,) = book.of(DB), book.of(FRONT)
        assert [(proof.what, proof.passed) for proof in db.checks] == [
            ("agent", True),
            ("agent", True),
            ("tcp 1", False),
        ]
        assert (db.plan, db.outcome, front.outcome) == ("shop", "failed", "passed")
    finally:
        world.close()


def test_the_api(console):
    view = after_a_test(console)
    victor = console.user("victor", "viewer")
    (told,) = victor.get("/vms/web/evidence").json()
    assert told == view.model_dump()
    assert victor.get(f"/vms/{VM}/evidence/{view.run}").json() == told
    picture = victor.get(f"/vms/web/evidence/{view.run}/picture")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert picture.headers["cache-control"] == "no-store"
    assert len(picture.content) == view.picture_bytes
    assert console.anyone.get(f"/vms/web/evidence/{view.run}/picture").status_code == 401
    cleanup = next(run.id for run in console.world.failovers.runs(VM) if run.kind == "cleanup")
    for path in ("/vms/nope/evidence", "/vms/web/evidence/nope", f"/vms/web/evidence/{cleanup}/picture"):
        assert victor.get(path).status_code == 404, path


def test_a_drawn_screen_is_like_a_real_one():
    assert drawn("x") != drawn("y")
