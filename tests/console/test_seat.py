"""Believing to have the seat: never longer than the database gives it, whatever one's own clock and process do."""

import threading

import pytest
from tests.console.stand import until

from leeward.console import seat as module
from leeward.console.seat import LASTS_S, MARGIN_S, Attendant, Seat
from leeward.domain.errors import Refused, Unavailable
from leeward.state.seat import Known, Member

NORTH, SOUTH = Member("north", "n"), Member("south", "s")


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


class Ledger:
    """The database: its own clock, one lease. slow_s: passes while a question is on its way back."""

    def __init__(self, clock):
        self.clock, self.slow_s = clock, 0.0
        self.number, self.expires, self.away = 0, 0.0, False
        self.instances, self.heard, self.named = {}, 0.0, None

    def _asked(self):
        if self.away:
            raise Unavailable("the database does not answer")

    def join(self, me):
        self._asked()
        return self.named() if self.named else None

    def beat(self, me):
        self._asked()
        return self.instances.get(me.name, me.instance) == me.instance

    def leave(self, me):
        self._asked()

    def all(self):
        self._asked()
        return [Known(Member("north", "n", "https://n:1", "https://n:2"), True, 0.0), Known(SOUTH, False, 0.0)]

    def take(self, me, lasts_s):
        self._asked()
        if self.clock() < self.expires:
            return None
        self.number, self.expires = self.number + 1, self.clock() + lasts_s
        self.clock.pass_(self.slow_s)
        return self.number

    def renew(self, number, lasts_s):
        self._asked()
        if number != self.number:
            return False
        self.expires = self.clock() + lasts_s
        self.clock.pass_(self.slow_s)
        return True

    def give_up(self, number):
        self._asked()
        if number == self.number:
            self.expires = 0.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(clock):
    return Ledger(clock)


def test_nobody_holds_what_he_never_took(ledger, clock):
    assert not Seat(ledger, NORTH, clock).holds()


def test_it_is_let_go_of_before_another_one_can_have_it(ledger, clock):
    north, south = Seat(ledger, NORTH, clock), Seat(ledger, SOUTH, clock)
    assert north.take()
    for _ in range(200):
        clock.pass_(0.1)
        if south.take():
            break
        assert north.holds() or clock() > 1000 + LASTS_S - MARGIN_S
    assert south.number == 2
    assert not north.holds()
    assert not north.renew()


@pytest.mark.parametrize("renewed", [False, True])
def test_the_time_that_an_answer_takes_counts(ledger, clock, renewed):
    """The database begins to count while we still wait; so we count from before we asked."""
    seat = Seat(ledger, NORTH, clock)
    if renewed:
        seat.take()
    ledger.slow_s = 10
    assert seat.renew() if renewed else seat.take()
    clock.pass_(LASTS_S - MARGIN_S - 10 - 0.01)
    assert seat.holds()
    clock.pass_(0.02)
    assert not seat.holds()
    assert clock() < ledger.expires


def test_what_it_is_told_counts_at_once(ledger, clock):
    seat = Seat(ledger, NORTH, clock)
    seat.take()
    ledger.number += 1
    assert not seat.renew()
    assert not seat.holds()


def test_a_console_that_is_alone_goes_on_without_its_database(ledger, clock):
    seat = Seat(ledger, Member("north", "n", alone=True), clock)
    seat.take()
    clock.pass_(10 * LASTS_S)
    assert seat.holds()
    ledger.number += 1
    assert not seat.renew()


def test_nothing_is_given_up_that_is_not_had(ledger, clock):
    Seat(ledger, SOUTH, clock).give_up()
    north = Seat(ledger, NORTH, clock)
    north.take()
    north.give_up()
    assert not north.holds()
    assert Seat(ledger, SOUTH, clock).take()


# --- the attendant ------------------------------------------------------------------------------------------


class Ended(BaseException):
    """In place of the process's end."""


@pytest.fixture
def ends(monkeypatch):
    """Why the process would have ended."""
    reasons = []

    def depose(why):
        reasons.append(why)
        raise Ended

    monkeypatch.setattr(module, "depose", depose)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    for name in ("_RENEW_S", "_AGAIN_S", "_LOOK_S", "_WATCH_S", "_NAMESAKE_S"):
        monkeypatch.setattr(module, name, 0.01)
    return reasons


@pytest.fixture
def attend(ledger, clock, ends):
    made = []

    def make(me=NORTH, **more):
        made.append(Attendant(ledger, me, seat=Seat(ledger, me, clock), **more))
        return made[-1]

    yield make
    ledger.away = False
    for one in made:
        one.stop()


def test_it_is_taken_as_soon_as_it_is_free_and_kept(attend, ledger, clock, ends):
    ledger.expires = clock() + 5
    attendant, taken = attend(), threading.Event()
    attendant.start(taken.set)
    assert not taken.wait(0.1)
    clock.pass_(6)
    assert taken.wait(2)
    for _ in range(10):
        clock.pass_(5)
        until(lambda: ledger.expires >= clock() + LASTS_S - 0.1)
    assert not ends


def test_one_that_cannot_renew_ends_in_time(attend, ledger, clock, ends):
    attendant = attend()
    assert attendant.seat.take()
    attendant.start(lambda: None)
    ledger.away = True
    clock.pass_(LASTS_S - MARGIN_S - 0.5)
    assert not ends
    clock.pass_(1)
    assert clock() < ledger.expires
    until(lambda: ends)
    assert "could not renew" in ends[0]


def test_one_whose_seat_another_one_has_ends_at_once(attend, ledger, ends):
    attendant = attend()
    attendant.seat.take()
    ledger.number += 1
    attendant.start(lambda: None)
    until(lambda: ends)
    assert "another console" in ends[0]


def test_a_standby_outlasts_a_database_that_is_away(attend, ledger, clock, ends):
    ledger.expires, ledger.away = clock() + 5, True
    attendant, taken = attend(SOUTH), threading.Event()
    attendant.start(taken.set)
    clock.pass_(100)
    assert not taken.wait(0.1)
    ledger.away = False
    assert taken.wait(2)
    assert not ends


def test_one_whose_name_another_process_has_ends(attend, ledger, clock, ends):
    ledger.expires, ledger.instances = clock() + 500, {"south": "other"}
    attend(SOUTH).start(lambda: None)
    until(lambda: ends)
    assert "its name, south" in ends[0]


def test_a_namesake_that_lives_is_told_from_one_that_was_killed(attend, ledger):
    answers = iter([5.0, 5.0, 5.0, None])
    ledger.named = lambda: next(answers)
    attend().join()
    answers = iter([5.0, 5.0, 6.0])
    with pytest.raises(Refused):
        attend().join()


def test_what_is_known_of_the_others(attend):
    attendant = attend(Member("south", "s", agents="https://s:2"))
    assert attendant.active() == ("", "")
    attendant.join()
    assert attendant.active() == ("north", "https://n:1")
    assert attendant.agents() == ("https://s:2", "https://n:2")
