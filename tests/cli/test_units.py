"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeward.cli.units import seconds, show_bytes, show_seconds, size
from leeward.domain.errors import BadInput


@pytest.mark.parametrize(
    ("text", "value"),
    [("1s", 1), ("5m", 300), ("24h", 86_400), ("7d", 604_800), ("90", 90), (" 1.5 h ", 5400), ("0", 0)],
)
def test_durations(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("10MiB", 10 << 20), ("512k", 512_000), ("2.5 GB", 2_500_000_000), ("7", 7)]
)
def test_sizes(text, value):
    assert size(text) == value


@given(st.text(max_size=8))
def test_anything_else_is_one_clear_error(text):
    for read in (seconds, size):
        try:
            assert read(text) >= 0
        except BadInput as error:
            assert error.hint


def test_shown_short():
    assert [show_seconds(n) for n in (None, 0.44, 61, 600, 7300)] == ["–", "0.4 s", "61 s", "10 min", "2 h"]
    assert [show_bytes(n) for n in (0, 1023, 1536, 5 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
