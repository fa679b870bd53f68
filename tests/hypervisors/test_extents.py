"""Byte ranges to block runs, against a model that looks at every byte."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leeward.domain.blocks import BLOCK_SIZE
from leeward.hypervisors.extents import allocated, changed

STEP = 4096  # ranges end anywhere on sectors; 4 KiB keeps the model small


@st.composite
def rows(draw, size):
    found, at = [], 0
    while at < size:
        length = min(draw(st.integers(1, 40)) * STEP, size - at)
        found.append((at, length, draw(st.sampled_from([0, 1, 2, 3]))))
        at += length
    return np.array(found, np.uint64).reshape(-1, 3)


SIZES = st.integers(1, 60).map(lambda n: n * STEP)


def flags_at(table, size):
    result = np.zeros(size // STEP, np.int64)
    for start, length, flags in table.tolist():
        result[start // STEP : (start + length) // STEP] = flags
    return result


def expand(runs):
    return {block: zero for start, count, zero in runs for block in range(start, start + count)}


@given(st.data(), SIZES)
def test_changed(data, size):
    dirty, allocation = data.draw(rows(size)), data.draw(rows(size))
    got = expand(changed(size, dirty, allocation, dirty_flag=1, zero_flag=2))
    is_dirty, is_zero = flags_at(dirty, size) & 1, flags_at(allocation, size) & 2
    per = BLOCK_SIZE // STEP
    for block in range(-(-size // BLOCK_SIZE)):
        cut = slice(block * per, (block + 1) * per)
        if is_dirty[cut].any():
            assert got[block] == bool((is_zero[cut] != 0).all())
        else:
            assert block not in got


@given(st.data(), SIZES)
def test_allocated(data, size):
    allocation = data.draw(rows(size))
    got = expand(allocated(size, allocation, zero_flag=2))
    is_zero = flags_at(allocation, size) & 2
    per = BLOCK_SIZE // STEP
    for block in range(-(-size // BLOCK_SIZE)):
        assert (block in got) == bool((is_zero[block * per : (block + 1) * per] == 0).any())
    assert not any(got.values())


@given(st.data(), SIZES)
def test_runs_are_maximal_and_ascending(data, size):
    runs = list(changed(size, data.draw(rows(size)), data.draw(rows(size)), dirty_flag=1, zero_flag=2))
    for (start, count, zero), (after, _, zero_after) in pairwise(runs):
        assert start + count <= after
        assert start + count < after or zero != zero_after
