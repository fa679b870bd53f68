"""Test failover of a real guest in the two-site lab: boots, stays apart, survives outages, leaves nothing behind."""

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pytest

from leeward.domain.errors import Refused
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.recovery.boot_record import DOCUMENT
from leeward.recovery.copies import Copies
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
IP = "10.77.0.31"


class Office:
    """A protected guest and everything needed to recover it."""

    def __init__(self, lab, guest):
        self.lab, self.guest = lab, guest
        root = Path(lab.places.root)
        self.folder, self.vault_dir, self.key = root / "t", root / "vault-drill", root / "drill.key"
        # Made by us, as the configuration names it.
        self.storage = root / "recovery-drill" / "images"
        for old in (self.folder, self.vault_dir, self.storage.parent):
            shutil.rmtree(old, ignore_errors=True)
        self.vault_dir.mkdir()
        self.vault, _ = Vault.create(LocalStore(self.vault_dir), "x", cost=Argon2(1024, 1, 1))
        self.key.write_bytes(self.vault.keys.to_bytes())
        self.host = LibvirtHost("office", lab.libvirt("office"), root / "scratch")
        self.pool = CopyPool.make()
        self.replicator = Replicator(self.host, self.vault.log(guest.uuid), guest.uuid, self.pool, writer_name="test")
        self.recovery = LibvirtRecoveryHost("recovery", lab.libvirt("recovery"), self.storage)
        self.tests = self.failover()

    def failover(self):
        return Copies(self.recovery, self.folder, str(self.vault_dir), self.key, self.vault)

    def seq(self):
        return self.lab.http("office", self.guest.ip, "/")["seq"]

    def export_pid(self):
        return self.tests.export(self.tests.record(self.guest.uuid, "test")).pid()

    def copies(self):
        connection = libvirt.open(self.lab.libvirt("recovery"))
        try:
            names = [domain.name() for domain in connection.listAllDomains(0)]
            return names + [network.name() for network in connection.listAllNetworks(0)]
        finally:
            connection.close()

    def hydrate(self, seconds=90):
        ends = time.monotonic() + seconds
        while not self.tests.record(self.guest.uuid, "test").hydrated:
            assert time.monotonic() < ends, "hydration does not end"
            self.tests.supervise()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def guest(lab):
    """Tests of its copies leave the original alone."""
    made = lab.define_guest("office", "drilled", disks=(64, 32), ip=IP)
    lab.wait_http("office", IP, timeout_s=90)
    yield made
    lab.destroy_guest("office", "drilled")


@pytest.fixture
def office(lab, guest):
    made = Office(lab, guest)
    before = os.umask(0o077)  # the daemon's; QEMU is another user, and must get to its images all the same
    try:
        yield made
    finally:
        os.umask(before)
    if made.tests.record(made.guest.uuid, "test"):
        made.tests.discard(made.guest.uuid, "test")
    made.host.forget(made.guest.uuid)
    made.pool.shutdown()


def test_the_copy_has_the_newest_data_and_production_goes_on(office):
    guest = office.guest
    office.replicator.cycle()
    before = office.seq()
    while office.seq() == before:  # there is something new for a point
        time.sleep(0.02)
    point = office.replicator.cycle().point
    record = office.tests.rehearse(guest.uuid, "drilled")
    assert record.point_id == point.id
    assert record.evidence["agent"] == "answers"
    assert [step.state for step in record.steps] == ["done"] * 6
    with office.lab.probe("recovery", record.network, "10.77.0.3/24") as probe:
        copy = probe.wait(IP)
        # The point was made after `before` was on the guest's disk; both disks hold the same instant.
        assert all(disk["boot_intact"] for disk in copy["disks"])
        assert copy["disks"][0]["boot_seq"] >= before
        assert 0 <= copy["disks"][0]["boot_seq"] - copy["disks"][1]["boot_seq"] <= 1
        assert copy["error"] == 0
        # Replication of the original goes on meanwhile, and pins keep the point.
        assert office.replicator.cycle().point is not None
        assert [pin.point_id for pin in office.vault.pins(guest.uuid)] == [point.id]
        # Once hydrated the copy needs neither the export process nor the vault.
        office.hydrate()
        assert office.export_pid() is None
        first = probe.wait(IP)["seq"]
        time.sleep(1)
        assert probe.wait(IP)["seq"] > first
    assert office.lab.http("office", IP, "/")["error"] == 0
    assert office.vault.document(guest.uuid, DOCUMENT)["runs"]
    with pytest.raises(Refused):
        office.tests.rehearse(guest.uuid, "drilled")

    office.tests.discard(guest.uuid, "test")
    assert office.copies() == []
    assert list(office.storage.glob(f"{record.tag}*")) == []
    assert office.vault.pins(guest.uuid) == []
    assert not any(office.folder.iterdir())
    assert office.tests.discard(guest.uuid, "test") is None


def test_a_killed_export_process_only_pauses_the_copy(office):
    guest = office.guest
    office.replicator.cycle()
    record = office.tests.rehearse(guest.uuid, "drilled")
    with office.lab.probe("recovery", record.network, "10.77.0.3/24") as probe:
        probe.wait(IP)
        os.kill(office.export_pid(), signal.SIGKILL)
        office.hydrate()
        status = probe.wait(IP)
        assert status["error"] == 0
        assert all(disk["boot_intact"] for disk in status["disks"])


def test_a_vault_that_goes_away_is_waited_for(office):
    guest = office.guest
    office.replicator.cycle()
    hidden = office.vault_dir.with_name("hidden")
    original = office.tests._power_on

    def power_on_and_hide(record, offline):
        done = original(record, offline)
        office.vault_dir.rename(hidden)
        return done

    office.tests._power_on = power_on_and_hide

    def come_back():
        time.sleep(8)
        hidden.rename(office.vault_dir)

    with ThreadPoolExecutor(1) as pool:
        back = pool.submit(come_back)
        record = office.tests.rehearse(guest.uuid, "drilled")
        back.result()
    assert record.evidence["agent"] == "answers"
    with office.lab.probe("recovery", record.network, "10.77.0.3/24") as probe:
        assert probe.wait(IP)["error"] == 0


class Killed(BaseException):
    """Stands for the death of our process."""


@pytest.mark.parametrize("step", ["pin", "export", "define", "start", "boot"])
def test_death_in_any_step_is_continued_or_cleaned_up(office, step):
    guest = office.guest
    office.replicator.cycle()

    def die(record):
        if record.step(step).state == "running":
            raise Killed

    with pytest.raises(Killed):
        office.tests.rehearse(guest.uuid, "drilled", on_step=die)
    office.tests = office.failover()
    if step in ("pin", "define"):
        record = office.tests.rehearse(guest.uuid, "drilled")
        assert record.evidence["agent"] == "answers"
    office.tests.discard(guest.uuid, "test")
    assert office.copies() == []
    assert office.vault.pins(guest.uuid) == []
