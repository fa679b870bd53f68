"""A vault that swallows packets is neither there nor away for as long as its timeouts last: pages are not kept."""

import threading
import time

import pytest
from tests.console.plan_world import APP, DB, PlanWorld
from tests.console.web.stand import Stand
from tests.console.web.test_moves import until

from leeward.console import outlook, vault_care
from leeward.console.web import points, vault_pages, vault_state
from leeward.console.web.vault_door import VaultState
from leeward.vault.facade import Vault


class Hole:
    """The vault's store behind a line that swallows everything while it is shut."""

    def __init__(self, store):
        self.store = store
        self.open = threading.Event()
        self.open.set()

    def __getattr__(self, name):
        self.open.wait(30)
        return getattr(self.store, name)


class HoleWorld(PlanWorld):
    def open_vault_of_console(self):
        return Vault.open(self.hole, keys=self.keys)

    def __init__(self, folder):
        self.hole = None
        super().__init__(folder)

    def start_console(self):
        self.hole = self.hole or Hole(self.store)
        super().start_console()


@pytest.fixture
def stand(tmp_path, monkeypatch):
    for module, name, value in (
        (vault_state, "_EVERY_S", 0.1),
        (vault_state, "_BRIEF_S", 0.1),
        (vault_state, "_SILENT_S", 0.6),
        (points, "_PATIENCE_S", 0.2),
        (points, "_FRESH_S", 0.0),
        (outlook, "_PATIENCE_S", 0.2),
        (outlook, "_FRESH_S", 0.15),
        (vault_pages, "_PATIENCE_S", 0.2),
        (vault_care, "_FRESH_S", 0.0),
    ):
        monkeypatch.setattr(module, name, value)
    made = Stand(tmp_path, HoleWorld)
    made.door._store = lambda create: made.world.hole
    made.world.protect_all()
    yield made
    made.world.hole.open.set()
    made.close()


def asking(name):
    """How many questions of a kind are under way."""
    return [thread.name for thread in threading.enumerate()].count(name)


def until_open(stand):
    """A busy machine may not have the first answer in the short time that these tests wait for it."""
    until(lambda: stand.watch.fresh().vault is VaultState.OPEN)


def taking(ask, *given):
    began = time.monotonic()
    found = ask(*given)
    assert time.monotonic() - began < 5, ask  # it hangs for thirty
    return found


def test_pictures_show_the_last_state_and_after_a_while_that_it_cannot_be_reached(stand):
    until_open(stand)
    stand.world.hole.open.clear()
    time.sleep(0.1)
    assert taking(stand.watch.fresh).vault is VaultState.OPEN
    until(lambda: taking(stand.watch.fresh).vault is VaultState.AWAY, 5)
    assert asking("vault-state") == 1
    stand.world.hole.open.set()
    until(lambda: taking(stand.watch.fresh).vault is VaultState.OPEN, 5)


def test_what_is_asked_anew_is_not_answered_as_of_before(stand):
    answers = [VaultState.NONE, VaultState.OPEN]
    slow = threading.Event()

    def ask():
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if found is VaultState.NONE:
            slow.wait(30)
        return found, None

    state = vault_state.LastState(ask)
    assert taking(state.look) is VaultState.UNKNOWN
    state.forget()
    assert state.look() is VaultState.OPEN
    slow.set()
    assert state.look() is VaultState.OPEN


@pytest.mark.parametrize("known", [True, False])
def test_no_page_is_kept_waiting(stand, known):
    operator = stand.as_role("operator")
    pages = ("/", "/recovery", f"/vms/{DB}", f"/failover?vm={DB}&type=unplanned", f"/enable?vm={APP}", "/vault")
    if known:
        until_open(stand)
    stand.world.hole.open.clear()
    for path in pages:
        assert taking(operator.get, path).status_code == 200, path
    until(lambda: taking(operator.get, "/vault").text.count("Cannot be reached"), 5)


def test_a_portal_that_knows_its_vms_from_the_vault_alone_is_not_kept_waiting(stand):
    world = stand.world
    world.start_portal()
    points_now = lambda: {one.vm: one.last_point.id for one in world.service.status() if one.last_point}  # noqa: E731
    until(lambda: set(points_now()) == {"db", "app", "front"})
    before = points_now()
    world.hole.open.clear()
    time.sleep(0.2)
    for _ in range(3):
        silent = [one for one in taking(world.service.status) if one.policy]
        assert {one.vm: one.last_point.id for one in silent} == before
        assert {one.reason for one in silent} == {"the vault cannot be read: it does not answer"}
    assert asking("outlook") == 1
    world.hole.open.set()
    until(lambda: all("cannot be asked" in one.reason for one in world.service.status() if one.policy), 5)
