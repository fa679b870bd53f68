"""A VM renamed on its host keeps its protection and is found by its new name, and by no other, everywhere."""

from dataclasses import replace

import pytest
from tests.console.world import VM

from leeward.console.renaming import follow_names
from leeward.console.service import find_in_vault
from leeward.domain.errors import NotFound, StoreUnavailable
from leeward.domain.lifecycle import Phase
from leeward.state.lives import Life

pytestmark = pytest.mark.usefixtures("quick")


class Opener:
    def __init__(self, world):
        self.world = world

    def open(self):
        return self.world.vault


def follow(world):
    return follow_names(world.database, world.fleet, world.desk, Opener(world))


def rename(world, name):
    vm = world.vm(world.office)
    vm.facts = replace(vm.facts, name=name)
    world.wait(lambda: name in [vm.name for vm in world.fleet.view().vms])


def test_it_is_found_by_its_new_name_and_goes_on(world):
    assert follow(world) == []
    policy = world.service.status("web")[0].policy
    rename(world, "shop")
    assert follow(world) == ["shop"]
    assert follow(world) == []
    assert find_in_vault(world.vault, "shop")[0] == VM
    with pytest.raises(NotFound):
        find_in_vault(world.vault, "web")
    assert world.vault.document(VM, "catalog")["policy"] == policy.model_dump()
    status = world.service.status("shop")[0]
    assert (status.vm_id, status.policy) == (VM, policy)
    world.wait(lambda: world.service.status("shop")[0].state == "enabled")
    world.write(world.office)
    world.until_current(world.office)
    assert world.database.events(1)[0]["detail"] == "it was web"


def test_another_vm_may_have_the_old_name(world):
    rename(world, "shop")
    other = "0c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b12"
    world.office.hypervisor.add(other, "web", {"vda": bytes(65536)})
    world.wait(lambda: "web" in [vm.name for vm in world.fleet.view().vms])
    follow(world)
    assert world.service.status("web")[0].vm_id == other
    with pytest.raises(NotFound):  # not the other one's points
        find_in_vault(world.vault, "web")


def test_a_vault_that_is_away_is_told_later(world, monkeypatch):
    rename(world, "shop")

    def away(*args):
        raise StoreUnavailable("the vault is away")

    monkeypatch.setattr(world.vault, "put_document", away)
    with pytest.raises(StoreUnavailable):
        follow(world)
    monkeypatch.undo()
    assert follow(world) == ["shop"]
    assert find_in_vault(world.vault, "shop")[0] == VM


def test_not_while_it_is_being_moved(world):
    rename(world, "shop")
    world.database.lives.put(Life(VM, "web", Phase.FAILING_OVER, "office"))
    assert follow(world) == []
