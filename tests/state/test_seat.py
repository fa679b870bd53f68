"""The seat of the console in a real PostgreSQL: one holder at a time; what a former one writes is not kept."""

import threading
import time

import pytest
from sqlalchemy import event

from leeward.domain.errors import LeewardError, NotFound, Refused, Unavailable
from leeward.state.database import Database
from leeward.state.seat import Member, SeatBook
from leeward.wire.messages import ProtectionMessage

NORTH, SOUTH = Member("north", "n1", "https://north:8443", "https://north:8444"), Member("south", "s1")
WISH = ProtectionMessage(vm_id="6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11", vm_name="web", host="office")


class Deposed(Exception):
    pass


def lost():
    raise Deposed


@pytest.fixture
def url(postgres):
    return postgres.fresh()


@pytest.fixture
def book(url):
    made = SeatBook(url)
    yield made
    made.close()


@pytest.fixture
def open_database(url):
    opened = []

    def make(*seat):
        opened.append(Database(url, *seat))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


# --- the lease ----------------------------------------------------------------------------------------------


def test_the_seat_is_had_by_one_until_it_runs_out(book):
    assert book.take(NORTH, 0.6) == 1
    assert book.take(SOUTH, 0.6) is None
    assert book.renew(1, 0.6)
    time.sleep(0.4)
    assert book.take(SOUTH, 0.6) is None
    time.sleep(0.3)
    assert book.take(SOUTH, 0.6) == 2
    assert not book.renew(1, 0.6)
    book.give_up(1)  # of no effect: it is another one's by now
    assert book.take(NORTH, 0.6) is None


def test_one_that_ran_out_and_that_nobody_took_goes_on(book):
    number = book.take(NORTH, 0.05)
    time.sleep(0.1)
    assert book.renew(number, 5)
    assert book.take(SOUTH, 5) is None


def test_one_that_was_given_up_is_taken_at_once(book):
    book.give_up(book.take(NORTH, 60))
    assert book.take(SOUTH, 60) == 2


def test_of_many_who_want_it_at_once_one_has_it(book, url):
    books = [SeatBook(url) for _ in range(6)]
    gate, numbers = threading.Barrier(6), []

    def want(one, number):
        gate.wait()
        numbers.append(one.take(Member(f"c{number}", "x"), 60))

    threads = [threading.Thread(target=want, args=(one, number)) for number, one in enumerate(books)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in books:
        one.close()
    assert sorted(numbers, key=str) == [1, None, None, None, None, None]


def test_a_database_that_is_away_is_told(book, postgres):
    book.take(NORTH, 60)
    postgres.stop()
    try:
        with pytest.raises(Unavailable):
            book.renew(1, 60)
    finally:
        postgres.start()
    assert book.renew(1, 60)


# --- the fence ----------------------------------------------------------------------------------------------


def test_nothing_is_kept_of_what_a_former_holder_writes(book, open_database):
    old = open_database(book.take(NORTH, 0.01), lost)
    assert old.protect(WISH).generation == 1  # it ran out; but nobody has taken it yet
    time.sleep(0.05)
    new = open_database(book.take(SOUTH, 60), lost)
    for write in (
        lambda: old.protect(WISH.model_copy(update={"paused": True})),
        lambda: old.record("x", "y"),
        lambda: old.rename(WISH.vm_id, "other"),
        old.count,
    ):
        with pytest.raises(Deposed):
            write()
    assert new.desired().protections == (WISH,)
    assert new.events() == []
    assert old.desired() == new.desired()  # looking is allowed
    assert new.protect(WISH).generation == 2


def test_a_new_holder_waits_for_what_is_just_being_written(book, open_database):
    """There is no moment between the look at the seat and the end of what is written."""
    old = open_database(book.take(NORTH, 0.01), lost)
    looked, gate, taken = threading.Event(), threading.Event(), []

    @event.listens_for(old._engine, "commit")
    def pause(connection):
        looked.set()
        gate.wait(10)

    time.sleep(0.05)
    writer = threading.Thread(target=old.protect, args=(WISH,))
    taker = threading.Thread(target=lambda: taken.append(book.take(SOUTH, 60)))
    writer.start()
    assert looked.wait(5)
    taker.start()
    time.sleep(0.3)
    assert not taken
    assert book.renew(1, 0.01)  # but a renewal waits for nobody
    time.sleep(0.05)
    gate.set()
    writer.join(5)
    taker.join(5)
    assert taken == [2]
    assert old.desired().generation == 1


def test_renewals_go_on_beside_writes(book, open_database):
    number = book.take(NORTH, 60)
    database, over = open_database(number, lost), threading.Event()
    failed = []

    def renew():
        while not over.is_set():
            if not book.renew(number, 60):
                failed.append("lost")

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        for count in range(30):
            assert database.protect(WISH).generation == count + 1
    finally:
        over.set()
        thread.join()
    assert not failed


def test_a_holder_that_froze_in_mid_transaction_does_not_keep_the_seat(book, url, monkeypatch):
    monkeypatch.setattr("leeward.state.engine._IDLE_MS", 300)
    frozen = Database(url, book.take(NORTH, 0.01), lost)
    time.sleep(0.05)
    try:
        with pytest.raises(LeewardError), frozen.writing() as session:
            session.connection().exec_driver_sql("SELECT number FROM seat FOR KEY SHARE")
            began = time.monotonic()
            assert book.take(SOUTH, 60) == 2
            assert time.monotonic() - began < 2
            session.connection().exec_driver_sql("UPDATE counter SET value = 77")
    finally:
        frozen.close()


def test_a_newer_table_is_not_made_under_a_console_that_works(url, open_database):
    """A standby leaves the tables as they are; the one that works brings them up to date."""
    database = open_database()
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0006'")
    book = SeatBook(url)
    book.join(NORTH)
    book.close()
    with database.reading() as session:
        assert session.connection().exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0006"


def test_a_console_that_is_older_than_the_tables_is_refused_at_once(url, open_database):
    with open_database().writing() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LeewardError, match="a newer Leeward made this database"):
        SeatBook(url)


# --- the consoles -------------------------------------------------------------------------------------------


def test_consoles_know_of_each_other(book):
    assert book.join(NORTH) is None
    assert book.join(SOUTH) is None
    book.take(NORTH, 60)
    north, south = book.all()
    assert (north.member, north.active) == (NORTH, True)
    assert (south.member, south.active) == (SOUTH, False)
    assert 0 <= south.silent_s < 5
    troubled = Member("south", "s1", trouble="no key")
    assert book.beat(troubled)
    assert book.all()[1].member == troubled
    book.leave(NORTH)
    assert [(known.member.instance, known.active) for known in book.all()] == [("", False), ("s1", False)]


def test_of_two_of_one_name_the_second_waits_and_sees_whether_the_first_lives(book, monkeypatch):
    assert book.join(NORTH) is None
    twin = Member("north", "n2")
    heard = book.join(twin)
    assert heard is not None
    assert book.beat(NORTH)
    assert book.join(twin) > heard
    monkeypatch.setattr("leeward.state.seat.NAMESAKE_S", 0.1)
    time.sleep(0.2)
    assert book.join(twin) is None
    assert not book.beat(NORTH)


def test_one_that_was_stopped_in_good_order_is_not_waited_for(book):
    book.join(NORTH)
    book.leave(NORTH)
    assert book.join(Member("north", "n2")) is None


def test_one_that_cannot_work_is_not_left_in_the_list(book):
    book.join(NORTH)
    book.join(SOUTH)
    book.withdraw(Member("north", "another process"))
    book.withdraw(SOUTH)
    assert [known.member.name for known in book.all()] == ["north"]


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_console_with_hosts_of_its_own_is_the_only_one(book, first, second):
    assert book.join(Member("north", "n1", alone=first)) is None
    with pytest.raises(Refused) as caught:
        book.join(Member("south", "s1", alone=second))
    assert "leeward console forget north" in str(caught.value)
    assert [known.member.name for known in book.all()] == ["north"]
    assert book.join(Member("north", "n1", alone=True)) is None


def test_only_a_silent_console_is_forgotten(book, monkeypatch):
    book.join(NORTH)
    with pytest.raises(Refused):
        book.forget("north")
    with pytest.raises(NotFound):
        book.forget("west")
    monkeypatch.setattr("leeward.state.seat.FORGET_S", 0.0)
    book.forget("north")
    assert book.all() == []


def test_the_first_says_what_all_have_alike(book):
    book.join(NORTH)
    assert book.agree("authority", "AA", NORTH) == "AA"
    assert book.agree("authority", "BB", NORTH) == "BB"  # nobody else is there to disagree
    book.join(SOUTH)
    assert book.agree("authority", "CC", SOUTH) == "BB"
    assert book.common("authority") == "BB"
    assert book.common("vault") is None
