"""The sentry finds out that a log was taken over, where no worker can."""

import pytest

from leeward.agent.sentry import Sentry
from leeward.domain.errors import StoreUnavailable
from leeward.wire.messages import ProtectionMessage

WISH = ProtectionMessage(vm_id="vm", vm_name="web", host="office")


class Vault:
    """Stands for the vault: only the newest epoch is asked for."""

    def __init__(self, epoch):
        self.newest = epoch

    def log(self, vm_id):
        return self

    def epoch(self):
        if isinstance(self.newest, Exception):
            raise self.newest
        return self.newest


@pytest.mark.parametrize(("newest", "ours", "told"), [(2, 2, []), (3, 2, [WISH]), (3, None, []), (2, 3, [])])
def test_tells_only_of_a_newer_epoch_than_ours(newest, ours, told):
    found = []
    Sentry(lambda: [WISH], lambda vm_id, host: ours, lambda: Vault(newest), found.append).look()
    assert found == told


def test_asks_for_our_epoch_after_it_has_looked():
    """We ourselves may begin a newer one in between."""
    ours = [2]
    vault = Vault(3)
    vault.epoch = lambda: ours.__setitem__(0, 3) or 3
    found = []
    Sentry(lambda: [WISH], lambda vm_id, host: ours[0], lambda: vault, found.append).look()
    assert found == []


def test_a_vault_that_is_away_and_a_bug_are_survived():
    found = []

    def told(wish):
        found.append(wish)
        raise ValueError

    vault = Vault(StoreUnavailable("away"))
    sentry = Sentry(lambda: [WISH, WISH], lambda vm_id, host: 1, lambda: vault, told)
    sentry.look()
    assert found == []
    vault.newest = 2  # one that could not be asked is asked again at once
    sentry.look()
    assert found == [WISH, WISH]


def test_asks_no_more_often_than_it_must():
    vault, asked = Vault(1), []
    vault.epoch = lambda: asked.append(1) or 1
    sentry = Sentry(lambda: [WISH], lambda vm_id, host: 1, lambda: vault, lambda wish: None)
    for _ in range(5):
        sentry.look()
    assert asked == [1]
