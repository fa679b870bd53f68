"""An hour of each VM's actual RPO."""

from tests.console.web.test_rows import vm_status

from leeward.console.web.curves import SAMPLE_S, Curves


def sampled(curves, at, **ages):
    curves.sample(at, [vm_status(name, rpo_actual_s=age) for name, age in ages.items()])


def ids(name):
    return vm_status(name).vm_id


def test_a_value_is_taken_every_ten_seconds():
    curves = Curves()
    for second in range(31):
        sampled(curves, 1000.0 + second, web=float(second))
    assert curves.of(ids("web")) == (0.0, 10.0, 20.0, 30.0)
    assert curves.of("unknown") == ()


def test_an_hour_is_kept_oldest_first():
    curves = Curves()
    for number in range(1000):
        sampled(curves, 1000.0 + number * SAMPLE_S, web=float(number))
    assert curves.of(ids("web")) == tuple(float(number) for number in range(640, 1000))


def test_a_vm_whose_age_is_not_known_any_more_begins_anew():
    curves = Curves()
    sampled(curves, 1000.0, web=1.0, db=2.0)
    sampled(curves, 1010.0, web=None, db=3.0)
    sampled(curves, 1020.0, web=4.0, db=5.0)
    assert curves.of(ids("web")) == (4.0,)
    assert curves.of(ids("db")) == (2.0, 3.0, 5.0)


def test_a_clock_that_is_set_back_does_not_end_the_curve():
    curves = Curves()
    sampled(curves, 5000.0, web=1.0)
    sampled(curves, 1000.0, web=2.0)
    assert curves.of(ids("web")) == (1.0, 2.0)
