"""What forms offer beside the point in time: the instant of a group, a warm replica, a failover without the vault."""

import re

import pytest
from tests.console.plan_world import APP, DB, FRONT, PlanWorld
from tests.console.web.stand import UNNOTED, KeyFolder, Stand
from tests.console.web.test_moves import beside, until, until_phase
from tests.console.world import CutStore
from tests.vault.conftest import CHEAP

from leeward.console.views import ProtectRequest
from leeward.console.web.vault_door import VaultDoor
from leeward.domain import consistency
from leeward.domain.lifecycle import Phase
from leeward.domain.runs import RunState
from leeward.vault.facade import Vault


class AwayWorld(PlanWorld):
    """The console's line to the vault can be cut like the sites'."""

    def __init__(self, folder):
        super().__init__(folder)
        self.console_line = CutStore(self.store)

    def open_vault_of_console(self):
        line = getattr(self, "console_line", None)
        return Vault.open(line, keys=self.keys) if line else self.vault


class AwayStand(Stand):
    def door_of_world(self):
        key = KeyFolder(self.world.keys)
        return VaultDoor(
            lambda: "file:///vault", lambda create: self.world.console_line, key.load, key.save, *UNNOTED, CHEAP
        )

    def cut(self, away=True):
        for line in (self.world.office.line, self.world.recovery.line, self.world.console_line):
            line.cut = away
        self.watch.forget_vault()

    def warm_up(self):
        """db has a warm replica that holds its newest point."""
        self.service.protect("db", ProtectRequest(warm=True))

        def at_newest():
            replica = self.service.status("db")[0].replica
            return replica.state == "warm" and replica.point == self.vault.log(DB).point("latest").id

        until(at_newest)

    def options(self):
        return self.world.failovers.last(DB, "db").options


@pytest.fixture
def stand(tmp_path, quick):
    made = AwayStand(tmp_path, AwayWorld)
    made.world.protect_all()
    yield made
    made.close()


@pytest.fixture
def operator(stand):
    return stand.as_role("operator", "anna")


def boxes(page):
    """Names of what can be ticked or chosen."""
    return set(re.findall(r'<input type="(?:checkbox|radio)" name="(\w+)"', page))


def test_what_has_no_meaning_is_not_offered(stand, operator):
    assert boxes(operator.get(f"/failover?vm={DB}&type=unplanned").text) == {"type", "point"}
    assert boxes(operator.get(f"/failover?vm={DB}&type=planned").text) == {"type", "force"}
    stand.warm_up()
    assert boxes(operator.get(f"/failover?vm={DB}&type=test").text) == {"type", "point"}
    assert boxes(operator.get(f"/failover?vm={DB}&type=planned").text) == {"type", "force", "from_vault"}
    assert boxes(operator.get(f"/failover?vm={APP}&type=unplanned").text) == {"type", "point"}


def test_a_warm_replica_is_used_unless_it_is_declined(stand, operator):
    stand.warm_up()
    page = operator.get(f"/failover?vm={DB}&type=unplanned").text
    assert boxes(page) == {"type", "point", "from_vault"}
    assert not re.search(r'name="from_vault" value="1" checked', page)
    form = {"vm": DB, "type": "unplanned", "from_vault": "1"}
    assert re.search(r'name="from_vault" value="1" checked', operator.post("/failover", form).text)  # not confirmed
    assert operator.post("/failover", {**form, "confirm": "db"}).status_code == 204
    assert stand.options()["from_vault"] is True
    until_phase(stand, "db", Phase.AWAY)
    build = next(step for step in stand.world.failovers.last(DB, "db").steps if step.name == "build")
    assert build.result["replica"] is False


def test_without_the_vault_the_page_leads_through_to_the_warm_replica(stand, operator):
    stand.warm_up()
    stand.cut()
    stand.world.office.stop_agent()
    stand.world.office.hypervisor.force_off(DB)
    page = operator.get(f"/failover?vm={DB}").text
    assert re.search(r'value="unplanned" checked', page)
    assert "The vault cannot be reached, and a planned failover has to prove" in page
    assert "The warm replica at recovery needs no vault" in page
    assert "which the warm replica holds" in page
    assert boxes(page) == {"type", "point", "without_vault"}
    assert not re.search(r'name="without_vault" value="1" checked', page)
    form = {"vm": DB, "type": "unplanned", "point": "latest", "confirm": "db"}
    run_page = operator.post("/failover", form).headers["hx-redirect"]
    # Home cannot be asked and nobody gave his word: it stalls, and the run's own page takes the word.
    until(lambda: stand.world.failovers.last(DB, "db").state is RunState.STALLED)
    assert 'name="without_vault"' in operator.get(run_page).text
    assert operator.post(f"{run_page}/retry", {"without_vault": "1"}).status_code == 204
    until_phase(stand, "db", Phase.AWAY)
    assert stand.options()["without_vault"] is True
    assert stand.world.where()["db"] == "recovery"
    stand.cut(False)
    until(lambda: not stand.world.recovery.agent._ledger.all_owed())


def test_the_word_can_be_given_at_once(stand, operator):
    stand.warm_up()
    stand.cut()
    stand.world.office.stop_agent()
    stand.world.office.hypervisor.force_off(DB)
    form = {"vm": DB, "type": "unplanned", "without_vault": "1", "confirm": "db"}
    assert operator.post("/failover", form).status_code == 204
    until_phase(stand, "db", Phase.AWAY)
    stand.cut(False)
    until(lambda: not stand.world.recovery.agent._ledger.all_owed())


def test_without_vault_and_replica_the_page_says_what_keeps_it(stand, operator):
    stand.cut()
    page = operator.get(f"/failover?vm={DB}&type=unplanned").text
    assert "The vault cannot be reached." in page
    assert boxes(page) == {"type", "point"}
    answer = operator.post("/failover", {"vm": DB, "type": "unplanned", "confirm": "db"})
    assert answer.status_code == 503
    assert "the line to the vault is cut" in answer.text


def test_who_comes_home_without_the_recovery_site_chooses_the_point(stand, operator):
    operator.post("/failover", {"vm": DB, "type": "planned", "confirm": "db"})
    until_phase(stand, "db", Phase.AWAY)
    points = stand.vault.log(DB).points()
    link = f"/do/failback?vm={DB}&type=unplanned-failback"
    assert f'href="{link.replace("&", "&amp;")}&amp;point={points[0].id}"' in operator.get(f"/vms/{DB}").text
    stand.world.recovery.stop_agent()
    page = operator.get(f"{link}&point={points[0].id}").text
    assert re.search(rf'name="point" value="{points[0].id}" checked', page)
    # It stays in sight when another one is looked at.
    page = operator.get(f"{link}&point=latest&picked={points[0].id}").text
    assert re.search(r'name="point" value="latest" checked', page)
    assert f'name="point" value="{points[0].id}"' in page
    form = {"vm": DB, "type": "unplanned-failback", "point": points[0].id, "confirm": "db"}
    assert operator.post("/do/failback", form).status_code == 204
    until_phase(stand, "db", Phase.BACK)
    assert stand.world.failovers.last(DB, "db").point == points[0].id
    stand.world.recovery.start_agent()


def of_group(stand, names=("db", "app")):
    """They agree on an instant, and db has a newer point than that."""
    for name in names:
        stand.service.protect(name, ProtectRequest(group="shop", group_s=5))

    def common():
        marks = [{p.mark.id for p in stand.vault.log(vm).points() if p.mark} for vm in (DB, APP)]
        return set.intersection(*marks)

    until(common)
    stand.world.office.hypervisor._vms[DB].write("vda", 0, b"newer")
    points = stand.vault.log(DB).points
    until(lambda: points()[-1].mark is None)
    for name in names:
        stand.service.set_paused(name, True)
    until(lambda: all(stand.service.status(name)[0].state == "paused" for name in names))
    for name in names:
        stand.database.protect(stand.database.wish({"db": DB, "app": APP}[name]).model_copy(update={"paused": False}))
    return [point for point in points() if point.mark][-1].id


@pytest.mark.slow
def test_of_a_group_the_instant_is_offered_and_the_newest_point(stand, operator):
    marked = of_group(stand)
    page = operator.get(f"/failover?vm={DB}&type=unplanned").text
    assert boxes(page) == {"type", "point", "instant"}
    assert re.search(r'name="instant" value="" required checked', page)
    assert "one instant of group shop, " in page
    for elsewhere in (f"vm={DB}&type=planned", f"vm={DB}&type=unplanned&point=app", f"vm={FRONT}&type=unplanned"):
        assert "instant" not in boxes(operator.get(f"/failover?{elsewhere}").text)
    assert operator.post("/failover", {"vm": DB, "type": "unplanned", "confirm": "db"}).status_code == 204
    assert stand.world.failovers.last(DB, "db").point == marked
    # app follows; with its newest point when that is chosen.
    form = {"vm": APP, "type": "unplanned", "instant": "newest", "confirm": "app"}
    assert operator.post("/failover", form).status_code == 204
    assert stand.world.failovers.last(APP, "app").point == "latest"


@pytest.mark.slow
def test_a_group_that_has_not_met_for_long_is_a_decision(stand, operator, monkeypatch):
    marked = of_group(stand)
    monkeypatch.setattr(consistency, "LATE_INTERVALS", 0.0)
    monkeypatch.setattr(consistency, "LATE_S", 0.0)
    page = operator.get(f"/failover?vm={DB}&type=unplanned").text
    assert "the VMs of group shop last agree " in page
    assert not re.search(r'name="instant" value="\w*" required checked', page)
    form = {"vm": DB, "type": "unplanned", "confirm": "db"}
    refused = operator.post("/failover", form)
    assert refused.status_code == 409
    assert "--common" not in refused.text
    assert boxes(refused.text) == {"type", "point", "instant"}
    assert beside(refused, "instant") == "Choose one of the two."
    assert operator.post("/failover", {**form, "instant": "common"}).status_code == 204
    assert stand.world.failovers.last(DB, "db").point == marked
