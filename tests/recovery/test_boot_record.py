"""The record keeps first reads in order, and read-ahead asks for just those within its budget."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from leeward.recovery.boot_record import BootRecorder, read_ahead

BLOCK = 65536


@given(st.lists(st.tuples(st.sampled_from(["vda", "vdb"]), st.integers(0, 40), st.integers(1, 3)), max_size=60))
def test_every_block_read_is_recorded_once_at_its_first_read(reads):
    recorder = BootRecorder()
    expected = {}
    for disk, block, count in reads:
        recorder.note(disk, block * BLOCK + 100, count * BLOCK - 100)
        for n in range(block, block + count):
            expected.setdefault((disk, n))
    runs = recorder.document()["runs"]
    assert [(disk, start + n) for disk, start, count in runs for n in range(count)] == list(expected)
    assert all(1 <= count <= 16 for _, _, count in runs)


def test_nothing_is_recorded_after_the_boot():
    recorder = BootRecorder()
    recorder.note("vda", 0, 10)
    recorder.done = True
    recorder.note("vda", BLOCK, 10)
    assert recorder.document() == {"runs": [["vda", 0, 1]]}


class Disk:
    def __init__(self, size):
        self.size = size
        self.asked = []
        self.lock = threading.Lock()

    def prefetch(self, offset, length):
        with self.lock:
            self.asked.append((offset, length))


def test_read_ahead_keeps_order_budget_and_disks():
    disk = Disk(10 * BLOCK)
    record = {"runs": [["vda", 3, 2], ["gone", 0, 1], ["vda", 50, 1], ["vda", 0, 1], ["vda", 7, 2]]}
    read_ahead(record, {"vda": disk}, budget=4 * BLOCK, threads=1).shutdown()
    assert disk.asked == [(3 * BLOCK, 2 * BLOCK), (0, BLOCK)]
