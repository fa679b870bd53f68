"""A worker on a hypervisor in memory, a real vault in a folder, real time: what an operator would see and recover."""

import random
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest
from tests.vault.conftest import CHEAP

from leeward.agent import wiring, worker
from leeward.agent.wiring import _set_aside
from leeward.agent.worker import Services, Worker
from leeward.domain.errors import HostBusy, StoreFull, StoreReadOnly, StoreUnavailable
from leeward.domain.protection import ProtectionState
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.replication.pool import CopyPool
from leeward.replication.spool import SpoolingStore
from leeward.vault import writer
from leeward.vault.check import check
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.wire.messages import PolicyMessage, ProtectionMessage

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
MIB = 1 << 20


class Remote:
    """The vault's store, which can be taken away. trouble: what every write raises; away: what everything raises."""

    def __init__(self, store):
        self.store = store
        self.away = None
        self.trouble = None

    def __getattr__(self, name):
        if self.away and name != "url":
            raise self.away
        if self.trouble and name in ("put", "delete"):
            raise self.trouble
        return getattr(self.store, name)


class Site:
    """One protected VM with everything around it."""

    def __init__(self, folder, spool_limit=64 * MIB, **policy):
        self.folder = folder
        self.hypervisor = MemoryHypervisor("office")
        data = random.Random(1).randbytes(2 * MIB)
        self.vm = self.hypervisor.add(VM, "web", {"vda": data + bytes(2 * MIB), "vdb": data[:MIB]})
        self.remote = Remote(LocalStore(folder / "vault"))
        self.vault = Vault.create(self.remote, "x", cost=CHEAP)[0]
        self.spool = folder / "spool"
        self.spool_limit = spool_limit
        self.wish = ProtectionMessage(
            vm_id=VM,
            vm_name="web",
            host="office",
            policy=PolicyMessage(**{"rpo_s": 1, "app_interval_s": 0, **policy}),
        )
        self.epochs = {}
        self.fenced = []
        self.pool = CopyPool.make(2)
        self.worker = None
        self.rng = random.Random(2)

    def start(self):
        def open_vault():
            store = SpoolingStore(
                self.remote, LocalStore(self.spool), self.spool_limit, partial(_set_aside, self.spool)
            )
            return Vault.open(store, keys=self.vault.keys), store

        services = Services(
            "agent",
            self.pool,
            self.epochs.__setitem__,
            on_fenced=lambda wish: self.fenced.append(wish.vm_id),
        )
        self.worker = Worker(self.wish, self.hypervisor, open_vault, services, self.epochs.get(VM))
        self.worker.start()
        return self

    def stop(self):
        if self.worker:
            self.worker.stop()
            assert self.worker.join(20)
            self.worker = None

    def report(self):
        return self.worker.report(time.time_ns())

    def write(self, size=65536):
        """Change something; returns when it was done, in UTC ns."""
        at = self.rng.randrange(0, 4 * MIB - size)
        self.vm.write("vda", at, self.rng.randbytes(size))
        return time.time_ns()

    def until(self, condition, timeout_s=20.0):
        ends = time.monotonic() + timeout_s
        while True:
            report = self.report()
            if condition(report):
                return report
            assert time.monotonic() < ends, report
            time.sleep(0.02)

    def contents(self):
        with self.vault.log(VM).open_point("latest") as image:
            return {name: image.disks[name].read(0, disk.size) for name, disk in image.disks.items()}

    def until_equal(self, timeout_s=20.0):
        ends = time.monotonic() + timeout_s
        while self.contents() != {name: bytes(data) for name, data in self.vm.disks.items()}:
            assert time.monotonic() < ends, self.report()
            time.sleep(0.1)


@pytest.fixture
def site(tmp_path):
    made = []

    def make(**how):
        made.append(Site(tmp_path, **how))
        return made[-1]

    yield make
    for one in made:
        one.remote.away = one.remote.trouble = None
        one.stop()
        one.pool.shutdown()


def enabled(report):
    return report.state is ProtectionState.ENABLED


def test_from_nothing_to_enabled_and_on(site):
    one = site().start()
    report = one.until(enabled)
    assert report.failover_possible
    assert report.last_point.id == one.vault.log(VM).points()[-1].id
    for _ in range(3):
        written = one.write()
        one.until(lambda report, after=written: report.last_point and report.rpo_actual_s < 1.2 and report.cycles)
        one.until_equal()
    assert 0.0 <= one.report().rpo_actual_s <= 2.0


def test_a_point_is_told_of_before_a_map_of_it_is_written(site, monkeypatch):
    monkeypatch.setattr(writer, "MAP_EVERY", 1)
    one = site()
    put, asked, go_on = one.remote.store.put, threading.Event(), threading.Event()

    def slow_for_maps(key, parts):
        if "/map/" in key:
            asked.set()
            assert go_on.wait(20)
        put(key, parts)

    one.remote.store.put = slow_for_maps
    one.start()
    try:
        assert asked.wait(20)
        report = one.report()
        assert enabled(report)
        assert report.last_point.id == one.vault.log(VM).points()[-1].id
    finally:
        go_on.set()
    one.write()
    one.until(lambda later: later.last_point.id != report.last_point.id)
    one.until_equal()
    assert len(list(one.remote.store.scan(f"vm/{VM}/map/"))) > 1


def test_an_outage_goes_to_the_spool_and_comes_back_whole(site):
    one = site().start()
    one.until(enabled)
    one.until_equal()
    newest = one.report().last_point.id
    one.remote.away = StoreUnavailable("the vault is away", subject="here")
    for _ in range(5):
        one.write()
        time.sleep(0.5)
    report = one.until(lambda report: report.spool_bytes > 0 and report.rpo_actual_s > 2.0)
    # What nobody else could recover is not reported as the newest point, and does not make the RPO look good.
    assert report.last_point.id == newest
    assert report.failover_possible
    one.remote.away = None
    points = len(one.vault.log(VM).points())
    one.until(lambda report: report.spool_bytes == 0 and report.rpo_actual_s < 1.5 and enabled(report))
    one.until_equal()
    # The points of the outage are there, not only the newest one.
    assert len(one.vault.log(VM).points()) >= points + 2


def test_a_vault_that_is_slow_to_fail_does_not_slow_the_points_down(site):
    one = site().start()
    one.until(enabled)

    class Hangs(StoreUnavailable):
        """Raised by the remote only after a while, as a store that goes on trying does."""

        def __init__(self, *what, **more):
            time.sleep(1.5)
            super().__init__(*what, **more)

    put = one.remote.store.put
    one.remote.store.put = lambda key, parts: (_ for _ in ()).throw(Hangs("the vault is away"))
    for _ in range(30):
        one.write()
        time.sleep(0.2)
    report = one.report()
    waiting = int(report.reason.split()[0])
    assert "wait in the local spool: the vault is away" in report.reason
    assert waiting >= 4, report
    assert report.rpo_actual_s > 5
    points = len(one.vault.log(VM).points())
    one.remote.store.put = put
    one.until(lambda report: report.spool_bytes == 0 and report.rpo_actual_s < 1.5 and not report.reason)
    one.until_equal()
    assert len(one.vault.log(VM).points()) >= points + waiting


def test_restarted_while_the_vault_is_read_only_it_does_not_claim_to_be_current(site):
    """The vault can be read, what is in the spool cannot be sent: an idle VM must not look replicated."""
    one = site().start()
    one.until(enabled)
    one.until_equal()
    one.remote.trouble = StoreReadOnly("the vault is read-only", subject="vault")
    one.write()
    one.until(lambda report: report.spool_bytes > 0)
    one.stop()
    one.start()
    report = one.until(lambda report: report.cycles >= 2)
    newest = one.vault.log(VM).points()[-1]
    assert report.last_point.id == newest.id
    assert report.rpo_actual_s == pytest.approx(time.time() - newest.time_ns / 1e9, abs=0.5)
    assert "1 point waits in the local spool: vault: the vault is read-only" in report.reason
    one.remote.trouble = None
    one.until(lambda report: report.spool_bytes == 0 and not report.reason)
    one.until_equal()


@pytest.mark.parametrize("changes", [True, False])
def test_a_clock_that_is_set_back_makes_nothing_younger(site, monkeypatch, changes):
    """Points from the hour that is to come again, and the vault goes away: they are as old as they are, and late."""
    one = site().start()
    ahead = SimpleNamespace(time_ns=lambda: time.time_ns() + 3600 * 10**9)
    with monkeypatch.context() as patch:
        patch.setattr("leeward.hypervisors.memory.time", ahead)
        one.until(lambda report: enabled(report) and report.cycles >= 2)
    before = one.report().cycles
    if changes:
        one.write()
    report = one.until(lambda report: report.cycles > before + 2)
    # What was found unchanged, or written, since then counts from then on.
    assert report.rpo_actual_s < 2
    assert report.verified_at < report.last_point.time or changes
    with monkeypatch.context() as patch:
        patch.setattr("leeward.hypervisors.memory.time", ahead)
        cycles = one.report().cycles
        one.write()
        one.until(lambda report: report.cycles > cycles + 1 and report.spool_bytes == 0)
    failed = time.monotonic()
    monkeypatch.setattr(one.hypervisor, "open_cycle", busy)
    report = one.until(lambda report: report.rpo_actual_s > 3)
    assert report.rpo_actual_s < time.monotonic() - failed + 3
    assert report.reason.startswith("retrying: ")
    monkeypatch.undo()
    one.write()
    one.until(lambda report: enabled(report) and report.rpo_actual_s < 1.5 and not report.reason, 40)
    one.until_equal()
    points = one.vault.log(VM).points()
    assert [int(point.id) for point in points] == sorted(int(point.id) for point in points)
    assert points[-1].time_ns < points[-2].time_ns


def busy(*args, **more):
    raise HostBusy("another job has the right of way", subject="web")


@pytest.mark.parametrize("waiting", [True, False])
def test_protected_anew_while_the_vault_takes_nothing(site, waiting):
    """The very entry that begins the new epoch is spooled then, and must not go the way of the old epoch's points."""
    one = site().start()
    one.until(enabled)
    one.until_equal()
    one.remote.trouble = StoreFull("the vault is full", subject="vault")
    if waiting:
        one.write()
        one.until(lambda report: report.spool_bytes > 0)
    one.stop()
    one.epochs.clear()  # it was taken out of protection, and is protected again
    one.wish = one.wish.model_copy(update={"claim": 1})
    one.start()
    one.write()
    one.until(lambda report: report.cycles >= 1 and report.spool_bytes > 0)
    one.remote.trouble = None
    one.until(lambda report: report.spool_bytes == 0 and not report.reason)
    one.until_equal()
    one.stop()
    assert check(one.remote.store, keys=one.vault.keys).troubles == []
    assert one.epochs[VM] == one.vault.log(VM).epoch() == 2
    one.start()
    one.write()
    one.until_equal()


def test_fenced_during_an_outage_the_spool_is_set_aside(site, monkeypatch):
    told = []
    monkeypatch.setattr(wiring.log, "warning", lambda event, **facts: told.append((event, facts.get("folder"))))
    one = site().start()
    one.until(enabled)
    one.remote.trouble = StoreUnavailable("the vault is away", subject="here")
    one.write()
    one.until(lambda report: report.spool_bytes > 0)
    Vault.open(one.remote.store, keys=one.vault.keys).log(VM).open_writer(writer="recovery site", new_epoch=True)
    one.remote.trouble = None
    report = one.until(lambda report: "another writer" in report.reason)
    assert report.state is ProtectionState.ERROR
    assert report.failover_possible
    tail = [info.key for info in one.remote.store.scan(f"vm/{VM}/log/")]
    one.write()
    time.sleep(1.5)
    assert [info.key for info in one.remote.store.scan(f"vm/{VM}/log/")] == tail
    one.stop()
    (aside,) = one.folder.glob("spool.*")
    assert aside.name.split(".")[1].split("-")[0] == "aside"
    assert [folder for event, folder in told if "set aside" in event] == [str(aside)]
    # Protected anew by the operator, it takes over and begins with an empty spool.
    one.epochs.clear()
    one.wish = one.wish.model_copy(update={"claim": 2})
    one.start()
    one.until(enabled)
    one.until_equal()


@pytest.mark.parametrize("how", ["a long target", "paused", "a busy host", "read-only here"])
def test_whoever_puts_nothing_still_finds_out_that_it_was_taken_over(site, monkeypatch, how):
    """Until it does, the VM runs at two places."""
    monkeypatch.setattr(worker, "_REIGN_S", 0.2)
    one = site(rpo_s=3600 if how == "a long target" else 1).start()
    one.until(enabled)
    if how == "paused":
        one.stop()
        one.wish = one.wish.model_copy(update={"paused": True})
        one.start()
        one.until(lambda report: report.state is ProtectionState.PAUSED)
    elif how == "a busy host":

        def busy(*args, **more):
            raise HostBusy("a foreign job has the right of way")

        one.hypervisor.open_cycle = busy
        one.until(lambda report: "foreign job" in report.reason)
    elif how == "read-only here":
        one.remote.trouble = StoreReadOnly("the vault is read-only", subject="vault")
        one.write()
        one.until(lambda report: report.spool_bytes > 0)
    Vault.open(one.remote.store, keys=one.vault.keys).log(VM).open_writer(writer="recovery site", new_epoch=True)
    began = time.monotonic()
    report = one.until(lambda report: report.state is ProtectionState.ERROR)
    assert "another" in report.reason
    assert time.monotonic() - began < 6
    assert one.fenced == [VM]


def test_killed_during_an_outage_the_spool_is_sent_by_the_next_run(site):
    one = site().start()
    one.until(enabled)
    one.remote.away = StoreUnavailable("the vault is away", subject="here")
    one.write()
    one.until(lambda report: report.spool_bytes > 0)
    one.stop()
    one.remote.away = None
    before = len(one.vault.log(VM).points())
    one.start()
    one.until(lambda report: enabled(report) and report.spool_bytes == 0)
    one.until_equal()
    assert len(one.vault.log(VM).points()) > before


def test_a_full_spool_drops_points_never_changes(site):
    one = site(spool_limit=256 << 10).start()
    one.until(enabled)
    one.remote.away = StoreUnavailable("the vault is away", subject="here")
    for _ in range(8):
        one.write(128 << 10)
        time.sleep(0.4)
    report = one.until(lambda report: "away" in report.reason)
    assert report.spool_bytes <= 256 << 10
    assert report.failover_possible
    assert sum(f.stat().st_size for f in one.spool.rglob("*") if f.is_file()) <= 256 << 10
    one.remote.away = None
    one.until(lambda report: enabled(report) and report.spool_bytes == 0 and not report.reason)
    one.until_equal()


def test_a_vault_that_is_away_at_the_start(site):
    one = site()
    one.remote.away = StoreUnavailable("the vault is away", subject="here")
    one.start()
    report = one.until(lambda report: report.state is ProtectionState.ERROR)
    assert "away" in report.reason
    assert not report.failover_possible
    one.remote.away = None
    one.until(enabled)
    one.until_equal()


@pytest.mark.parametrize(
    "trouble",
    [
        StoreFull("no space is left", subject="vault", hint="Make room"),
        StoreReadOnly("the vault is read-only", subject="vault"),
    ],
)
def test_a_vault_that_takes_nothing(site, trouble):
    one = site().start()
    one.until(enabled)
    one.until_equal()
    one.remote.trouble = trouble
    one.write()
    report = one.until(lambda report: trouble.message in report.reason)
    assert report.failover_possible
    assert len(report.reason.splitlines()) == 1
    one.write()
    one.remote.trouble = None
    one.until(lambda report: enabled(report) and not report.reason)
    one.until_equal()


def test_another_writer_stops_this_one_for_good(site):
    one = site().start()
    one.until(enabled)
    one.vault.log(VM).open_writer(writer="recovery site", new_epoch=True)
    one.write()
    report = one.until(lambda report: report.state is ProtectionState.ERROR)
    assert "is over" in report.reason
    points = one.vault.log(VM).points()
    one.write()
    time.sleep(2.5)
    assert one.vault.log(VM).points() == points


def test_two_workers_of_one_vm(site, tmp_path):
    """The same state folder copied to a second machine: one of the two finds out, nothing is mixed."""
    one = site().start()
    one.until(enabled)
    two = Site.__new__(Site)
    two.__dict__.update(one.__dict__)
    two.spool = tmp_path / "spool2"
    two.worker = None
    two.start()
    for _ in range(4):
        one.write()
        time.sleep(0.6)
    both = [one.report(), two.report()]
    assert any(report.state is ProtectionState.ERROR for report in both), both
    two.stop()
    one.stop()
    one.epochs.clear()
    one.start()
    one.until(enabled)
    one.until_equal()


def test_a_paused_vm_costs_nothing_and_loses_nothing(site):
    one = site().start()
    one.until(enabled)
    one.stop()
    one.wish = one.wish.model_copy(update={"paused": True})
    one.start()
    report = one.until(lambda report: report.state is ProtectionState.PAUSED)
    one.write()
    time.sleep(1.5)
    assert one.report().cycles == report.cycles
    one.stop()
    one.wish = one.wish.model_copy(update={"paused": False})
    one.start()
    one.until(enabled)
    one.until_equal()


def test_a_vm_that_is_gone_and_comes_back(site):
    one = site().start()
    one.until(enabled)
    one.until_equal()
    one.hypervisor.remove(VM)
    report = one.until(lambda report: report.state is ProtectionState.ERROR)
    assert "no longer defined" in report.reason
    assert report.failover_possible
    data = {name: bytes(contents) for name, contents in one.vm.disks.items()}
    one.vm = one.hypervisor.add(VM, "renamed", data)
    one.write()
    one.until(enabled)
    one.until_equal()


def test_lost_tracking_is_compared_and_said(site):
    one = site().start()
    one.until(enabled)
    seen = []
    over = threading.Event()

    def watch():
        while not over.is_set():
            seen.append(one.report().state)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    one.write()
    one.vm.lose_tracking()
    one.until_equal()
    one.until(enabled)
    over.set()
    watcher.join()
    assert ProtectionState.RESYNCHRONIZING in seen


def test_a_bandwidth_limit_holds(site):
    one = site(bandwidth=MIB)
    began = time.monotonic()
    one.start()
    one.until(enabled, timeout_s=30)
    took = time.monotonic() - began
    sent = sum(info.size for info in one.remote.store.scan("vm/"))
    assert sent > 2 * MIB
    # The limiter lets a second's worth through at once.
    assert took >= sent / MIB - 1.2
    assert took < sent / MIB + 5


@pytest.mark.slow
def test_a_pruned_log_is_compacted_by_its_worker(site, monkeypatch):
    from leeward.domain.retention import Retention
    from leeward.vault import compaction

    monkeypatch.setattr(compaction, "_LEAST_DEAD", 4)
    one = site().start()
    one.until(enabled)
    for at in range(0, 3 * MIB // 2, 65536):
        one.vm.write("vda", at, one.rng.randbytes(65536))
        if at % (256 << 10) == 0:
            time.sleep(0.3)
    one.until_equal()
    time.sleep(2.5)
    one.write()
    one.until_equal()
    plan = one.vault.prune_plan(VM, Retention(1.0), epoch=one.epochs[VM])
    assert plan.drop
    one.vault.prune(plan)
    one.worker.pruned()
    # The first copy's object is mostly dead, but the second disk's blocks still keep it from going.
    first = f"vm/{VM}/log/{2:016d}"
    assert any(info.key == first for info in one.remote.store.scan("vm/"))
    for _ in range(30):
        one.write(4096)
        time.sleep(0.3)
        plan = one.vault.prune_plan(VM, Retention(1.0), epoch=one.epochs[VM])
        if not plan.empty:
            one.vault.prune(plan)
        gone = not any(info.key == first for info in one.remote.store.scan("vm/"))
        if gone:
            break
    assert gone
    one.until_equal()
