"""The bench of a long log, with a short one."""

import pytest

from leeward.lab.bench import long_log as bench
from leeward.lab.bench.long_log import long_log

ENTRIES = 600


@pytest.fixture(autouse=True)
def warm(monkeypatch):
    monkeypatch.setattr(bench, "drop_caches", lambda: None)  # needs root, and would slow down whoever runs beside


def test_each_round_opens_every_point(tmp_path):
    folder, told = tmp_path / "log", []
    found = long_log(ENTRIES, 2, told.append, folder)
    assert found.entries == ENTRIES
    assert len(found.seconds) == 5
    for what, seconds in found.seconds.items():
        assert len(seconds) == 2, what
        assert 0 < found.median(what) <= max(seconds)
    assert told == ["round 1 of 2", "round 2 of 2"]
    assert not folder.exists()
