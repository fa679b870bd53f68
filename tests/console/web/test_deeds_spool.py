"""Replication is disabled in the browser while points wait on the host."""

import pytest
from tests.console.plan_world import DB
from tests.console.web.test_moves import until

pytestmark = pytest.mark.usefixtures("quick")


def test_points_that_wait_are_given_up_only_where_it_is_ticked(stand):
    world = stand.world
    world.protect_all()
    operator = stand.as_role("operator")
    assert 'name="force"' not in operator.get(f"/do/disable?vm={DB}").text
    world.office.line.cut = True
    world.office.hypervisor._vms[DB].write("vda", 0, b"x" * 65536)
    until(lambda: stand.service.status("db")[0].spool_bytes)
    asked = operator.post("/do/disable", {"vm": DB})
    assert asked.status_code == 409
    assert "have not reached the vault" in asked.text
    assert 'name="force"' in asked.text
    assert world.database.wish(DB) is not None
    assert operator.post("/do/disable", {"vm": DB, "force": "1"}).status_code in (200, 204, 303)
    assert world.database.wish(DB) is None
