"""Pictures are taken no more often than they are needed."""

import threading
import time

import pytest
from tests.console.plan_world import APP, DB
from tests.console.web.test_moves import until

from leeward.console.web import watch
from leeward.domain.errors import Unavailable


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


def test_a_look_that_failed_gives_nobody_the_picture_of_before(stand, monkeypatch):
    stand.watch.fresh()
    everything, fails, begun, go = stand.service.everything, [True], threading.Event(), threading.Event()

    def take():
        begun.set()
        assert go.wait(20)
        if fails:
            fails.pop()
            raise Unavailable("the database does not answer")
        return everything()

    monkeypatch.setattr(stand.service, "everything", take)
    found = []

    def ask():
        try:
            found.append(stand.watch.fresh().number)
        except Unavailable:
            found.append("failed")

    with stand.watch._lock:  # both have asked before either may look
        both = [threading.Thread(target=ask) for _ in range(2)]
        for thread in both:
            thread.start()
        time.sleep(0.1)
    go.set()
    for thread in both:
        thread.join(20)
    assert sorted(found, key=str) == [2, "failed"]


def test_a_slow_look_that_failed_is_not_taken_for_one_that_found_nothing(stand, monkeypatch):
    """All VMs would be alerts at once: never tested."""
    tested, fails = stand.service.drills.tested, [True]

    def look():
        if fails:
            fails.pop()
            raise Unavailable("the database does not answer")
        return {**tested(), "v": 1.0}

    monkeypatch.setattr(stand.service.drills, "tested", look)
    with pytest.raises(Unavailable):
        stand.watch.fresh()
    assert stand.watch.fresh().tested == {"v": 1.0}


def test_a_page_does_not_wait_for_the_picture_that_is_just_being_taken(stand, pictures, monkeypatch):
    monkeypatch.setattr(watch, "_OLD_S", 60.0)  # however slow this machine is
    pictures.go.release()
    stand.watch.fresh()
    stand.watch.start()
    until(lambda: pictures.begun == 2)
    time.sleep(1.1)  # the page's stream will bring what is newer
    assert stand.watch.look().number == 1
    pictures.go.release(100)


def test_pages_have_the_picture_of_before_while_what_they_need_of_the_next_is_being_made(stand, monkeypatch):
    monkeypatch.setattr(watch, "_OLD_S", 60.0)
    begun, go, made = threading.Event(), threading.Event(), []

    def prepare(moment):
        made.append(moment)
        if len(made) == 2:
            begun.set()
            assert go.wait(20)

    stand.watch._prepared = (prepare,)
    stand.watch.start()
    until(lambda: stand.watch.newest() is not None)
    until(lambda: stand.watch.look() and begun.is_set())
    assert stand.watch.look() is stand.watch.newest() is made[0]
    go.set()
    until(lambda: stand.watch.newest() is made[-1] and len(made) > 1)


def test_what_is_decided_on_is_shown_as_it_is_now_without_a_new_picture(stand, pictures, monkeypatch):
    monkeypatch.setattr(watch, "_OLD_S", 60.0)
    stand.world.protect_all()
    pictures.go.release()
    stand.watch.fresh()
    stand.watch.start()
    until(lambda: pictures.begun == 2)
    stand.service.set_paused(DB, True)
    page = stand.as_role("operator", "anna")
    for path in (f"/failover?vm={APP}", f"/do/pause?vm={APP}"):
        assert page.get(path).status_code == 200
    assert "It is paused already." in page.get(f"/do/pause?vm={DB}&vm={APP}").text
    closeup = stand.watch.closeup([DB])
    assert [(one.vm_id, str(one.state)) for one in closeup.statuses] == [(DB, "paused")]
    assert closeup.hosts == tuple(stand.service.hosts())
    assert (list(closeup.vms), pictures.begun) == ([DB], 2)
    monkeypatch.setattr(watch, "_FEW", 1)
    pictures.go.release(100)
    assert {DB, APP} < {one.vm_id for one in stand.watch.closeup([DB, APP]).statuses}
    pictures.go.release(100)
