"""Two VMs on two hosts that got each other's names between two looks: whatever is asked for by a name goes to the VM
that has it now."""

from dataclasses import replace

import pytest
from tests.console.plan_world import DB, PlanParts, PlanWorld
from tests.console.world import KIB64, FarLink, Opener

from leeward.console.renaming import follow_names
from leeward.console.service import find_in_vault
from leeward.console.views import FailbackRequest, FailoverRequest, ProtectRequest
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.vm import Power

pytestmark = pytest.mark.usefixtures("quick")

SHOP = "0c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b12"


class TwoOffices(PlanWorld):
    """The VM "db" is on the office's host, "till" on the branch's."""

    def populate(self):
        super().populate()
        self.branch = self.place_type(self, "branch", "source", self.folder / "branch")
        self.branch.hypervisor.add(SHOP, "till", {"vda": b"\x07" * 4 * KIB64})
        self.branch.start_agent()

    def start_console(self):
        links = [FarLink(place) for place in (self.office, self.recovery, self.branch)]
        self._use(PlanParts(self, links, "leeward.db"))
        self.plans, self.fate = self.parts.plans, self.parts.fate

    def close(self):
        super().close()
        self.branch.stop_agent()

    def swap(self):
        for place, vm_id, name in ((self.office, DB, "till"), (self.branch, SHOP, "db")):
            vm = place.hypervisor._vms[vm_id]
            vm.facts = replace(vm.facts, name=name)
        self.wait(lambda: {(vm.id, vm.name) for vm in self.fleet.view().vms} >= {(DB, "till"), (SHOP, "db")})

    def follow(self):
        found = follow_names(self.database, self.fleet, self.desk, Opener(self))
        self.plans.follow_names()
        return found

    def protect_both(self):
        for name in ("db", "till"):
            self.service.protect(name, ProtectRequest(rpo_s=1, app_interval_s=0))
        self.wait(lambda: all(self.service.status(name)[0].failover_possible for name in ("db", "till")))

    def until_phase(self, name, phase):
        self.wait(lambda: self.service.status(name)[0].phase == phase)

    def there_and_back(self, name):
        """A failover and a failback, so that a life is written down."""
        self.service.failover(name, Event.PLANNED, FailoverRequest(), "anna")
        self.until_phase(name, Phase.AWAY)
        self.service.commit(name, "anna")
        self.until_phase(name, Phase.SETTLED)
        self.wait(lambda: self.service.status(name)[0].state == "enabled")
        self.service.failback(name, FailbackRequest(), "anna")
        self.until_phase(name, Phase.BACK)
        self.service.commit(name, "anna")
        self.until_phase(name, Phase.HOME)


@pytest.fixture
def world(tmp_path):
    made = TwoOffices(tmp_path)
    made.protect_both()
    yield made
    made.close()


def test_names_lead_to_the_vm_that_has_them_now(world):
    world.swap()
    for _ in range(2):  # before anything has noticed, and afterwards
        assert world.service.status("till")[0].vm_id == DB
        assert world.service.status("db")[0].vm_id == SHOP
        assert world.service.protect("db", ProtectRequest(rpo_s=2)).vm_id == SHOP
        world.follow()
    assert world.follow() == []
    assert (find_in_vault(world.vault, "till")[0], find_in_vault(world.vault, "db")[0]) == (DB, SHOP)
    world.wait(lambda: {one.state for one in world.service.status() if one.policy} == {"enabled"})


def test_a_failover_moves_the_vm_that_has_the_name(world):
    world.swap()
    run = world.service.failover("db", Event.PLANNED, FailoverRequest(), "anna")
    assert run.vm_id == SHOP
    world.until_phase("db", Phase.AWAY)
    assert world.branch.hypervisor.vm(SHOP).power is Power.OFF
    assert world.recovery.hypervisor.vm(SHOP).power is Power.RUNNING
    assert world.office.hypervisor.vm(DB).power is Power.RUNNING


def test_runs_speak_of_a_vm_by_the_name_that_it_has_now(world):
    """What they tell somebody to type would else be about the other one."""
    world.there_and_back("db")
    world.swap()
    world.follow()
    assert world.failovers.life(DB, "").vm_name == "till"
    run = world.service.failover("till", Event.PLANNED, FailoverRequest(), "anna")
    assert (run.vm_id, run.vm) == (DB, "till")
    world.until_phase("till", Phase.AWAY)


def test_a_name_that_could_not_be_followed_everywhere_is_followed_later(world):
    """Killed between the wish and the life."""
    world.there_and_back("db")
    life = world.database.lives.get(DB)
    world.swap()
    world.follow()
    world.database.lives.put(life)
    assert world.database.lives.get(DB).vm_name == "db"
    assert world.follow() == []
    assert world.database.lives.get(DB).vm_name == "till"


def test_a_plan_keeps_its_vms_and_shows_how_they_are_called(world):
    plan = world.plans.create({"name": "p", "groups": [{"name": "g", "vms": ["db"]}]}, "anna")
    assert plan.vms == ["db"]
    world.swap()
    world.follow()
    shown = world.plans.get("p")
    assert shown.vms == ["till"]
    assert [vm.vm_id for vm in world.plans.kept("p").plan.members] == [DB]
    assert world.vault.document(DB, "plans")["plans"][0]["groups"][0]["members"][0]["vm_name"] == "till"
    # What is taken out as a file and brought back is the same plan.
    world.plans.replace("p", shown.document, "anna")
    assert [vm.vm_id for vm in world.plans.kept("p").plan.members] == [DB]


def test_a_plan_that_is_brought_at_that_very_moment_has_the_vms_that_are_called_so_now(world):
    world.swap()
    world.plans.create({"name": "p", "groups": [{"name": "g", "vms": ["db"]}]}, "anna")
    assert [(vm.vm_id, vm.vm_name) for vm in world.plans.kept("p").plan.members] == [(SHOP, "db")]
