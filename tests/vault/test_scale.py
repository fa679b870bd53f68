"""Opening a point costs a bounded number of requests, however long the log is."""

import random

from tests.vault.conftest import VM

from leeward.vault.log import VmLog
from leeward.vault.writer import MAP_EVERY


class Counting:
    """Counts the store's calls by name."""

    def __init__(self, store):
        self.store, self.calls = store, {}

    def __getattr__(self, name):
        def call(*args):
            self.calls[name] = self.calls.get(name, 0) + 1
            return getattr(self.store, name)(*args)

        return call


def test_a_long_log_opens_with_a_bounded_number_of_reads(pen, vault):
    pen.resize("vda", 8)
    dice = random.Random(1)
    for _ in range(3 * MAP_EVERY):
        pen.put("vda", dice.randrange(8), dice.randbytes(65536)).commit()
        pen.writer.maintain()
    counting = Counting(vault.store)
    reader = type(vault._reader)(counting, vault.keys)
    for point_id in ("2", str(MAP_EVERY), str(2 * MAP_EVERY + 7), "latest"):
        counting.calls = {}
        VmLog(reader, VM).open_point(point_id).close()
        assert counting.calls.get("get_range", 0) <= MAP_EVERY + 4, point_id
        assert counting.calls.get("scan", 0) <= 3  # the horizon, the maps, the log's tail
    pen.check(str(2 * MAP_EVERY + 7))
    counting.calls = {}
    points = VmLog(reader, VM).points()
    assert [point.id for point in points] == list(pen.remembered)
    # Three maps name their points; only the entries after the last map are read one by one.
    assert counting.calls["get_range"] <= MAP_EVERY + 3 * 2 + 4
