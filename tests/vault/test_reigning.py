"""Who writes a log, and how the VM came there: found without reading the log, and after pruning too."""

import pytest
from tests.vault.conftest import VM

from leeward.domain.errors import Fenced
from leeward.domain.retention import Retention

BLOCK = b"x" * 65536


@pytest.fixture
def written(pen, small_objects):
    pen.resize("vda", 8)
    return pen


def points(pen, count):
    for number in range(count):
        pen.put("vda", number % 8, bytes([number % 251]) * 65536)
        pen.commit()


def take(pen, reason, host, **more):
    """Another writer takes over, from `host`."""
    log = pen.vault.log(VM)
    pen.writer = log.take_epoch(log.epoch(), {"writer": f"agent-{host}", "host": host, "reason": reason, **more})
    pen.log = log


def test_an_empty_log_and_one_whose_vm_never_moved(vault, written):
    assert vault.log("00000000-0000-0000-0000-000000000009").reign() is None
    assert vault.log("00000000-0000-0000-0000-000000000009").last_move() is None
    points(written, 3)
    assert vault.log(VM).reign().epoch == 1
    assert vault.log(VM).last_move() is None


def test_an_epoch_that_moves_nothing_does_not_hide_the_move_before_it(vault, written):
    points(written, 2)
    take(written, "failover", "recovery", run="r1")
    points(written, 5)
    take(written, "protect", "recovery")
    points(written, 2)
    log = vault.log(VM)
    assert (log.reign().epoch, log.reign().reason) == (3, "protect")
    assert (log.last_move().epoch, log.last_move().info["host"], log.last_move().info["run"]) == (2, "recovery", "r1")
    take(written, "failback", "office", run="r2")
    assert log.last_move().info["run"] == "r2"
    assert log.last_move(lambda found: found.info["run"] == "r2").info["run"] == "r1"
    assert log.last_move(lambda found: True) is None


@pytest.mark.parametrize("later", [(), ("protect",)])
def test_a_move_whose_entry_has_been_pruned_is_still_known(vault, written, later):
    points(written, 10)
    take(written, "failover", "recovery", run="r1")
    for reason in later:
        take(written, reason, "recovery")
    points(written, 40)
    log = vault.log(VM)
    epoch = log.epoch()
    for _ in range(2):
        plan = vault.prune_plan(VM, Retention(5.0), now_ns=written.time)
        vault.prune(plan)
        points(written, 20)
    assert log._history.horizon().base > 12  # the entry of the failover is gone
    assert log.reign().epoch == epoch
    assert log.last_move().info["run"] == "r1"
    assert log.last_move().epoch == 2
    # Who was fenced by it finds out, and no late order slips in.
    with pytest.raises(Fenced):
        log.take_epoch(1, {"writer": "agent-office", "host": "office", "reason": "undo", "run": "r1"})
