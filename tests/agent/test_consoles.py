"""Where an agent looks for its console."""

import pytest

from leeward.agent.consoles import Consoles, addresses

A, B, C = "https://a:8444", "https://b:8444", "https://c:8444"


def test_each_is_tried_in_turn_and_it_is_told_when_all_have_failed():
    consoles = Consoles()
    consoles.use([A, B, C])
    seen = []
    for _ in range(6):
        seen.append((consoles.current, consoles.failed()))
    assert seen == [(A, False), (B, False), (C, True)] * 2


def test_who_answered_begins_the_next_round():
    consoles = Consoles()
    consoles.use([A, B])
    assert not consoles.failed()
    consoles.answered()
    assert consoles.current == B
    assert not consoles.failed()
    assert consoles.current == A
    assert consoles.failed()


def test_one_alone_has_failed_with_each_failure():
    consoles = Consoles()
    consoles.use([A])
    assert not consoles.several
    assert consoles.failed()
    assert consoles.current == A


def test_news_does_not_turn_away_from_the_one_that_answers():
    consoles = Consoles()
    consoles.use([A])
    consoles.use([B, A, B + "/", " "])
    assert consoles.several
    assert consoles.current == A
    assert not consoles.failed()
    assert consoles.current == B
    consoles.use([C])
    assert consoles.current == C


def test_none_is_known_before_enrolment():
    consoles = Consoles()
    assert consoles.current == ""
    assert consoles.failed()


@pytest.mark.parametrize(
    ("configured", "told", "enrolled", "expected"),
    [
        ("", (), A, (A,)),
        ("", (B, A), A, (B, A)),
        ("", (B, C), A, (B, C, A)),
        (f"{C},{B}", (A,), A, (C, B)),
    ],
)
def test_what_counts(configured, told, enrolled, expected):
    assert addresses(configured, told, enrolled) == expected
