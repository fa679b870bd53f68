"""A one-second RPO held over minutes: how old the newest recoverable instant gets, and what the guest feels of it.

Phases without and with protection take turns on the same writing guest, so that a change of the machine's speed hits
both alike.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import libvirt

from leeward.agent.pace import MARGIN
from leeward.agent.worker import Services, Worker
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.bench.cycles import bare
from leeward.lab.bench.stage import Stage
from leeward.replication.pool import CopyPool
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.wire.messages import PolicyMessage, ProtectionMessage

_SAMPLE_S = 0.05
# The guest rewrites a file of this size at this speed, besides its fsynced records every 20 ms on each disk.
_BURN_MB, _BURN_MB_S = 10, 1


@dataclass(slots=True)
class Feeling:
    """The guest's fsync latencies in µs: one (p50, p99) of each disk for each phase."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    worst: float = 0.0

    def add(self, status: dict[str, Any]) -> None:
        for disk in status["disks"]:
            latency = disk["fsync_us"]
            self.p50.append(latency["p50"])
            self.p99.append(latency["p99"])
            self.worst = max(self.worst, latency["max"])


@dataclass(slots=True)
class RpoFigures:
    """ages: actual RPO in seconds, sampled 20 times a second while protected."""

    target_s: float
    seconds: float = 0.0
    points: int = 0
    ages: list[float] = field(default_factory=list)
    plain: Feeling = field(default_factory=Feeling)
    bare: Feeling = field(default_factory=Feeling)
    protected: Feeling = field(default_factory=Feeling)

    def age(self, share: float) -> float:
        ordered = sorted(self.ages)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def ratio(self, what: str, over: str = "plain") -> float:
        """Median over the phases of the guest's p50 or p99, protected over unprotected (or "bare")."""
        before, during = (statistics.median(getattr(felt, what)) for felt in (getattr(self, over), self.protected))
        return float(during / before)


def hold_rpo(stage: Stage, minutes: float, phases: int, rpo_s: float, note: Callable[[str], None]) -> RpoFigures:
    """minutes: protected in all, in `phases` equal parts. Between them come unprotected phases and phases of bare
    libvirt cycles (begin, end, delete, nothing read, nothing stored), each of half that length."""
    lab, guest = stage.lab, stage.guest
    lab.start_guest("office", guest.name)
    lab.wait_http("office", guest.ip, timeout_s=120)
    time.sleep(10)  # the guest's own start-up noise
    figures = RpoFigures(rpo_s)
    each = minutes * 60 / phases
    with _load(stage):
        for number in range(phases):
            note(f"phase {number + 1} of {phases}: unprotected")
            _unprotected(stage, figures, each / 2)
            note(f"phase {number + 1} of {phases}: bare libvirt cycles")
            _bare(stage, figures, each / 2)
            note(f"phase {number + 1} of {phases}: protected")
            _protected(stage, figures, each, number)
        _unprotected(stage, figures, each / 2)
    return figures


def _unprotected(stage: Stage, figures: RpoFigures, seconds: float) -> None:
    stage.lab.http("office", stage.guest.ip, "/reset")
    time.sleep(seconds)
    figures.plain.add(stage.lab.http("office", stage.guest.ip, "/"))


def _bare(stage: Stage, figures: RpoFigures, seconds: float) -> None:
    """The least that any backup through libvirt asks of the guest, as often as ours."""
    connection = libvirt.open(stage.lab.libvirt("office"))
    domain = connection.lookupByUUIDString(stage.guest.uuid)
    folder = stage.fresh("bare")
    targets = sorted(stage.guest.disks)
    base = None
    try:
        stage.lab.http("office", stage.guest.ip, "/reset")
        began = time.monotonic()
        for number in count():
            next_one = began + number * figures.target_s * MARGIN
            if next_one > began + seconds:
                break
            time.sleep(max(0.0, next_one - time.monotonic()))
            bare(domain, targets, folder, base, f"bare-{number}")
            base = f"bare-{number}"
        figures.bare.add(stage.lab.http("office", stage.guest.ip, "/"))
    finally:
        if base:
            domain.checkpointLookupByName(base).delete(0)
        connection.close()


def _protected(stage: Stage, figures: RpoFigures, seconds: float, number: int) -> None:
    guest = stage.guest
    vault, _ = Vault.create(LocalStore(stage.fresh(f"vault{number}")), "bench")
    store = SpoolingStore(vault.store, LocalStore(stage.fresh(f"spool{number}")), 64 << 20)
    wish = ProtectionMessage(
        vm_id=guest.uuid, vm_name=guest.name, host="office", policy=PolicyMessage(rpo_s=figures.target_s)
    )
    host = LibvirtHost("office", stage.lab.libvirt("office"), stage.fresh("scratch"))
    pool = CopyPool.make()
    services = Services("bench", pool, lambda vm_id, epoch: None)
    worker = Worker(wish, host, lambda: (Vault.open(store, keys=vault.keys), store), services, None)
    worker.start()
    try:
        _wait_protected(worker)
        stage.lab.http("office", guest.ip, "/reset")
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            age = worker.report(time.time_ns()).rpo_actual_s
            if age is not None:
                figures.ages.append(age)
            time.sleep(_SAMPLE_S)
        figures.protected.add(stage.lab.http("office", guest.ip, "/"))
        figures.seconds += time.monotonic() - began
        figures.points += len(vault.log(guest.uuid).points())
    finally:
        worker.stop()
        worker.join(30)
        pool.shutdown()
        host.forget(guest.uuid)


def _wait_protected(worker: Worker) -> None:
    while not worker.report(time.time_ns()).failover_possible:
        time.sleep(0.2)
    time.sleep(5)  # the first copy's own churn is not what is measured


@contextmanager
def _load(stage: Stage) -> Iterator[None]:
    """Keep the guest rewriting its file, phase for phase the same."""
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            stage.lab.http("office", stage.guest.ip, f"/burn?{_BURN_MB}&{_BURN_MB_S}", timeout_s=120)

    thread = threading.Thread(target=burn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
