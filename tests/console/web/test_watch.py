"""Pictures are taken no more often than they are needed."""

import threading
import time

import pytest
from tests.console.web.test_moves import until

from leeward.console.web import watch


@pytest.fixture
def pictures(stand, monkeypatch):
    """Lets pictures be taken one by one: `begun` counts them, each waits for `go`."""

    class Pictures:
        begun, go = 0, threading.Semaphore(0)

    everything = stand.service.everything

    def take():
        Pictures.begun += 1
        assert Pictures.go.acquire(timeout=20)
        return everything()

    monkeypatch.setattr(stand.service, "everything", take)
    return Pictures


class Counting:
    """A lock that knows how many have come for it."""

    def __init__(self, lock):
        self.came, self._lock = [], lock

    def __enter__(self):
        self.came.append(threading.get_ident())
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_who_waits_for_a_picture_shares_the_next_one_and_gets_none_of_before(stand, pictures):
    found = []
    lock = stand.watch._lock = Counting(stand.watch._lock)
    ask = lambda: found.append(stand.watch.fresh().number)  # noqa: E731
    first = threading.Thread(target=ask)
    first.start()
    until(lambda: pictures.begun == 1)
    others = [threading.Thread(target=ask) for _ in range(5)]
    for thread in others:
        thread.start()
    until(lambda: len(lock.came) == 6)
    for _ in range(6):
        pictures.go.release()
    for thread in (first, *others):
        thread.join(20)
    assert sorted(found) == [1, 2, 2, 2, 2, 2]
    assert pictures.begun == 2


def test_a_page_does_not_wait_for_the_picture_that_is_just_being_taken(stand, pictures, monkeypatch):
    monkeypatch.setattr(watch, "_OLD_S", 60.0)  # however slow this machine is
    pictures.go.release()
    stand.watch.fresh()
    stand.watch.start()
    until(lambda: pictures.begun == 2)
    time.sleep(1.1)  # the page's stream will bring what is newer
    assert stand.watch.look().number == 1
    pictures.go.release(100)
