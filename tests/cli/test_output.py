"""What people read about a warm replica."""

import pytest

from leeward.cli.output import replica_text


@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        ("copying", {"fraction": 0.421}, "replica at recovery: copying 42 %"),
        ("warm", {"lag_s": 0.0}, "warm at recovery"),
        ("warm", {"lag_s": 3.0}, "warm at recovery, 3.0 s behind"),
        ("behind", {"lag_s": 70.0, "reason": "no room"}, "replica at recovery, 70 s behind: no room"),
        ("taken", {}, "the replica at recovery is in use by a failover"),
        ("error", {"reason": "no room"}, "no replica at recovery: no room"),
        ("unknown", {"reason": "not told"}, "replica at recovery: not told"),
    ],
)
def test_a_replica_in_words(state, more, said):
    replica = {"host": "recovery", "lag_s": None, "state": state, "reason": "", "fraction": 0.0, **more}
    text = replica_text(replica)
    for mark in ("[yellow]", "[red]", "[/]"):
        text = text.replace(mark, "")
    assert text == said
