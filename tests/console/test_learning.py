"""A portal that knows nothing but the vault, and an office console that returns and finds out."""

import pytest
from tests.console.chaos import VM

from leeward.console.learning import has_moved, learned_life
from leeward.console.views import FailoverRequest
from leeward.domain.errors import Refused, StoreUnavailable, VaultError
from leeward.domain.lifecycle import Event, Phase
from leeward.state.lives import Life
from leeward.vault import keyspace
from leeward.vault.log import Reign
from leeward.wire.messages import ProtectionMessage

# Real time, real processes: not for the fast suite.
pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

WISH = ProtectionMessage(vm_id=VM, vm_name="web", host="office", claim=1)


def burn(world):
    """The office is gone, console included."""
    world.stop_console()
    world.office.stop_agent()
    world.office.hypervisor.force_off(VM)


def test_a_portal_recovers_from_the_vault_alone_and_the_office_console_learns_of_it(world):
    world.write(world.office)
    world.until_current(world.office)
    saved = world.disks(world.office)
    burn(world)
    assert world.start_portal() == ["web"]
    row = world.service.status("web")[0]
    assert (row.failover_possible, row.home, row.policy.rpo_s) == (True, "office", 1)
    assert "cannot be asked" in row.reason
    assert world.start_portal() == []  # known already

    world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    assert world.disks(world.recovery) == saved
    world.service.commit("web")
    world.until(Phase.SETTLED)
    world.write(world.recovery)
    world.until_current(world.recovery)
    portal = world.parts

    # The office is rebuilt: its host starts the VM, its agent wants to go on as if nothing had happened.
    world.office.hypervisor.start(VM)
    world.office.start_agent()
    world.wait(lambda: world.running() == ["recovery"])
    portal.stop()
    world.start_console()
    assert world.learner.look() == ["web"]
    assert world.learner.look() == []
    assert world.phase() is Phase.SETTLED
    status = world.service.status("web")[0]
    assert (status.host, status.phase) == ("recovery", "settled")
    assert world.running() == ["recovery"]
    world.wait(lambda: world.service.status("web")[0].state == "enabled")

    # And it brings the VM home.
    world.comes_home()
    world.service.commit("web")
    world.until(Phase.HOME)


def test_the_office_console_does_not_fail_over_what_a_portal_has_moved(world):
    world.until_current(world.office)
    burn(world)
    world.start_portal()
    world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    world.stop_console()
    world.office.start_agent()
    world.start_console()
    world.learner.look()
    with pytest.raises(Refused) as caught:
        world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    assert "commit" in caught.value.hint
    assert world.running() == ["recovery"]


def test_a_portal_adopts_a_vm_that_runs_at_the_recovery_site_already(world):
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    world.stop_console()
    assert world.start_portal() == ["web"]
    assert world.phase() is Phase.AWAY
    world.service.commit("web")
    world.until(Phase.SETTLED)


def test_a_vm_whose_schedule_of_drills_is_damaged_is_adopted_all_the_same(world):
    world.until_current(world.office)
    world.vault.put_document(VM, "drill", {"every_s": 86_400.0})
    (schedule,) = [info.key for info in world.store.scan(f"vm/{VM}/doc/drill.")]
    damaged = world.store.get(schedule)[:-8] + bytes(8)
    world.store.delete(schedule)
    world.store.put(schedule, [damaged])
    world.stop_console()
    assert world.start_portal() == ["web"]
    assert world.database.drills.all() == []


def test_a_vm_is_adopted_with_where_it_runs_or_once_more(world):
    world.service.failover("web", Event.PLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    world.stop_console()
    reads = world.vault.document

    def away(vm_id, kind):
        if kind == "drill":
            raise StoreUnavailable("the line breaks just now")
        return reads(vm_id, kind)

    world.vault.document = away
    assert world.start_portal() == []
    world.vault.document = reads
    assert world.learner.adopt() == ["web"]
    assert world.phase() is Phase.AWAY


@pytest.mark.parametrize(
    ("reign", "moved"),
    [
        (Reign(2, {"reason": "protect", "host": "office"}, 0), False),
        (Reign(3, {"reason": "protect", "host": "elsewhere"}, 0), False),
        (Reign(3, {"reason": "failover", "host": "recovery"}, 0), True),
        (Reign(1, {"reason": "failover", "host": "recovery"}, 0), False),
        (Reign(3, {"reason": "failback", "host": "office"}, 0), False),
    ],
)
def test_only_an_epoch_begun_elsewhere_for_a_move_says_that_the_vm_moved(reign, moved):
    assert has_moved(WISH, reign) is moved


@pytest.mark.parametrize(
    ("document", "host", "phase"),
    [
        ({"phase": "settled", "home": "office", "away": "recovery"}, "recovery", Phase.SETTLED),
        ({"phase": "failing-over", "home": "office", "away": "recovery"}, "recovery", Phase.AWAY),
        ({"phase": "home", "home": "office"}, "recovery", Phase.AWAY),
        ({}, "recovery", Phase.AWAY),
        ({"phase": "failing-back", "home": "office", "away": "recovery"}, "office", Phase.BACK),
        ({"phase": "home", "home": "office", "away": "recovery"}, "office", Phase.HOME),
        ({"phase": "nonsense", "home": "office", "away": "recovery"}, "recovery", Phase.AWAY),
    ],
)
def test_nothing_is_committed_on_a_guess(document, host, phase):
    life = learned_life(WISH, document, host, Life(VM, "web", Phase.HOME, "office"))
    assert (life.phase, life.home) == (phase, "office")
    if host != "office":
        assert life.away == host


def test_a_damaged_log_keeps_nobody_from_learning_of_the_other_vms(world):
    """Of what is looked at first nothing can be learnt; of the others all the same."""
    spoilt = WISH.model_copy(update={"vm_id": "0" * 8 + VM[8:], "vm_name": "a-spoilt-one"})
    world.database.protect(spoilt)
    world.vault.store.put(keyspace.log(spoilt.vm_id, 1), [b"no log at all"])
    with pytest.raises(VaultError):
        world.vault.log(spoilt.vm_id).epoch()
    world.until_current(world.office)
    burn(world)
    world.start_portal()
    world.service.failover("web", Event.UNPLANNED, FailoverRequest())
    world.until(Phase.AWAY)
    world.parts.stop()
    world.start_console()
    assert world.learner.look() == ["web"]
