"""Progress that is kept, also when two people go on at once."""

import threading

import pytest

from leeward.state.database import Database
from leeward.state.integrations import Integrations


@pytest.fixture
def database(url):
    made = Database(url)
    yield made
    made.close()


def test_it_is_kept(database, url):
    kept = Integrations(database)
    assert kept.document("recovery") == ""
    assert kept.change("recovery", lambda before: before + "a") == "a"
    assert kept.change("recovery", lambda before: before + "b") == "ab"
    assert kept.document("other") == ""
    again = Database(url)
    assert Integrations(again).document("recovery") == "ab"
    again.close()


def test_a_change_that_cannot_be_made_changes_nothing(database):
    kept = Integrations(database)
    with pytest.raises(ZeroDivisionError):
        kept.change("recovery", lambda before: 1 / 0)
    assert kept.document("recovery") == ""


def test_no_change_is_lost_between_several_who_change(database):
    kept = Integrations(database)

    def work(mark):
        for _ in range(5):
            kept.change("recovery", lambda before: before + mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept.document("recovery")) == sorted("abcd" * 5)
