"""The clock of a host is set back by an hour while its real guest is replicated."""

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.vault.conftest import CHEAP

from leeward.agent.wiring import _set_aside
from leeward.agent.worker import Services, Worker
from leeward.domain.errors import StoreUnavailable
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.replication.pool import CopyPool
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.wire.messages import PolicyMessage, ProtectionMessage

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


class Remote(LocalStore):
    """The vault's store. away: nothing can be put there."""

    away = False

    def put(self, *args, **more):
        if self.away:
            raise StoreUnavailable("the vault is away", subject="vault")
        return super().put(*args, **more)


def test_points_stay_in_order_and_none_becomes_younger(lab, guest_factory, tmp_path, monkeypatch):
    guest = guest_factory("office", "clock", disks=(64,), ip="10.77.0.45", interval_ms=20)
    remote = Remote(tmp_path / "vault")
    vault = Vault.create(remote, "x", cost=CHEAP)[0]
    spool = tmp_path / "spool"

    def open_vault():
        store = SpoolingStore(remote, LocalStore(spool), 64 << 20, partial(_set_aside, spool))
        return Vault.open(store, keys=vault.keys), store

    host = LibvirtHost("office", lab.libvirt("office"), Path(lab.places.root) / "scratch-clock")
    wish = ProtectionMessage(
        vm_id=guest.uuid, vm_name="clock", host="office", policy=PolicyMessage(rpo_s=1, app_interval_s=0)
    )
    pool = CopyPool.make(2)
    worker = Worker(wish, host, open_vault, Services("agent", pool), None)

    def until(condition):
        ends = time.monotonic() + 60
        while not condition(report := worker.report(time.time_ns())):
            assert time.monotonic() < ends, report
            time.sleep(0.05)
        return report

    with monkeypatch.context() as patch:
        ahead = SimpleNamespace(monotonic=time.monotonic, time_ns=lambda: time.time_ns() + 3600 * 10**9)
        patch.setattr("leeward.hypervisors.libvirt.host.time", ahead)
        worker.start()
        until(lambda report: report.cycles >= 3)
        remote.away = True
        until(lambda report: report.spool_bytes > 0)
    try:
        # The newest point in the vault is from the hour that comes again.
        report = until(lambda report: report.rpo_actual_s > 4)
        assert report.rpo_actual_s < 3000
        remote.away = False
        until(lambda report: report.spool_bytes == 0 and report.rpo_actual_s < 2 and not report.reason)
        points = vault.log(guest.uuid).points()
        assert [int(point.id) for point in points] == sorted(int(point.id) for point in points)
        assert abs(points[-1].time_ns - time.time_ns()) < 60e9 < points[0].time_ns - time.time_ns()
    finally:
        worker.stop()
        assert worker.join(30)
        host.forget(guest.uuid)
        pool.shutdown()
