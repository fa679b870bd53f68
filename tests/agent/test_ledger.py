"""The ledger survives restarts and kills, and says what to do when it is damaged."""

import os

import pytest

from leeward.agent.ledger import Ledger
from leeward.domain.errors import BadInput
from leeward.wire.messages import DesiredState, PolicyMessage, ProtectionMessage

WISH = ProtectionMessage(vm_id="a" * 8, vm_name="web", host="office", policy=PolicyMessage(rpo_s=1))


def test_remembers_across_restarts(tmp_path):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.save_desired(DesiredState(generation=3, protections=(WISH,)))
    ledger.save_epoch(WISH.vm_id, 4)
    again = Ledger(tmp_path / "agent.json")
    assert again.desired == ledger.desired
    assert again.epochs == {WISH.vm_id: 4}
    again.forget(WISH.vm_id)
    assert Ledger(tmp_path / "agent.json").epochs == {}


def test_a_kill_between_write_and_rename_keeps_the_old_content(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.save_epoch("vm", 1)

    def die(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        ledger.save_epoch("vm", 2)
    assert Ledger(tmp_path / "agent.json").epochs == {"vm": 1}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"desired": {"generation": "x"}, "epochs": {}}'])
def test_damage_is_one_clear_error(tmp_path, content):
    (tmp_path / "agent.json").write_text(content)
    with pytest.raises(BadInput) as caught:
        Ledger(tmp_path / "agent.json")
    assert "agent.json" in str(caught.value)
    assert caught.value.hint
