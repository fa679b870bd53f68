"""Two primaries are told where they are certain, and only there."""

import pytest

from leeward.lab.scenario.sightings import Records, Sighting, Sightings


def looks(*rows):
    """(site, begin, end, present) → the sightings, and what they proved."""
    sightings = Sightings()
    return sightings, [sightings.saw(Sighting(*row)) for row in rows]


def test_a_vm_that_moves_was_never_at_two_sites():
    sightings, proofs = looks(
        ("office", 0, 1, True), ("recovery", 1, 2, False), ("office", 2, 3, True), ("office", 3, 4, False),
        ("recovery", 4, 5, True), ("office", 5, 6, False), ("recovery", 6, 7, True),
    )  # fmt: skip
    assert proofs == [None] * 7
    assert sightings.twice == []


def test_seen_there_between_two_looks_here_it_was_at_both():
    sightings, proofs = looks(("office", 0, 1, True), ("recovery", 1.5, 2, True), ("office", 2.5, 3, True))
    assert proofs[:2] == [None, None]
    assert (proofs[2].begin, proofs[2].end) == (1.5, 2)
    assert sightings.twice == [proofs[2]]


@pytest.mark.parametrize("other", [(0.5, 2), (1.5, 2.7)])
def test_looks_that_overlap_prove_nothing(other):
    _, proofs = looks(("office", 0, 1, True), ("recovery", *other, True), ("office", 2.5, 3, True))
    assert proofs[2] is None


def test_a_look_that_found_nothing_in_between_ends_the_stay():
    _, proofs = looks(
        ("office", 0, 1, True), ("recovery", 1.5, 2, True), ("office", 2.1, 2.2, False), ("office", 2.5, 3, True)
    )
    assert proofs == [None] * 4


def test_an_overlap_is_found_from_the_other_site_too_and_measured():
    sightings, _ = looks(
        ("recovery", 0, 1, True), ("office", 1, 2, True), ("recovery", 2, 3, True), ("office", 3, 4, True),
    )  # fmt: skip
    assert [(found.begin, found.end) for found in sightings.twice] == [(1, 2), (2, 3)]


def test_what_was_told_by_when():
    records = Records()
    for time, number in [(1.0, 10), (3.0, 30), (2.0, 20), (4.0, 25)]:  # a later life begins further back
        records.heard(time, number)
    assert [records.by(time) for time in (0.5, 1.0, 1.5, 2.5, 3.5, 9.0)] == [0, 0, 10, 20, 30, 25]
