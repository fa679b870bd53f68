"""The sentry finds out that a log was taken over, where no worker can."""

import pytest

from leeward.agent.sentry import Sentry, Watched
from leeward.domain.errors import StoreUnavailable

WEB = Watched("vm", "office", "web")


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


@pytest.mark.parametrize(("newest", "ours", "told"), [(2, 2, []), (3, 2, [(WEB, 2)]), (3, None, []), (2, 3, [])])
def test_tells_only_of_a_newer_epoch_than_ours(newest, ours, told):
    found = []
    Sentry(lambda: [WEB], lambda vm_id, host: ours, lambda: Vault(newest), lambda *over: found.append(over)).look()
    assert found == told


def test_asks_for_our_epoch_after_it_has_looked():
    """We ourselves may begin a newer one in between."""
    ours = [2]
    vault = Vault(3)
    vault.epoch = lambda: ours.__setitem__(0, 3) or 3
    found = []
    Sentry(lambda: [WEB], lambda vm_id, host: ours[0], lambda: vault, lambda *over: found.append(over)).look()
    assert found == []


def test_a_vault_that_is_away_and_a_bug_are_survived():
    found = []

    def told(vm, epoch):
        found.append(vm)
        raise ValueError

    vault = Vault(StoreUnavailable("away"))
    sentry = Sentry(lambda: [WEB, WEB], lambda vm_id, host: 1, lambda: vault, told)
    sentry.look()
    assert found == []
    vault.newest = 2  # one that could not be asked is asked again at once
    sentry.look()
    assert found == [WEB, WEB]


def test_asks_no_more_often_than_it_must():
    vault, asked = Vault(1), []
    vault.epoch = lambda: asked.append(1) or 1
    sentry = Sentry(lambda: [WEB], lambda vm_id, host: 1, lambda: vault, lambda vm, epoch: None)
    for _ in range(5):
        sentry.look()
    assert asked == [1]
