"""Which epoch an owed one may follow: never one by which somebody else has the VM."""

import pytest

from leeward.agent.ledger import Ledger, Owed
from leeward.agent.owing import follows
from leeward.vault.log import Reign

INFO = {"writer": "a", "host": "recovery", "reason": "failover", "run": "r1"}
OWED = Owed("vm", "web", "recovery", 4, INFO, ["r1", "r0"])


def reign(epoch, host="office", reason="", run=""):
    return Reign(epoch, {"host": host, "reason": reason, "run": run}, 0)


@pytest.mark.parametrize(
    ("newest", "move", "epoch"),
    [
        (None, None, 0),
        (reign(4), None, 4),
        (reign(4), reign(2, "office", "failback", "old"), 4),
        (reign(6), reign(2, "office", "failback", "old"), 6),  # the source has begun epochs that move nothing
        (Reign(5, INFO, 0), Reign(5, INFO, 0), 4),  # ours, and we died or never heard of it
        (reign(6, "recovery"), Reign(5, INFO, 0), 6),
        (
            reign(5, "office", "undo", "r0"),
            reign(5, "office", "undo", "r0"),
            5,
        ),  # of the one before
        (reign(5, "elsewhere", "failover", "x"), reign(5, "elsewhere", "failover", "x"), None),
        (reign(6, "elsewhere"), reign(5, "elsewhere", "failover", "x"), None),
        (reign(5, "office", "failback", "x"), reign(5, "office", "failback", "x"), None),
    ],
)
def test_what_may_be_followed(newest, move, epoch):
    assert follows(OWED, newest, move) == epoch


def test_what_is_owed_outlives_the_agent_and_holds_replication(tmp_path):
    ledger = Ledger(tmp_path / "agent.json")
    ledger.owe(OWED)
    ledger = Ledger(tmp_path / "agent.json")
    assert ledger.all_owed() == [OWED]
    assert ledger.holds("vm", "recovery")
    assert not ledger.holds("vm", "office")
    ledger.unowe("vm", "recovery")
    ledger.unowe("vm", "recovery")
    assert not Ledger(tmp_path / "agent.json").holds("vm", "recovery")
