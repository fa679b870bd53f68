"""Chunks cover exactly the data runs, in order, never more than a frame's worth; `outside` is set difference."""

from hypothesis import given
from hypothesis import strategies as st

from leeward.domain.blocks import BLOCK_SIZE, Runs
from leeward.replication.chunks import CHUNK_BLOCKS, chunks, outside, views


@st.composite
def runs(draw, limit=200):
    at, found = 0, []
    while (at < limit and draw(st.booleans())) or not found:
        start = at + draw(st.integers(0, 20))
        count = draw(st.integers(1, 40))
        found.append((start, count, draw(st.booleans())))
        at = start + count
    return Runs.of(*found)


def members(triples, *, zero=False):
    return {block for start, count, z in triples if z == zero for block in range(start, start + count)}


@given(runs())
def test_chunks_cover_the_data_runs_once_and_in_order(given_runs):
    seen = []
    for chunk in chunks("vda", given_runs):
        assert 1 <= len(chunk.blocks) <= CHUNK_BLOCKS
        from_pieces = [b for start, count in chunk.pieces for b in range(start, start + count)]
        assert from_pieces == chunk.blocks.tolist()
        seen += from_pieces
    assert seen == sorted(members(given_runs))


@given(runs())
def test_all_chunks_but_the_last_are_full(given_runs):
    sizes = [len(chunk.blocks) for chunk in chunks("vda", given_runs)]
    assert all(size == CHUNK_BLOCKS for size in sizes[:-1])


@given(runs(), runs())
def test_outside_is_the_difference(data, of):
    found = {block for start, count in outside(data, of) for block in range(start, start + count)}
    assert found == members(of) - members(data)


def test_views_cut_the_last_block_and_zero_what_is_beyond_the_disk():
    chunk = next(chunks("vda", Runs.of((0, 3, False))))
    buffer = memoryview(bytearray(b"\xff" * (CHUNK_BLOCKS * BLOCK_SIZE)))
    size = 2 * BLOCK_SIZE + 512
    [(offset, view)] = views(chunk, size, buffer)
    assert offset == 0
    assert len(view) == size
    assert bytes(buffer[size : 3 * BLOCK_SIZE]) == bytes(3 * BLOCK_SIZE - size)
    assert buffer[3 * BLOCK_SIZE] == 0xFF
