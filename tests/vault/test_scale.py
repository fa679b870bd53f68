"""Opening a point costs a bounded number of requests, however long the log is."""

import random
from contextlib import suppress
from itertools import pairwise

from tests.vault.conftest import VM

from leeward.domain.errors import StoreUnavailable
from leeward.vault import writer
from leeward.vault.log import VmLog
from leeward.vault.writer import MAP_EVERY, MAP_RETRY


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


def test_a_map_that_cannot_be_written_is_not_tried_after_every_entry(pen, vault, monkeypatch):
    tries, away = [], True

    def put_map(history, content):
        tries.append(content.state.seq)
        if away:
            raise StoreUnavailable("the vault is away")
        return 1

    monkeypatch.setattr(writer, "put_map", put_map)
    monkeypatch.setattr(writer, "MAP_EVERY", 8)
    pen.resize("vda", 1)

    def write(count):
        for number in range(count):
            pen.put("vda", 0, bytes([1 + number % 250]) * 65536).commit()
            with suppress(StoreUnavailable):
                pen.writer.maintain()

    write(3 * MAP_RETRY)
    assert [second - first for first, second in pairwise(tries)] == [MAP_RETRY] * (len(tries) - 1)
    assert len(tries) == 3
    away = False
    write(MAP_RETRY)
    assert pen.writer.state.seq - tries[-1] < 8 + MAP_RETRY
    assert len(tries) > 3
