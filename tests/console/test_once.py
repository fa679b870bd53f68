"""What is made of a picture is made once."""

import threading

import pytest

from leeward.console.once import once


class Picture:
    pass


def test_it_is_made_once_for_each_picture_and_kept_for_the_newest_two():
    made = []

    @once
    def show(picture):
        made.append(picture)
        return [picture]

    first, second, third = Picture(), Picture(), Picture()
    assert show(first) is show(first)
    assert show(second) is not show(first)
    assert made == [first, second]
    show(third)
    show(second)
    assert made == [first, second, third]
    show(first)
    assert made == [first, second, third, first]


def test_who_asks_meanwhile_gets_the_same():
    begun, go, made = threading.Event(), threading.Event(), []

    @once
    def show(picture):
        begun.set()
        assert go.wait(10)
        made.append(picture)
        return object()

    picture, found = Picture(), []
    threads = [threading.Thread(target=lambda: found.append(show(picture))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert len(found) == 3
    assert found[0] is found[1] is found[2]


def test_what_is_there_is_not_waited_for():
    begun, go = threading.Event(), threading.Event()
    first, second = Picture(), Picture()

    @once
    def show(picture):
        if picture is second:
            begun.set()
            assert go.wait(10)
        return picture

    show(first)
    thread = threading.Thread(target=lambda: show(second))
    thread.start()
    assert begun.wait(10)
    found = []
    other = threading.Thread(target=lambda: found.append(show(first)))
    other.start()
    other.join(5)
    assert found == [first]
    go.set()
    thread.join(10)


def test_what_fails_is_tried_again():
    tries = []

    @once
    def show(picture):
        tries.append(picture)
        if len(tries) == 1:
            raise ValueError
        return "shown"

    picture = Picture()
    with pytest.raises(ValueError):
        show(picture)
    assert show(picture) == "shown"
