from leeward.agent.grace import Grace

VM, HOST = "vm-1", "recovery"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_the_time_is_counted_from_when_the_epoch_began_here():
    clock = Clock()
    grace = Grace(clock)
    grace.begins(VM, HOST, 4)
    clock.now += 3
    grace.begins(VM, HOST, 4)  # the same, told again
    assert grace.left(VM, HOST, 8) == 5
    assert grace.left(VM, HOST, 0) == 0
    clock.now += 60
    assert grace.left(VM, HOST, 8) == 0


def test_another_epoch_begins_anew():
    clock = Clock()
    grace = Grace(clock)
    grace.begins(VM, HOST, 4)
    clock.now += 60
    grace.begins(VM, HOST, 6)
    assert grace.left(VM, HOST, 8) == 8


def test_who_has_not_seen_it_begin_gives_all_of_it():
    grace = Grace(Clock())
    grace.begins(VM, "office", 4)
    assert grace.left(VM, HOST, 8) == 8
