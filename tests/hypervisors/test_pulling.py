"""Pulls and backups take turns: a slice counts from where the last one ended, and nothing begins beside the other."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import libvirt
import pytest

from leeward.domain.errors import HostBusy
from leeward.hypervisors.libvirt import pulling
from leeward.hypervisors.libvirt.pulling import Turns, turns


class Clock:
    now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Domain:
    """A disk of 1000 that is passed over at 100 a second where it was pulled already, and pulled at 10."""

    def __init__(self, clock):
        self.clock, self.pulled, self.job, self.backup, self.held = clock, 0, None, False, False

    def name(self):
        return "vm"

    def isActive(self):  # noqa: N802
        return True

    def jobInfo(self):  # noqa: N802
        return [libvirt.VIR_DOMAIN_JOB_UNBOUNDED if self.backup else libvirt.VIR_DOMAIN_JOB_NONE]

    def blockPull(self, disk, bandwidth, flags):  # noqa: N802
        assert self.job is None
        self.job = (disk, self.clock.now)

    def reached(self):
        if self.held:
            return self.pulled
        took = self.clock.now - self.job[1]
        skipping = min(took, self.pulled / 100)
        return int(skipping * 100 + (took - skipping) * 10)

    def blockJobInfo(self, disk, flags):  # noqa: N802
        return {"cur": self.reached(), "end": 1000} if self.job and self.job[0] == disk else {}

    def blockJobAbort(self, disk, flags):  # noqa: N802
        assert flags == 0  # the call that waits
        if self.held:
            self.clock.now += 1000  # it would wait for ever
        if self.job is None:
            error = libvirt.libvirtError("none")
            error.err = (libvirt.VIR_ERR_INVALID_ARG, 0, "does not have an active block job")
            raise error
        self.pulled, self.job = max(self.pulled, self.reached()), None


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(pulling.time, "sleep", made.sleep)
    return made


def test_a_slice_lasts_its_time_beyond_what_was_pulled_before(clock):
    domain, turn = Domain(clock), Turns(clock)
    for number in range(1, 6):
        began = clock.now
        turn.pull(domain, ["vda", "vdb"], 4.0)
        assert domain.job[0] == "vda"
        skipping = domain.pulled / 100
        with closing(turn.backup(domain)):
            assert domain.job is None
            # The backup waited for the slice, and each slice brought its 4 s × 10.
            assert clock.now - began == pytest.approx(4.0 + skipping, abs=0.3)
            assert domain.pulled == pytest.approx(40 * number, abs=3 * number)


def test_a_slice_that_is_over_is_not_waited_for(clock):
    domain, turn = Domain(clock), Turns(clock)
    turn.pull(domain, ["vda"], 4.0)
    clock.now += 30
    began = clock.now
    with closing(turn.backup(domain)):
        assert clock.now - began < 0.2


def test_no_pull_begins_beside_a_backup_and_no_second_one_beside_the_first(clock):
    domain, turn = Domain(clock), Turns(clock)
    with closing(turn.backup(domain)):
        turn.pull(domain, ["vda"], 4.0)
        assert domain.job is None
    domain.backup = True
    turn.pull(domain, ["vda"], 4.0)
    assert domain.job is None
    domain.backup = False
    turn.pull(domain, ["vda", "vdb"], 4.0)
    turn.pull(domain, ["vda", "vdb"], 4.0)
    assert domain.job[0] == "vda"
    turn.pull(domain, [], 4.0)


def test_a_pull_that_makes_no_progress_does_not_keep_backups_away_for_ever(clock):
    domain, turn = Domain(clock), Turns(clock)
    turn.pull(domain, ["vda"], 4.0)
    with closing(turn.backup(domain)):
        pass
    domain.pulled = 10**9  # it will never come past that, but moves
    turn._reached["vda"] = 10**9
    turn.pull(domain, ["vda"], 4.0)
    began = clock.now
    with closing(turn.backup(domain)):
        assert 4.0 < clock.now - began < 70


def test_a_pull_that_waits_for_the_vault_is_left_alone_and_the_host_is_busy(clock):
    """Stopping it would close the VM to everybody for as long as the vault is away."""
    domain, turn = Domain(clock), Turns(clock)
    domain.held = True
    turn.pull(domain, ["vda"], 1.0)
    began = clock.now
    with pytest.raises(HostBusy, match="vda"):
        turn.backup(domain)
    assert clock.now - began < 90
    assert domain.job
    domain.held = False
    with closing(turn.backup(domain)):
        assert domain.job is None
    turn.pull(domain, ["vda"], 1.0)  # nothing is left of the backup that could not be
    assert domain.job


def test_nothing_dangerous_is_asked_while_a_disk_is_pulled(clock):
    domain, turn = Domain(clock), Turns(clock)
    with turn.asking() as allowed:
        assert allowed
        turn.pull(domain, ["vda"], 1.0)
        assert domain.job is None
    turn.pull(domain, ["vda"], 1.0)
    with turn.asking() as allowed:
        assert not allowed
    domain.job = None  # it came to its end
    with turn.asking() as allowed:
        assert not allowed  # libvirt may not have put it away yet
    turn.pull(domain, [], 1.0)
    with turn.asking() as allowed:
        assert allowed
    with closing(turn.backup(domain)), turn.asking() as allowed:
        assert not allowed


def test_a_backup_waits_for_a_question_that_is_being_answered():
    turn = Turns()
    answered = threading.Event()

    def ask():
        with turn.asking() as allowed:
            assert allowed
            asked.set()
            answered.wait(5)

    asked = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        question = pool.submit(ask)
        assert asked.wait(5)
        backup = pool.submit(turn.backup, None)
        time.sleep(0.1)
        assert not backup.done()
        answered.set()
        question.result()
        backup.result(timeout=5).close()


def test_a_pull_of_a_former_run_is_taken_over(clock):
    domain = Domain(clock)
    domain.blockPull("vdb", 0, 0)
    turn = Turns(clock)
    turn.pull(domain, ["vda", "vdb"], 1.0)
    with turn.asking() as allowed:
        assert not allowed
    with closing(turn.backup(domain)):
        assert domain.job is None


def test_a_turn_that_is_forgotten_is_given_back(clock):
    domain, turn = Domain(clock), Turns(clock)
    turn.backup(domain)
    turn.pull(domain, ["vda"], 1.0)
    assert domain.job


def test_whoever_asks_for_a_vm_of_a_host_gets_the_same_turns():
    assert turns("a", "1") is turns("a", "1")
    assert len({id(turns("a", "1")), id(turns("a", "2")), id(turns("b", "1"))}) == 3
