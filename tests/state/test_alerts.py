"""Alerts in the database, on SQLite and PostgreSQL alike."""

import pytest

from leeward.console.alerts.sealing import Sealer
from leeward.console.alerts.settings import MAIL, WEBHOOK, AlertSettings, Rules, WebhookSettings
from leeward.domain.alerts import AlertKind, Decision, Patience, Seen, Trouble, decide
from leeward.state.alerts import KEEP_S, AlertBook
from leeward.state.database import Database
from leeward.state.seat import Member, SeatBook

HOOK = WebhookSettings(enabled=True, url="https://example.com/hook")
NOW = 1_800_000_000.0


def hosts(*names):
    return tuple((Trouble(AlertKind.HOST, name, name, "silent"), 60.0) for name in names)


@pytest.fixture
def book(database):
    return AlertBook(database)


@pytest.fixture
def settings(database):
    return AlertSettings(database, Sealer(bytes(32)))


def owed(book, channel=WEBHOOK):
    return [alert.name for _, alert in book.tellings(channel)]


def test_an_alert_is_raised_with_what_its_channels_owe(book, settings):
    settings.save_channel(WEBHOOK, HOOK, "secret of some length")
    book.apply(Decision(hosts("a", "b"), (), ()), NOW)
    assert owed(book) == ["a", "b"]
    assert owed(book, MAIL) == []
    ((telling, alert), _) = book.tellings(WEBHOOK)
    assert (telling.times, telling.raised, alert.began) == (0, NOW, NOW - 60)
    assert book.open_keys() == {"host:a", "host:b"}
    assert book.open_counts() == {AlertKind.HOST: 2}


def test_what_was_told_is_not_owed_again(book, settings, open_database):
    settings.save_channel(WEBHOOK, HOOK, "secret of some length")
    book.apply(Decision(hosts("a", "b"), (), ()), NOW)
    first, second = [alert.id for _, alert in book.tellings(WEBHOOK)]
    book.told(WEBHOOK, [first, second], [], NOW + 10)
    book.apply(Decision((), (), ("host:a",)), NOW + 100)
    again = AlertBook(open_database())
    assert [(telling.times, telling.last, telling.ended) for telling, _ in again.tellings(WEBHOOK)] == [
        (1, NOW + 10, NOW + 100),
        (1, NOW + 10, None),
    ]
    again.told(WEBHOOK, [], [first], NOW + 110)
    assert owed(again) == ["b"]


def test_a_channel_remembers_since_when_it_fails(book, settings):
    settings.save_channel(WEBHOOK, HOOK, "secret of some length")
    book.trying(WEBHOOK, 1, NOW + 15)
    book.failed(WEBHOOK, "x" * 5000, NOW + 15, NOW)
    book.trying(WEBHOOK, 2, NOW + 30)
    book.failed(WEBHOOK, "status 500", NOW + 30, NOW + 15)
    channel = settings.channel(WEBHOOK)
    assert (channel.failed, channel.error, channel.tries, channel.again) == (NOW, "status 500", 2, NOW + 30)
    book.told(WEBHOOK, [], [], NOW + 30)
    channel = settings.channel(WEBHOOK)
    assert (channel.failed, channel.error, channel.tries, channel.good) == (None, "", 0, NOW + 30)


def test_rules_are_kept(settings, open_database):
    assert settings.rules() == Rules()
    for days in (30, 60):
        settings.save_rules(Rules(drill_days=days, language="ja"))
    assert AlertSettings(open_database(), Sealer(bytes(32))).rules() == Rules(drill_days=60, language="ja")


def test_a_thousand_at_once(book, settings):
    settings.save_channel(WEBHOOK, HOOK, "secret of some length")
    book.apply(Decision(hosts(*[f"h{n}" for n in range(1200)]), (), ()), NOW)
    ids = [alert.id for _, alert in book.tellings(WEBHOOK)]
    book.told(WEBHOOK, ids, [], NOW + 1)
    book.apply(Decision((), (), tuple(book.open_keys())), NOW + 2)
    book.told(WEBHOOK, [], ids, NOW + 3)
    assert book.tellings(WEBHOOK) == []
    assert len(book.find(past=True, limit=2000)) == 1200


def test_what_ended_long_ago_is_forgotten_what_is_open_never(book, settings):
    settings.save_channel(WEBHOOK, HOOK, "secret of some length")
    book.apply(Decision(hosts("a", "b"), (), ()), NOW)
    book.apply(Decision((), (), ("host:a",)), NOW + 1)
    book.apply(Decision((), (), ()), NOW + KEEP_S + 2)
    assert [alert.name for alert in book.find()] == ["b"]
    assert owed(book) == ["b"]


def test_names_that_no_database_can_store_are_made_ones_that_it_can(book):
    odd = Trouble(AlertKind.RUN, "r1", "a\0b\ud800", "c\0" + "x" * 9000)
    book.apply(Decision(((odd, 0.0),), (), ()), NOW)
    (alert,) = book.open()
    assert alert.name == "a\ufffdb?"
    assert len(alert.detail) == 2000


def test_an_alert_of_an_odd_name_is_found_again_by_its_key(book):
    for name in ("a\0b", "a\ud800", "x" * 400):
        trouble = Trouble(AlertKind.HOST, name, name, "silent")
        first, seen = decide(book.open_keys(), [trouble], (), Seen(), Patience(), 0.0)
        book.apply(first, NOW)
        second, seen = decide(book.open_keys(), [trouble], (), seen, Patience(), 10.0)
        assert (len(first.raised), second.raised, len(second.going_on)) == (1, (), 1)
        book.apply(second, NOW + 100)  # what goes on is noted
        third, _ = decide(book.open_keys(), [], (), Seen(quiet={trouble.key: 0.0}), Patience(), 99.0)
        book.apply(third, NOW + 200)
        assert book.open() == []


def test_a_console_that_has_lost_its_seat_raises_and_notes_nothing(postgres):
    class Deposed(Exception):
        pass

    def lost():
        raise Deposed

    url = postgres.fresh()
    seats = SeatBook(url)
    former = Database(url, seats.take(Member("north", "n1"), 0.0), lost)
    book, settings = AlertBook(former), AlertSettings(former, Sealer(bytes(32)))
    settings.save_channel(WEBHOOK, HOOK, "secret of some length")
    book.apply(Decision(hosts("a"), (), ()), NOW)
    holder = Database(url, seats.take(Member("south", "s1"), 60.0), lost)
    for write in (
        lambda: book.apply(Decision(hosts("b"), (), ()), NOW),
        lambda: book.told(WEBHOOK, [1], [], NOW),
        lambda: book.failed(WEBHOOK, "x", NOW, NOW),
    ):
        with pytest.raises(Deposed):
            write()
    now = AlertBook(holder)
    assert [alert.name for alert in now.open()] == ["a"]
    assert [telling.times for telling, _ in now.tellings(WEBHOOK)] == [0]
    for database in (former, holder):
        database.close()
    seats.close()
