"""A VM is left alone while its agent connects, but never for longer than the grace, and once a start."""

from leeward.hypervisors.libvirt.settling import Settling


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_waits_until_the_agent_is_there():
    clock = Clock()
    Settling(30, clock, clock.sleep).wait("vm", 1, lambda: clock.now < 104)
    assert 104 <= clock.now < 104.5


def test_gives_up_after_the_grace_and_does_not_wait_again_in_this_run():
    clock = Clock()
    settling = Settling(30, clock, clock.sleep)
    settling.wait("vm", 1, lambda: True)
    assert 130 <= clock.now < 130.5
    before = clock.now
    settling.wait("vm", 1, lambda: True)
    assert clock.now == before


def test_a_new_start_gets_a_new_grace():
    clock = Clock()
    settling = Settling(30, clock, clock.sleep)
    settling.wait("vm", 1, lambda: True)
    before = clock.now
    settling.wait("vm", 2, lambda: True)
    assert clock.now >= before + 30


def test_a_guest_that_was_asked_to_shut_down_is_left_alone_for_a_while_only():
    clock = Clock()
    settling = Settling(30, clock, clock.sleep)
    assert not settling.leaving("vm", 1)
    settling.leaves("vm", 1)
    clock.now += 15
    settling.leaves("vm", 1)  # asked once more
    assert settling.leaving("vm", 1)
    assert not settling.leaving("vm", 2)  # it was started anew
    assert not settling.leaving("other", 1)
    clock.now += 6
    assert not settling.leaving("vm", 1)
    settling.leaves("vm", 1)  # and still it does not obey
    assert not settling.leaving("vm", 1)
    clock.now += 61
    settling.leaves("vm", 1)  # somebody tries again, later
    assert settling.leaving("vm", 1)
