"""A real guest fails over: it is itself at the recovery site, replicated on from its first write, safe to kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import libvirt
import pytest
from tests.recovery.sites import Killed, Sites

from leeward.domain.errors import BadInput, Refused, StoreFull
from leeward.hypervisors.libvirt.checkpoints import ours
from leeward.recovery.libvirt.definition import original_of, tag_of
from leeward.recovery.libvirt.starting import STEPS
from leeward.recovery.records import STEPS as BUILD_STEPS
from leeward.recovery.replica import Replicas
from leeward.replication.replicator import Kind

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
IP = "10.77.0.71"
PROGRAM = Path(__file__).with_name("killable.py")


@pytest.fixture(scope="module")
def stopped(lab):
    """One guest for all tests here; the points that one test adds are the next one's past."""
    made = Sites(lab, lab.define_guest("office", "moved", disks=(64, 32), ip=IP))
    lab.wait_http("office", IP, timeout_s=90)
    made.replicate_and_stop()
    yield made
    made.close()
    lab.destroy_guest("office", "moved")


@pytest.fixture
def sites(stopped):
    yield stopped
    stopped.discard()


def test_the_vm_goes_on_elsewhere_and_is_replicated_from_its_first_write(sites):
    successor = sites.successor()
    record = sites.fail_over()
    assert "first write" in record.step("start").detail
    assert (record.copy_id, record.copy_name, record.network) == (sites.vm_id, "moved", "bridge:br0")
    with sites.domain() as domain, sites.visit() as neighbour:
        sites.copies.plug(sites.vm_id, "failover")
        assert sites.guest.mac in domain.XMLDesc(0)
        assert tag_of(domain.XMLDesc(0)) == record.tag
        assert "<name>moved</name>" in original_of(domain.XMLDesc(0))
        assert sites.copies.watch(sites.vm_id, "failover").evidence["agent"] == "answers"
        status = neighbour.wait(IP)
        assert all(disk["boot_intact"] for disk in status["disks"])
        assert status["disks"][0]["boot_seq"] >= sites.written

        # Nothing was sent again: the first cycle knew what the guest had written since it was started.
        first = successor.cycle()
        assert first.point is not None
        assert first.examined < 8 << 20
        rounds = sites.hydrate(between=successor.cycle)
        assert set(sites.kinds) == {Kind.DELTA}
        assert rounds > 1
        assert neighbour.wait(IP)["error"] == 0
        domain.suspend()
        successor.cycle()
        sites.assert_point_is_what_the_paused_guest_has()
        assert set(sites.kinds) == {Kind.DELTA}
        domain.resume()

        # The point is kept until the operator has committed, the export process is not.
        assert [pin.point_id for pin in sites.vault.pins(sites.vm_id)] == [record.point_id]
        assert sites.copies.export(record).pid() is None
        sites.copies.settle(sites.vm_id)
        assert sites.vault.pins(sites.vm_id) == []

        # From now on it is a VM like any other: off and on without the vault.
        domain.destroy()
        sites.copies.supervise()
        assert not domain.isActive()
        successor.cycle()
        sites.assert_images_are_the_newest_point(
            {n: sites.images / f"{record.tag}.{n}.qcow2" for n in ("vda", "vdb")}
        )
        domain.create()
        assert neighbour.wait(IP)["error"] == 0
    assert sites.copies.start(sites.vm_id, "failover").step("start").state == "done"
    sites.copies.discard(sites.vm_id, "failover")
    assert list(sites.images.glob(f"{record.tag}*")) == []
    assert not any(sites.folder.iterdir())


def kill_qemu(sites):
    os.kill(sites.qemu_pid(), signal.SIGKILL)
    with sites.domain() as domain:
        while domain.isActive():
            time.sleep(0.05)


def resume_by_hand(sites):
    with sites.domain() as domain:
        domain.resume()
        time.sleep(3)


@pytest.mark.parametrize(
    ("instant", "accident", "kind"),
    [
        *((step, None, Kind.DELTA) for step in STEPS),
        ("paused", kill_qemu, Kind.DELTA),
        ("tracked", kill_qemu, Kind.DELTA),
        ("tracked", resume_by_hand, Kind.DELTA),
        ("paused", resume_by_hand, Kind.RESYNC),
        ("released", kill_qemu, Kind.RESYNC),
    ],
)
def test_death_during_the_start(sites, instant, accident, kind):
    """Whatever was left, the next point is exact; and it is found without reading everything where it can be."""
    successor = sites.successor()

    def die(name):
        if name == instant:
            raise Killed

    sites.copies = sites.make_copies(on_instant=die)
    with pytest.raises(Killed):
        sites.fail_over()
    if accident:
        accident(sites)
    sites.copies = sites.make_copies()
    sites.copies.start(sites.vm_id, "failover")
    with sites.domain() as domain:
        assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        time.sleep(1)
        domain.suspend()
        successor.cycle()
        assert sites.kinds[-1] is kind
        assert len(ours(domain)) == 1
        sites.assert_point_is_what_the_paused_guest_has()


def test_sigkill_and_death_in_every_step(sites):
    """A process of its own is killed in each step in turn; the next one goes on where it was."""
    sites.successor()
    record = None
    for step in (*list(BUILD_STEPS)[:4], *STEPS):
        command = [sys.executable, str(PROGRAM), sites.lab.libvirt("recovery"), sites.vm_id, str(sites.images)]
        command += [str(sites.folder), str(sites.vault_dir), str(sites.key), step]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, (step, done.stderr)
        before, record = record, sites.record()
        assert before is None or before.tag == record.tag
    assert not record.done("start")
    record = sites.fail_over()
    assert record.done("start")
    assert sites.copies.watch(sites.vm_id, "failover").evidence["agent"] == "answers"


def test_an_older_point_is_not_taken_for_the_newest(sites):
    old = sites.vault.log(sites.vm_id).points()[-2].id
    successor = sites.successor()
    record = sites.fail_over(point=old, networks={"bridge:br0": "isolated"})
    assert "not the newest" in record.step("start").detail
    assert record.network == "isolated"
    with sites.domain() as domain:
        assert f"<source network='leeward-{record.tag}'" in domain.XMLDesc(0)
        network = domain.connect().networkLookupByName(f"leeward-{record.tag}")
        assert (network.isPersistent(), network.autostart()) == (1, 1)
        assert ours(domain) == []
        domain.suspend()
        sites.kinds.clear()
        successor.cycle()
        assert sites.kinds == [Kind.RESYNC]
        sites.assert_point_is_what_the_paused_guest_has()
        with pytest.raises(Refused, match="exists already"):
            sites.fail_over(point=sites.vault.log(sites.vm_id).points()[-1].id)
        # Both purposes may exist at once.
        sites.copies.build(sites.vm_id, "moved", "latest", "test")
        assert {record.purpose for record in sites.copies.records()} == {"test", "failover"}
        # What an operator has switched off stays off; what has died is started again.
        domain.destroy()
        sites.copies.supervise()
        assert not domain.isActive()
        domain.create()
        kill_qemu(sites)
        sites.copies = sites.make_copies(may_run=lambda vm_id: False)
        sites.copies.supervise()
        assert not domain.isActive()
        sites.copies = sites.make_copies()
        sites.copies.supervise()
        assert domain.isActive()


def test_a_warm_replica_comes_up_without_the_vault(sites):
    """Its images are the VM's disks: nothing to serve and nothing to copy; and they are given back."""
    replicas = Replicas(sites.root / "w", sites.images, sites.vault)
    sites.copies = sites.make_copies(replicas=replicas)
    successor = sites.successor()
    replicas.advance(sites.vm_id)
    hidden = sites.vault_dir.with_name("hidden")
    sites.vault_dir.rename(hidden)
    try:
        record = sites.fail_over()
        assert record.hydrated
        assert sites.copies.export(record).pid() is None
        assert "not known" in record.step("start").detail
        assert sites.copies.watch(sites.vm_id, "failover").evidence["agent"] == "answers"
    finally:
        hidden.rename(sites.vault_dir)
    with sites.domain() as domain:
        assert replicas.advance(sites.vm_id) is None  # they are in use
        domain.suspend()
        successor.cycle()
        assert sites.kinds == [Kind.RESYNC]
        sites.assert_point_is_what_the_paused_guest_has()
    sites.copies.discard(sites.vm_id, "failover")
    assert list(sites.images.glob(f"{record.tag}*")) == []

    # With the vault at hand it is brought to the newest point first, and tracked from the first write.
    sites.successor()
    assert replicas.advance(sites.vm_id).fetched < 8 << 20
    record = sites.fail_over()
    assert record.replica
    assert "first write" in record.step("start").detail
    sites.copies.discard(sites.vm_id, "failover")
    replicas.remove(sites.vm_id)


def test_what_cannot_be_is_refused_before_anything_is_made(sites, monkeypatch):
    with pytest.raises(Refused, match="no bridge br9"):
        sites.fail_over(networks={"bridge:br0": "bridge:br9"})
    sites.copies.discard(sites.vm_id, "failover")
    with pytest.raises(BadInput):
        sites.copies.build(sites.vm_id, "moved", "latest", "holiday")
    with pytest.raises(Refused, match="went through"):
        sites.copies.start(sites.vm_id, "failover")
    connection = libvirt.open(sites.lab.libvirt("recovery"))
    other = "<domain type='qemu'><name>{}</name>{}<memory>1024</memory><os><type>hvm</type></os></domain>"
    for name, identity in (("moved", ""), ("stranger", f"<uuid>{sites.vm_id}</uuid>")):
        domain = connection.defineXML(other.format(name, identity))
        with pytest.raises(Refused, match="already"):
            sites.fail_over()
        domain.undefine()
    connection.close()
    usage = type("Usage", (), {"free": 20 << 20})
    monkeypatch.setattr("leeward.recovery.libvirt.host.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(StoreFull, match="are free"):
        sites.fail_over()
    assert sites.copies.records() == []
    assert sites.vault.pins(sites.vm_id) == []
