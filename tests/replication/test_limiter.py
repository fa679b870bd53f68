"""The limiter holds the rate over time, lets a second's burst pass, and is silent without a rate."""

from leeward.replication.limiter import Limiter


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_rate_holds_over_time():
    clock = Clock()
    limiter = Limiter(1000, clock, clock.sleep)
    for _ in range(100):
        limiter.spend(500)
    # 50,000 bytes at 1,000 a second, less the burst of one second.
    assert 48.9 <= clock.now <= 49.1


def test_no_rate_never_sleeps():
    clock = Clock()
    limiter = Limiter(0, clock, clock.sleep)
    limiter.spend(10**12)
    assert clock.now == 0


def test_rest_does_not_save_up_more_than_a_second():
    clock = Clock()
    limiter = Limiter(1000, clock, clock.sleep)
    clock.now = 3600
    limiter.spend(3000)
    assert clock.now == 3602


def test_what_goes_elsewhere_is_exempt_until_it_is_sent():
    clock = Clock()
    away = True
    limiter = Limiter(1000, clock, clock.sleep, exempt=lambda: away)
    limiter.spend(50_000)
    assert clock.now == 0
    limiter.pay(3000)
    assert clock.now == 2
    away = False
    limiter.spend(1000)
    assert clock.now == 3
