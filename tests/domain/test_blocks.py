"""Runs and masks are two ways to say the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leeward.domain.blocks import Runs


@given(st.lists(st.sampled_from(["none", "data", "zero"]), max_size=40), st.integers(0, 50))
def test_runs_of_a_mask_cover_just_it_and_are_maximal(kinds, blocks):
    chosen = np.array([kind != "none" for kind in kinds], np.bool_)
    zero = np.array([kind == "zero" for kind in kinds], np.bool_)
    runs = Runs.where(chosen, zero)
    found = ["none"] * len(kinds)
    for start, count, is_zero in runs:
        found[start : start + count] = ["zero" if is_zero else "data"] * count
    assert found == kinds
    for (start, count, one), (after, _, other) in zip(list(runs), list(runs)[1:], strict=False):
        assert start + count < after or one != other
    expected = [*chosen, *[False] * 60][:blocks]
    assert runs.mask(blocks).tolist() == expected
    assert not Runs.where(chosen).zero.any()
