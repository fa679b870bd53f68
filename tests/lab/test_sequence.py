from leeward.lab.guest import sequence
from leeward.lab.guest.sequence import CAPACITY, RECORD, parse


def record(number: int) -> bytes:
    return f"{number:012d} {number * 10:020d}".encode().ljust(RECORD - 1, b".") + b"\n"


def test_an_empty_file_has_no_records() -> None:
    assert parse(b"") == sequence.Records(0, 0, (), {})


def test_a_run_from_one_is_intact_and_keeps_times() -> None:
    records = parse(b"".join(record(n) for n in range(1, 6)))
    assert (records.first, records.last, records.intact) == (1, 5, True)
    assert records.times_ns[3] == 30


def test_a_torn_tail_counts_as_not_written() -> None:
    assert parse(record(1) + record(2)[:30]).last == 1
    assert parse(record(1) + bytes(RECORD)).last == 1


def test_a_missing_record_is_a_gap() -> None:
    records = parse(record(1) + bytes(RECORD) + record(3))
    assert records.gaps == (2,)
    assert not records.intact


def test_records_in_each_others_places_are_gaps() -> None:
    assert parse(record(1) + record(3) + record(2) + record(4)).gaps == (2, 3)


def test_a_reused_ring_is_intact_but_for_the_record_being_replaced() -> None:
    ring = b"".join(record(n) for n in range(1, CAPACITY + 1))
    turned = record(CAPACITY + 1) + b"x" * RECORD + ring[2 * RECORD :]
    records = parse(turned)
    assert (records.first, records.last, records.intact) == (3, CAPACITY + 1, True)
    broken = turned[: 5 * RECORD] + bytes(RECORD) + turned[6 * RECORD :]
    assert parse(broken).gaps == (6,)
