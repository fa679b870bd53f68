"""Drills of recovery plans, as a browser asks for them."""

import re

import pytest
from tests.console.plan_world import DB, SHOP
from tests.console.web.test_moves import DRILL

pytestmark = pytest.mark.usefixtures("quick")

GATED = [{"name": "database", "vms": ["db"]}, {"name": "application", "vms": ["app"], "approval": True}]


@pytest.fixture
def plan(stand):
    stand.world.protect_all()
    stand.world.create()
    return stand


def test_a_plans_drills_are_scheduled_shown_and_ended(plan):
    viewer, operator = plan.as_role("viewer"), plan.as_role("operator")
    page = viewer.get("/plans/shop").text
    assert "No test run of this plan is scheduled." in page
    assert "/plans/shop/drill" not in page
    assert viewer.get("/plans/shop/drill").status_code == 403
    assert 'name="drill_every" type="text" value=""' in operator.get("/plans/shop/drill").text
    assert operator.post("/plans/shop/drill", DRILL).status_code == 204
    page = viewer.get("/plans/shop").text
    assert "by itself" in page
    assert "22:00-04:00" in page
    assert "Next due" in page
    form = operator.get("/plans/shop/drill").text
    for value in ('value="30d"', 'value="22:00-04:00"', 'value="5min"', '<option value="run" selected>'):
        assert value in form, value
    vm = viewer.get(f"/vms/{DB}").text
    assert 'with the plan <a href="/plans/shop">shop</a>' in vm
    assert ("schedule plan drill", "the-operator", "shop") in [
        (entry["what"], entry["who"], entry["subject"]) for entry in plan.audit()
    ]
    assert operator.post("/plans/shop/drill", {**DRILL, "drill_every": ""}).status_code == 204
    assert plan.service.drills.all() == []
    assert "No test run of this plan is scheduled." in viewer.get("/plans/shop").text


def test_home_tells_what_is_due_and_leads_to_the_plan(plan):
    operator = plan.as_role("operator")
    operator.post("/plans/shop/drill", DRILL)
    home = operator.get("/").text
    assert "next drill due: shop" in home
    assert 'href="/plans/shop"' in home
    assert "A drill of shop is due." not in home  # it will be run by itself
    operator.post("/plans/shop/drill", {**DRILL, "drill_mode": "warn"})
    home = operator.get("/").text
    assert "A drill of shop is due." in home
    assert 'href="/plans/shop/start?type=test"' in home


def test_one_that_failed_is_told_at_home(plan):
    plan.as_role("operator").post("/plans/shop/drill", {**DRILL, "drill_window": ""})
    plan.world.recovery.copies.start = lambda *_, **__: 1 / 0
    drills = plan.service.drills
    drills.tick()
    plan.world.until_state("stalled")
    drills.tick()
    home = plan.as_role("viewer").get("/").text
    assert "The last drill of shop has failed." in home
    assert "Failed" in plan.as_role("viewer").get("/plans/shop").text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"drill_every": "often"}, "Write it like 5s"),
        ({"drill_window": "at night"}, "Write it like 22:00-04:00"),
        ({"drill_keep": "9d"}, "At most 1d"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_nothing_is_changed(plan, wrong, said):
    answer = plan.as_role("operator").post("/plans/shop/drill", {**DRILL, **wrong})
    assert answer.status_code == 422
    (name, value) = next(iter(wrong.items()))
    assert said in re.search(rf'id="why-{name}">.*?</p>', answer.text, re.S)[0]
    assert f'value="{value}"' in answer.text
    assert plan.service.drills.all() == []


def test_that_approvals_are_given_by_the_drill_is_said_where_there_are_any(plan):
    operator = plan.as_role("operator")
    said = "Approvals that the plan asks for are given by the drill itself."
    assert said not in operator.get("/plans/shop/drill").text
    plan.world.plans.replace("shop", {**SHOP, "groups": GATED}, "anna")
    assert said in operator.get("/plans/shop/drill").text


def test_no_such_plan(plan):
    operator = plan.as_role("operator")
    assert operator.get("/plans/nobody/drill").status_code == 404
    assert operator.post("/plans/nobody/drill", DRILL).status_code == 404
