"""When something becomes an alert, when it is over, and when who hears of it."""

import pytest

from leeward.domain.alerts import (
    GATHER_S,
    AlertKind,
    News,
    Patience,
    Seen,
    Telling,
    Trouble,
    again_after,
    decide,
    news,
    ripe,
)

HOST = Trouble(AlertKind.HOST, "office", "office", "gone")
PATIENCE = Patience({AlertKind.HOST: 60.0}, quiet_s=30.0)


class Story:
    """Looks one after the other, with what they made of the alerts."""

    def __init__(self, patience=PATIENCE):
        self.patience, self.seen, self.open = patience, Seen(), set()
        self.told = []

    def look(self, tick, *found, unknown=()):
        decision, self.seen = decide(self.open, found, unknown, self.seen, self.patience, tick)
        for trouble, held in decision.raised:
            self.open.add(trouble.key)
            self.told.append(("raised", tick, held))
        for key in decision.ended:
            self.open.discard(key)
            self.told.append(("ended", tick))
        return decision


def test_what_lasts_is_raised_once_and_ends_once():
    story = Story()
    for tick in range(0, 200, 10):
        story.look(tick, HOST)
    for tick in range(200, 400, 10):
        story.look(tick)
    assert story.told == [("raised", 60, 60), ("ended", 230)]
    assert story.seen == Seen()


def test_what_is_short_is_never_raised():
    story = Story()
    for tick in range(0, 1000, 10):
        story.look(tick, *([HOST] if tick % 60 < 50 else []))
    assert story.told == []


def test_an_alert_does_not_flap():
    """It comes and goes every ten seconds, for half an hour."""
    story = Story()
    for tick in range(0, 70, 10):
        story.look(tick, HOST)
    for tick in range(70, 1870, 10):
        story.look(tick, *([HOST] if tick % 20 else []))
    assert story.told == [("raised", 60, 60)]


def test_of_what_nothing_is_known_nothing_is_decided():
    story = Story()
    for tick in range(0, 70, 10):
        story.look(tick, HOST)
    for tick in range(70, 1000, 10):
        story.look(tick, unknown={HOST.key})
    assert story.told == [("raised", 60, 60)]
    for tick in range(1000, 1040, 10):
        story.look(tick)
    assert story.told[1:] == [("ended", 1030)]


def test_not_knowing_does_not_begin_the_wait_anew():
    story = Story()
    story.look(0, HOST)
    story.look(30, unknown={HOST.key})
    assert story.look(60, HOST).raised


def test_what_certainly_lasted_before_the_first_look_counts():
    """A console that has just been started need not wait once more."""
    late = Trouble(AlertKind.HOST, "office", "office", held_s=500.0)
    assert Story().look(0, late).raised == ((late, 500.0),)


def test_kinds_without_patience_are_raised_at_once():
    assert Story().look(0, Trouble(AlertKind.RUN, "r1", "db")).raised


def test_an_open_alert_goes_on_with_its_newest_reason():
    story = Story(Patience())
    story.look(0, HOST)
    changed = Trouble(AlertKind.HOST, "office", "office", "another reason")
    assert story.look(10, changed).going_on == (changed,)


# --- telling ------------------------------------------------------------------------------------------------


def a_telling(**more):
    values = {"alert": 1, "times": 0, "last": 0.0, "raised": 100.0, "ended": None, "acknowledged": False}
    return Telling(**{**values, **more})


@pytest.mark.parametrize(
    ("telling", "expected"),
    [
        (a_telling(), (News.BEGUN, 100.0)),
        (a_telling(times=1, last=110.0), None),
        (a_telling(times=1, last=110.0 - 3600), (News.REMINDER, 110.0)),
        (a_telling(times=5, last=110.0 - 3600, acknowledged=True), None),
        (a_telling(times=1, last=110.0, ended=150.0), (News.ENDED, 150.0)),
        (a_telling(times=1, last=110.0, ended=150.0, acknowledged=True), (News.ENDED, 150.0)),
        (a_telling(ended=150.0), (News.ENDED, 150.0)),
    ],
)
def test_what_is_told(telling, expected):
    assert news(telling, 200.0, 3600.0) == expected


def test_no_reminders_where_none_are_wanted():
    assert news(a_telling(times=1), 1e9, 0.0) is None


def test_what_comes_together_is_waited_for():
    assert not ripe([], 100.0)
    assert not ripe([100.0], 100.0 + GATHER_S - 1)
    assert ripe([100.0, 100.0 + GATHER_S - 1], 100.0 + GATHER_S)


def test_a_channel_that_fails_is_tried_again_less_and_less_often():
    waits = [again_after(tries) for tries in range(1, 40)]
    assert waits == sorted(waits)
    assert waits[0] == 15.0
    assert waits[-1] == 3600.0
