from pathlib import Path

from tests.longest_first import SECONDS, longest_first


def test_the_long_ones_come_first_then_those_with_most_tests():
    short = ["x/test_one.py", "x/test_two.py", "x/test_two.py"]
    *_, second, first = sorted(SECONDS, key=SECONDS.get)
    assert longest_first([short[0], second, *short[1:], first]) == [first, second, "x/test_two.py", "x/test_one.py"]


def test_all_that_have_a_place_are_there():
    assert [name for name in SECONDS if not (Path(__file__).parent / name).exists()] == []
