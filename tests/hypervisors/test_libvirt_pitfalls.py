"""What goes wrong on real hosts, done to a real guest: afterwards the vault still equals the disks, byte for byte."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest
from tests.anyone import anyones_folder

from leeward.domain.errors import HostBusy, HypervisorError, LeewardError, VmGone
from leeward.domain.vm import Consistency, Power
from leeward.hypervisors.libvirt.bitmaps import ours
from leeward.hypervisors.libvirt.checkpoints import wait_idle
from leeward.hypervisors.libvirt.connection import call_within
from leeward.hypervisors.libvirt.freezing import Freezer
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.hypervisors.libvirt.offline import image_mark
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Kind, Replicator
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
IP = "10.77.0.41"
NAME = "pit"


class Bench:
    """A guest, its driver and a replicator; `verify` compares the newest point with the paused guest's images."""

    def __init__(self, lab, guest, scratch):
        self.lab, self.guest, self.id, self.scratch = lab, guest, guest.uuid, scratch
        self.connection = libvirt.open(lab.libvirt("office"))
        self.vault = Vault.create(MemoryStore(), "x", cost=Argon2(1024, 1, 1))[0]
        self.pool = CopyPool.make()
        self.kinds = []
        self.epoch = None
        self.restart()

    def restart(self):
        """As after the death of our process: nothing is remembered but the epoch."""
        self.host = LibvirtHost("office", self.lab.libvirt("office"), self.scratch)
        self.engine = Replicator(
            self.host,
            self.vault.log(self.id),
            self.id,
            self.pool,
            writer_name="test",
            epoch=self.epoch,
            on_kind=lambda kind, reason: self.kinds.append(kind),
        )

    @property
    def domain(self):
        return self.connection.lookupByUUIDString(self.id)

    def cycle(self, *args):
        """As the worker does it: a busy host is tried again."""
        ends = time.monotonic() + 60
        while True:
            try:
                result = self.engine.cycle(*args)
            except HostBusy:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)
            else:
                self.epoch = self.engine.epoch
                return result

    def leave(self):
        """What tests leave by design is gone; whatever else is left costs the next one a boot."""
        self.pool.shutdown()
        with contextlib.suppress(libvirt.libvirtError):
            for checkpoint in self.domain.listAllCheckpoints(0):
                checkpoint.delete(0)
            if self.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                self.domain.resume()
        self.connection.close()

    def boot_as(self, definition):
        """Define it anew and start it."""
        self.domain.destroy()
        self.connection.defineXML(definition)
        self.domain.create()
        self.lab.wait_http("office", IP, timeout_s=90)

    def checkpoints(self):
        return [checkpoint.getName() for checkpoint in self.domain.listAllCheckpoints(0)]

    def image(self, target):
        for line in self.domain.XMLDesc(0).split("<disk ")[1:]:
            if f"dev='{target}'" in line:
                return line.split("<source file='")[1].split("'")[0]
        raise AssertionError(target)

    def verify(self, tmp_path):
        """Freeze the guest by pausing it, take one more cycle, compare all disks with it."""
        running = self.domain.isActive()
        if running:
            self.domain.suspend()
        try:
            self.cycle()
            with self.vault.log(self.id).open_point("latest") as point:
                for name, disk in point.disks.items():
                    raw = tmp_path / f"{name}.raw"
                    command = ["qemu-img", "convert", "-U", "-O", "raw", self.image(name), str(raw)]
                    subprocess.run(command, check=True)
                    expected = raw.read_bytes()
                    assert disk.size == len(expected)
                    step = 1 << 20
                    for at in range(0, disk.size, step):
                        assert disk.read(at, min(step, disk.size - at)) == expected[at : at + step], (name, at)
        finally:
            if running:
                self.domain.resume()

    def wait_off(self):
        ends = time.monotonic() + 30
        while self.domain.isActive():
            assert time.monotonic() < ends
            time.sleep(0.05)

    def qemu_pid(self):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if self.id.encode() in line and b"qemu-system" in line:
                    return int(entry.name)
        raise AssertionError("no QEMU")


def libvirtd(bench):
    """The process that answers now."""
    bench.connection.getLibVersion()
    assert bench.connection.isAlive()
    return int((Path(bench.lab.places.site("office")) / "libvirtd.pid").read_text())


@pytest.fixture(scope="module")
def one_guest(lab):
    """one_guest() → it runs and answers. All share it: it boots anew only where a test left it off, or in trouble."""

    def ready():
        if NAME in lab.guests("office") and not fit(lab):
            lab.destroy_guest("office", NAME)
        # Something is written in every cycle.
        guest = lab.define_guest("office", NAME, disks=(64, 32), ip=IP, interval_ms=20)
        lab.wait_http("office", IP, timeout_s=90)
        return guest

    yield ready
    lab.destroy_guest("office", NAME)


def fit(lab):
    """Nothing of an earlier test is felt by the next."""
    connection = libvirt.open(lab.libvirt("office"))
    try:
        domain = connection.lookupByName(NAME)
        return (
            domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
            and domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE
            and domain.listAllCheckpoints(0) == []
            and domain.XMLDesc(0).count("<disk ") == 2
            and lab.http("office", IP, "/")["error"] == 0
        )
    except (libvirt.libvirtError, LeewardError):
        return False
    finally:
        connection.close()


@pytest.fixture
def bench(lab, one_guest):
    scratch = Path(lab.places.root) / "scratch-pit"
    made = Bench(lab, one_guest(), scratch)
    yield made
    with contextlib.suppress(VmGone):
        made.host.forget(made.id)
    made.leave()
    shutil.rmtree(scratch, ignore_errors=True)


def test_deltas_equal_the_disks_and_one_checkpoint_is_kept(bench, tmp_path):
    first = bench.cycle()
    assert first.kind is Kind.INITIAL
    for _ in range(5):
        result = bench.cycle()
        assert result.kind is Kind.DELTA
        assert len(bench.checkpoints()) == 1
    bench.verify(tmp_path)


def test_an_idle_vm_costs_nothing_and_keeps_its_base(bench):
    bench.cycle()
    bench.domain.suspend()
    bench.cycle()
    before = bench.checkpoints()
    assert bench.cycle().point is None
    assert bench.checkpoints() == before


def test_killed_mid_cycle_goes_on_incrementally(bench, tmp_path):
    bench.cycle()
    base = bench.engine.open().state.tracking
    bench.host.open_cycle(bench.id, base=base, new="doomed")  # never ended: our process died here
    assert len(bench.checkpoints()) == 2
    bench.restart()
    assert bench.cycle().kind is Kind.DELTA
    assert len(bench.checkpoints()) == 1
    bench.verify(tmp_path)


def test_killed_mid_cycle_and_shut_down_before_the_next(bench, tmp_path):
    """The leftover of the dead run is newer than the base, by which the images are read now."""
    bench.cycle()
    base = bench.engine.open().state.tracking
    bench.host.open_cycle(bench.id, base=base, new="doomed")
    bench.restart()
    bench.lab.http("office", IP, "/burn?4", timeout_s=60)
    bench.host.force_off(bench.id)
    assert bench.cycle().kind is Kind.DELTA
    bench.verify(tmp_path)
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)
    assert bench.cycle().kind is Kind.DELTA
    assert len(bench.checkpoints()) == 1
    bench.verify(tmp_path)


def test_nothing_of_ours_stays_in_the_images(bench, tmp_path):
    """A bitmap that QEMU's death made unfit for use keeps a disk from being resized for as long as it is there."""
    bench.cycle()
    bench.host.force_off(bench.id)  # the bitmap gets into the images
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)
    os.kill(bench.qemu_pid(), signal.SIGKILL)
    bench.wait_off()
    assert bench.cycle().kind is Kind.RESYNC
    assert ours(bench.image("vdb")) != []
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)
    bench.cycle()
    base = bench.engine.open().state.tracking
    with bench.host.open_cycle(bench.id, base=base, new="cut-off"):
        bench.host.force_off(bench.id)
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)
    assert bench.cycle().kind is Kind.DELTA
    bench.host.force_off(bench.id)
    images = [bench.image(target) for target in ("vda", "vdb")]
    for image in images:
        assert ours(image) == bench.checkpoints()
    bench.host.forget(bench.id)
    assert [ours(image) for image in images] == [[], []]
    subprocess.run(["qemu-img", "resize", "-q", images[1], "+1M"], check=True)
    subprocess.run(["qemu-img", "resize", "-q", "--shrink", images[1], "-1M"], check=True)


def test_shut_down_and_started_again_stays_incremental(bench, tmp_path):
    bench.cycle()
    assert bench.host.shutdown(bench.id, 60)
    off = bench.cycle()
    assert off.kind is Kind.DELTA
    assert bench.host.vm(bench.id).power is Power.OFF
    bench.verify(tmp_path)
    assert bench.cycle().examined == 0
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)
    assert bench.cycle().kind is Kind.DELTA
    bench.verify(tmp_path)


def test_a_guest_that_libvirt_has_lost_is_not_believed_to_be_off(bench):
    """It writes on. No point is made of what was read meanwhile, and it is told whom to look for."""
    bench.cycle()
    bench.host.force_off(bench.id)
    base = bench.engine.open().state.tracking
    with bench.host.open_cycle(bench.id, base=base, new="x") as cycle:
        os.utime(bench.image("vdb"))
        with pytest.raises(HostBusy, match="although libvirt has it off") as raised:
            cycle.check()
    assert bench.image("vda") in raised.value.hint


def test_first_copy_of_a_vm_that_is_off(bench, tmp_path):
    bench.host.force_off(bench.id)
    assert bench.cycle().kind is Kind.INITIAL
    bench.verify(tmp_path)


def test_a_start_during_an_offline_cycle_succeeds_and_voids_the_cycle(bench):
    bench.cycle()
    bench.host.force_off(bench.id)
    base = bench.engine.open().state.tracking
    with bench.host.open_cycle(bench.id, base=base, new="x") as cycle:
        cycle.changes("vda")
        bench.domain.create()
        with pytest.raises(HostBusy, match="started"):
            cycle.check()
    bench.lab.wait_http("office", IP, timeout_s=90)


def test_qemu_killed_means_resynchronization_with_nothing_lost(bench, tmp_path):
    bench.cycle()
    time.sleep(0.5)
    os.kill(bench.qemu_pid(), signal.SIGKILL)
    bench.wait_off()
    bench.domain.create()
    bench.lab.wait_http("office", IP, timeout_s=90)
    result = bench.cycle()
    assert result.kind is Kind.RESYNC
    assert result.stored < 12 << 20  # differences only, not the whole disks
    assert bench.cycle().kind is Kind.DELTA
    assert len(bench.checkpoints()) == 1
    bench.verify(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_libvirtd_restarted_in_mid_cycle(bench, tmp_path, number):
    bench.cycle()
    base = bench.engine.open().state.tracking
    cycle = bench.host.open_cycle(bench.id, base=base, new="through-restart")
    pid = int((Path(bench.lab.places.site("office")) / "libvirtd.pid").read_text())
    os.kill(pid, number)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.02)
    with pytest.raises(LeewardError):
        cycle.check()
    cycle.abort()
    bench.lab.up(guests=())
    bench.connection = libvirt.open(bench.lab.libvirt("office"))
    assert bench.cycle().kind is Kind.DELTA
    assert len(bench.checkpoints()) == 1
    bench.verify(tmp_path)


def restart_libvirtd(bench):
    stop(libvirtd(bench), signal.SIGTERM)
    bench.lab.up(guests=())
    bench.connection = libvirt.open(bench.lab.libvirt("office"))


@pytest.mark.parametrize("kind", [Kind.INITIAL, Kind.DELTA])
def test_a_copy_goes_on_through_a_restart_of_libvirtd(bench, tmp_path, kind):
    """It may have been reading for hours: QEMU goes on with the backup, and libvirt knows it when it is back."""
    if kind is Kind.DELTA:
        bench.cycle()
    steps = []

    def restart(step):
        steps.append(step)
        if step == "copy-begun":
            restart_libvirtd(bench)

    bench.engine._on_step = restart
    bench.engine.cycle()
    bench.engine._on_step = lambda step: None
    assert bench.kinds[-1] is kind
    assert "tracking-advanced" in steps
    assert len(bench.checkpoints()) == 1
    wait_idle(bench.domain)
    bench.kinds.clear()
    bench.verify(tmp_path)
    assert bench.kinds == [Kind.DELTA]


def test_a_copy_of_a_vm_that_is_off_goes_on_through_a_restart_of_libvirtd(bench, tmp_path):
    bench.host.force_off(bench.id)
    bench.engine._on_step = lambda step: restart_libvirtd(bench) if step == "copy-begun" else None
    assert bench.engine.cycle().kind is Kind.INITIAL
    bench.engine._on_step = lambda step: None
    bench.verify(tmp_path)


def test_the_guard_of_the_scratch_space_goes_on_through_a_restart_of_libvirtd(bench):
    bench.cycle()
    base = bench.engine.open().state.tracking
    with bench.host.open_cycle(bench.id, base=base, new="watched") as cycle:
        restart_libvirtd(bench)
        cycle._cycle._guard._reserve = 1 << 60  # as if the disk were nearly full from now on
        ends = time.monotonic() + 10
        while not cycle._cycle._guard.tripped and time.monotonic() < ends:
            time.sleep(0.1)
        with pytest.raises(HypervisorError, match="scratch"):
            cycle.check()
        wait_idle(bench.domain)
    assert bench.cycle().kind is Kind.DELTA


@contextlib.contextmanager
def at_the_begin(bench, monkeypatch, act):
    """act() is done when all has been looked at and libvirt is asked to begin the backup."""

    def begin(seconds, subject, function, *arguments):
        if function.__name__ == "backupBegin":
            act()
        return call_within(seconds, subject, function, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("leeward.hypervisors.libvirt.host.call_within", begin)
        yield


def survive(bench, tmp_path):
    """After libvirtd's death in midst of a begin: what it says is to be done, if anything, is done and helps."""
    qemu = bench.qemu_pid()
    bench.lab.up(guests=())
    bench.connection = libvirt.open(bench.lab.libvirt("office"))
    try:
        bench.engine.cycle()
    except HypervisorError as error:
        if isinstance(error, HostBusy):
            assert error.hint.endswith(f"fuser -v {bench.image('vda')}")
        else:
            assert "lets nobody at it since" in error.message
            assert "restart libvirtd" in error.hint
        stop(qemu, signal.SIGTERM)  # by which it is closed properly
        stop(libvirtd(bench), signal.SIGTERM)
        bench.lab.up(guests=())
        bench.connection = libvirt.open(bench.lab.libvirt("office"))
        bench.wait_off()
        bench.host.start(bench.id)
        bench.lab.wait_http("office", IP, timeout_s=90)
    bench.verify(tmp_path)


def stop(pid, number):
    os.kill(pid, number)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.02)


def test_libvirtd_killed_while_a_backup_begins(bench, tmp_path, monkeypatch):
    """libvirt 9.0 may never find back to the VM as it runs."""
    bench.cycle()
    base = bench.engine.open().state.tracking
    files = bench.host._files
    server = files.path(files.vm_folder(bench.domain.ID()) / "leeward")
    server.unlink(missing_ok=True)
    pid = libvirtd(bench)

    def kill():
        while not server.exists():
            time.sleep(0.0005)
        stop(pid, signal.SIGKILL)

    with (
        ThreadPoolExecutor(1) as other,
        at_the_begin(bench, monkeypatch, lambda: other.submit(kill)),
        pytest.raises(LeewardError),
    ):
        bench.host.open_cycle(bench.id, base=base, new="cut-off")
    survive(bench, tmp_path)
    # libvirt may have no record of the checkpoint whose bitmap it had made: that goes while the VM is off.
    bench.host.force_off(bench.id)
    bench.host.forget(bench.id)
    assert [ours(bench.image(target)) for target in ("vda", "vdb")] == [[], []]
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)


def test_qemu_death_in_mid_cycle_is_noticed(bench, tmp_path):
    bench.cycle()
    base = bench.engine.open().state.tracking
    with bench.host.open_cycle(bench.id, base=base, new="dies") as cycle:
        os.kill(bench.qemu_pid(), signal.SIGKILL)
        bench.wait_off()
        with pytest.raises(HypervisorError):
            cycle.check()
    bench.domain.create()
    bench.lab.wait_http("office", IP, timeout_s=90)
    bench.cycle()
    bench.verify(tmp_path)


def test_a_disk_grown_live(bench, tmp_path):
    before = {disk.name: disk.size for disk in bench.cycle().point.disks}["vdb"]
    grown = before + (16 << 20)
    bench.domain.blockResize("vdb", grown, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    point = bench.cycle().point
    assert {disk.name: disk.size for disk in point.disks}["vdb"] == grown
    bench.verify(tmp_path)


@pytest.mark.parametrize("consistency", Consistency)
def test_a_disk_grown_while_an_instant_is_prepared(bench, tmp_path, monkeypatch, consistency):
    """libvirt dies of a backup whose scratch images have other sizes than the disks. What takes long in between: the
    guest is frozen, or others are waited for."""
    before = {disk.name: disk.size for disk in bench.cycle().point.disks}["vdb"]
    base = bench.engine.open().state.tracking
    daemon = libvirtd(bench)

    def grow():
        bench.domain.blockResize("vdb", before + (1 << 20), libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    @contextlib.contextmanager
    def moment():
        grow()
        yield

    monkeypatch.setattr(Freezer, "freeze", lambda self: grow() or "")
    given = moment() if consistency is Consistency.CRASH else None
    with pytest.raises(HostBusy, match="resized"):
        bench.host.open_cycle(bench.id, base=base, new="grown", consistency=consistency, moment=given)
    monkeypatch.undo()
    assert libvirtd(bench) == daemon
    bench.verify(tmp_path)
    assert {disk.name: disk.size for disk in bench.cycle().point.disks}["vdb"] == before + (1 << 20)


def test_a_disk_grown_just_before_the_begin(bench, tmp_path, monkeypatch):
    """Between the last look and the begin there are some milliseconds. QEMU refuses it then, whatever that does to
    libvirt: no point is made of a disk whose size is not the one that was looked at."""
    before = {disk.name: disk.size for disk in bench.cycle().point.disks}["vdb"]
    base = bench.engine.open().state.tracking

    def grow():
        bench.domain.blockResize("vdb", before + (1 << 20), libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    with at_the_begin(bench, monkeypatch, grow), pytest.raises(LeewardError):
        bench.host.open_cycle(bench.id, base=base, new="grown")
    survive(bench, tmp_path)
    with bench.vault.log(bench.id).open_point("latest") as point:
        assert point.disks["vdb"].size == before + (1 << 20)


def test_disks_with_io_threads(bench, tmp_path):
    """An older QEMU dies of a cycle then: such a VM is left alone. A newer one must bear it."""
    before = bench.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    threads = before.replace("</vcpu>", "</vcpu><iothreads>1</iothreads>")
    threads = threads.replace("type='qcow2'", "type='qcow2' iothread='1'")
    try:
        bench.boot_as(threads)
        assert bench.domain.XMLDesc(0).count(" iothread='1'") == 2
        if bench.connection.getVersion() >= 9_000_000:
            bench.cycle()
            bench.verify(tmp_path)
            return
        assert "I/O threads" in bench.host.vm(bench.id).unsupported
        with pytest.raises(HypervisorError, match="cannot be protected: I/O threads"):
            bench.cycle()
        bench.lab.wait_http("office", IP, timeout_s=5)
        assert bench.checkpoints() == []
    finally:
        bench.boot_as(before)


def test_a_disk_that_is_given_another_name(bench, tmp_path):
    """As when its bus is changed: the image goes on bearing our bitmap, and under this name the vault has nothing."""
    bench.cycle()
    before = bench.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    try:
        bench.connection.defineXML(before.replace("dev='vdb'", "dev='vdc'"))
        bench.host.force_off(bench.id)
        bench.kinds.clear()
        bench.verify(tmp_path)
        assert bench.kinds == [Kind.RESYNC]
        bench.connection.defineXML(before.replace("dev='vdb'", "dev='vdd'"))
        bench.host.start(bench.id)
        bench.lab.wait_http("office", IP, timeout_s=90)
        bench.kinds.clear()
        bench.verify(tmp_path)
        assert bench.kinds == [Kind.RESYNC]
        assert bench.cycle().kind is Kind.DELTA
    finally:
        bench.boot_as(before)


@pytest.mark.parametrize("seen_off", [False, True])
def test_disks_that_change_places(lab, guest_factory, tmp_path, seen_off):
    """Each bears our bitmap, which says what has changed about the other one's content in the vault."""
    guest = guest_factory("office", "pitswap", disks=(64, 32), ip="10.77.0.44")
    bench = Bench(lab, guest, Path(lab.places.root) / "scratch-swap")
    extra = Path(lab.places.images("office")) / "pitswap-extra.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(extra), "32M"], check=True)
    xml = f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{extra}'/>"
    both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    bench.domain.attachDeviceFlags(xml + "<target dev='vdc' bus='virtio'/></disk>", both)
    bench.cycle()
    bench.cycle()
    before = bench.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    swapped = before.replace("dev='vdb'", "dev='-'").replace("dev='vdc'", "dev='vdb'").replace("dev='-'", "dev='vdc'")
    bench.connection.defineXML(swapped)
    bench.host.force_off(bench.id)
    if not seen_off:
        bench.domain.create()
    bench.kinds.clear()
    bench.verify(tmp_path)
    assert bench.kinds == [Kind.RESYNC]
    if not seen_off:
        assert bench.cycle().kind is Kind.DELTA
    bench.pool.shutdown()
    extra.unlink()


def test_a_disk_added_and_removed(bench, tmp_path):
    bench.cycle()
    extra = tmp_path.parent / "extra.qcow2"
    extra = Path(bench.lab.places.images("office")) / "pit-extra.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(extra), "8M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 1M", str(extra)], check=True, stdout=subprocess.DEVNULL)
    xml = f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{extra}'/>"
    xml += "<target dev='vdc' bus='virtio'/></disk>"
    bench.domain.attachDevice(xml)
    point = bench.cycle().point
    assert [disk.name for disk in point.disks] == ["vda", "vdb", "vdc"]
    bench.verify(tmp_path)
    bench.domain.detachDevice(xml)
    ends = time.monotonic() + 20
    while "vdc" in bench.domain.XMLDesc(0) and time.monotonic() < ends:
        time.sleep(0.1)
    if "vdc" in bench.domain.XMLDesc(0):
        pytest.fail("the guest did not release the disk")
    point = bench.cycle().point
    assert [disk.name for disk in point.disks] == ["vda", "vdb"]
    bench.verify(tmp_path)
    extra.unlink()


def test_a_foreign_backup_has_the_right_of_way(bench, tmp_path):
    bench.cycle()
    foreign = anyones_folder(bench.lab) / "foreign"
    xml = f"<domainbackup mode='pull'><server transport='unix' socket='{foreign}.sock'/><disks>"
    for disk in ("vda", "vdb"):
        xml += f"<disk name='{disk}' backup='yes' type='file'><scratch file='{foreign}.{disk}'/></disk>"
    bench.domain.backupBegin(xml + "</disks></domainbackup>", None, 0)
    with pytest.raises(HostBusy):
        bench.engine.cycle()
    assert bench.domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE  # untouched
    bench.restart()
    with pytest.raises(HostBusy):
        bench.engine.cycle()
    assert bench.domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE
    bench.domain.abortJob()
    assert bench.cycle().kind is Kind.DELTA
    bench.verify(tmp_path)


@pytest.mark.parametrize("target", ["vda", "vdb"])
def test_a_foreign_copy_of_a_disk_has_the_right_of_way(bench, tmp_path, target):
    """Of the second disk too: a backup that QEMU refuses when it has begun one disk's can be libvirtd's death."""
    bench.cycle()
    copy = anyones_folder(bench.lab) / f"{target}.copy"
    xml = f"<disk type='file'><driver type='qcow2'/><source file='{copy}'/></disk>"
    slowly = {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: 1 << 20}
    wait_idle(bench.domain)  # libvirt may still be ending our own job
    bench.domain.blockCopy(target, xml, slowly, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    try:
        for _ in range(2):
            with pytest.raises(HostBusy):
                bench.engine.cycle()
            bench.restart()
        assert bench.domain.blockJobInfo(target, 0)  # untouched
    finally:
        bench.domain.blockJobAbort(target, 0)
        copy.unlink(missing_ok=True)
    assert bench.cycle().kind is Kind.DELTA
    bench.verify(tmp_path)


def test_a_foreign_nbd_server_is_left_alone_and_told_of(bench, tmp_path):
    bench.cycle()
    path = anyones_folder(bench.lab) / "foreign.sock"
    address = {"type": "unix", "data": {"path": str(path)}}
    order = json.dumps({"execute": "nbd-server-start", "arguments": {"addr": address}})
    libvirt_qemu.qemuMonitorCommand(bench.domain, order, 0)
    with pytest.raises(HostBusy, match="NBD server") as raised:
        bench.engine.cycle()
    command = raised.value.hint.rpartition(" --hmp ")[2]
    libvirt_qemu.qemuMonitorCommand(bench.domain, command, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
    assert bench.cycle().kind is Kind.DELTA
    bench.verify(tmp_path)


def test_a_foreign_checkpoint_is_left_alone(bench, tmp_path):
    bench.cycle()
    disks = "<disks><disk name='vda' checkpoint='bitmap'/></disks>"
    xml = f"<domaincheckpoint><name>theirs</name>{disks}</domaincheckpoint>"
    bench.domain.checkpointCreateXML(xml, 0)
    for _ in range(3):
        bench.cycle()
    assert "theirs" in bench.checkpoints()
    bench.verify(tmp_path)
    bench.host.forget(bench.id)
    assert bench.checkpoints() == ["theirs"]


def test_application_consistency_and_a_guest_without_agent(bench):
    bench.cycle()
    result = bench.cycle(Consistency.APP)
    assert result.point.consistency is Consistency.APP
    before = bench.lab.http("office", IP, "/")["seq"]
    time.sleep(0.5)
    assert bench.lab.http("office", IP, "/")["seq"] > before  # thawed


def test_died_frozen_is_thawed_by_the_next(bench):
    bench.cycle()
    freezer = bench.host._freezer(bench.id, bench.domain)
    assert freezer.freeze() == ""
    before = bench.lab.http("office", IP, "/")["seq"]
    time.sleep(1)
    assert bench.lab.http("office", IP, "/")["seq"] <= before + 1
    bench.restart()
    bench.cycle()
    time.sleep(0.5)
    assert bench.lab.http("office", IP, "/")["seq"] > before + 1


def test_renamed_and_undefined(bench):
    bench.cycle()
    bench.host.force_off(bench.id)
    bench.cycle()
    bench.host.forget(bench.id)  # libvirt renames no domain that has checkpoints
    bench.domain.rename("pit-renamed")
    assert bench.host.vm(bench.id).name == "pit-renamed"
    assert bench.cycle().point is not None
    bench.host.forget(bench.id)
    bench.domain.rename("pit")
    with pytest.raises(VmGone):
        bench.host.vm("00000000-0000-4000-8000-000000000000")


@pytest.fixture
def tiny_folder(lab):
    """A folder on a file system of 3 MiB that this process and the lab's office both see."""
    folder = Path(lab.places.root) / "tiny"
    image = folder.with_suffix(".img")
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(3 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image)], check=True)
    loop = subprocess.run(["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True)
    device = loop.stdout.strip()
    pid = (Path(lab.places.site("office")) / "libvirtd.pid").read_text().strip()
    # The office has a mount namespace of its own: one device, mounted in both, is one file system.
    ways = ([], ["nsenter", "-t", pid, "-m"])
    for way in ways:
        subprocess.run([*way, "mount", device, str(folder)], check=True)
    yield folder
    for way in ways:
        subprocess.run([*way, "umount", "-l", str(folder)], check=True)
    subprocess.run(["losetup", "-d", device], check=True)
    image.unlink()
    folder.rmdir()


def test_full_scratch_space_voids_the_cycle_and_spares_the_guest(bench, tmp_path, tiny_folder):
    bench.cycle()
    base = bench.engine.open().state.tracking
    cramped = LibvirtHost("office", bench.lab.libvirt("office"), tiny_folder)
    for _ in range(2):
        bench.lab.http("office", IP, "/burn?8", timeout_s=60)
    with cramped.open_cycle(bench.id, base=base, new="full") as cycle:
        cycle.check()
        ends = time.monotonic() + 30
        with pytest.raises(HypervisorError, match="scratch"):
            while time.monotonic() < ends:  # the guest overwrites what the cycle wants to keep
                bench.lab.http("office", IP, "/burn?8", timeout_s=60)
                cycle.check()
    assert bench.lab.http("office", IP, "/")["error"] == 0
    bench.restart()
    assert bench.cycle().kind is Kind.DELTA
    bench.verify(tmp_path)


def test_a_vm_that_its_full_storage_has_paused(bench, tmp_path, tiny_folder):
    """It is told; once there is room and it is resumed, all goes on by the tracking."""
    filler, image = tiny_folder / "filler", tiny_folder / "more.qcow2"
    filler.write_bytes(bytes(5 << 18))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M"], check=True)
    xml = f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>"
    xml += "<target dev='vdc' bus='virtio'/></disk>"
    bench.domain.attachDevice(xml)
    try:
        assert bench.cycle().warnings == ()
        # Under whatever name the guest has it, and once it has: else a file of that name would be written.
        find = "until size=$(grep -lx 16384 /sys/block/vd*/size); do sleep 0.1; done; disk=${size%/size}"
        wait = "until [ -b /dev/${disk##*/} ]; do sleep 0.1; done"
        in_guest(bench, f"{find}; {wait}; dd if=/dev/urandom of=/dev/${{disk##*/}} bs=64k count=28 oflag=direct")
        halted = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]
        until(lambda: bench.domain.state() == halted)
        for _ in range(2):
            result = bench.cycle()
            assert result.kind is Kind.DELTA
            assert any("stands still since its storage failed" in warning for warning in result.warnings)
        assert bench.domain.state() == halted
        filler.unlink()
        bench.domain.resume()
        until(lambda: image.stat().st_blocks * 512 > 7 << 18)
        assert bench.cycle().warnings == ()
        bench.kinds.clear()
        bench.verify(tmp_path)
        assert bench.kinds == [Kind.DELTA]
    finally:
        if bench.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            filler.unlink(missing_ok=True)
            bench.domain.resume()
        bench.domain.detachDevice(xml)
        until(lambda: "vdc" not in bench.domain.XMLDesc(0))


def until(condition):
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_a_raw_disk_is_read_in_full_and_compared_each_time(lab, guest_factory, tmp_path):
    guest = guest_factory("office", "pitraw", disks=(64,), format="raw", ip="10.77.0.42")
    bench = Bench(lab, guest, Path(lab.places.root) / "scratch-raw")
    first = bench.cycle()
    assert any("raw" in warning for warning in first.warnings)
    second = bench.cycle()
    assert second.stored < 2 << 20
    assert bench.checkpoints() == []
    bench.verify(tmp_path)
    # Only QEMU tells how large a raw disk is. One that hangs is listed as it was last seen.
    before = [vm for vm in bench.host.vms() if vm.id == bench.id]
    hangs = bench.qemu_pid()
    os.kill(hangs, signal.SIGSTOP)
    try:
        for limit in (10, 2):
            began = time.monotonic()
            assert [vm for vm in bench.host.vms() if vm.id == bench.id] == before
            assert time.monotonic() - began < limit
    finally:
        os.kill(hangs, signal.SIGCONT)
    bench.verify(tmp_path)
    bench.pool.shutdown()


def test_an_old_qcow2_is_read_in_full_and_compared_each_time(lab, guest_factory, tmp_path):
    """It has no place for a bitmap."""
    guest = guest_factory("office", "pitold", start=False, ip="10.77.0.42")
    command = ["qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", guest.disks["vdb"]]
    subprocess.run(command, check=True)
    lab.start_guest("office", "pitold")
    lab.wait_http("office", "10.77.0.42", timeout_s=90)
    bench = Bench(lab, guest, Path(lab.places.root) / "scratch-old")
    assert any("vdb is an old qcow2" in warning for warning in bench.cycle().warnings)
    assert bench.cycle().stored < 2 << 20
    assert bench.checkpoints() == []
    bench.verify(tmp_path)
    bench.pool.shutdown()


def test_a_write_to_a_device_is_seen_whatever_name_it_was_opened_by(tmp_path):
    """libvirt gives each QEMU a /dev of its own, so that the device's file in ours is never touched."""
    image, other = tmp_path / "device.raw", tmp_path / "node"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    told = subprocess.run(["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True)
    device = told.stdout.strip()
    try:
        os.mknod(other, stat.S_IFBLK | 0o600, Path(device).stat().st_rdev)
        before = image_mark([device])
        Path(device).read_bytes()
        assert image_mark([device]) == before
        with other.open("r+b") as file:
            file.write(b"x" * 512)
            os.fsync(file.fileno())
        assert image_mark([device]) != before
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_a_guest_that_is_asked_to_shut_down_meets_no_backup(bench):
    """While its agent closes its channel: libvirt would not see the guest's end for half a minute."""
    bench.cycle()
    base = bench.engine.open().state.tracking
    bench.host._settling.leaves(bench.id, bench.domain.ID())  # as if asked, of a guest that stays
    with pytest.raises(HostBusy, match="shutting down"):
        bench.host.open_cycle(bench.id, base=base, new="next")
    bench.restart()
    with ThreadPoolExecutor(1) as other:
        with bench.host.open_cycle(bench.id, base=base, new="last"):
            down = other.submit(bench.host.shutdown, bench.id, 60)
            time.sleep(1.5)
            assert bench.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
            assert not down.done()
        assert down.result() is True
    assert not bench.domain.isActive()


def stop_agent(bench, after_s, for_s):
    """The guest's agent hangs (SIGSTOP) from `after_s` seconds on, for `for_s` seconds."""
    in_guest(bench, f"p=$PPID; sleep {after_s}; kill -STOP $p; sleep {for_s}; kill -CONT $p")
    time.sleep(after_s + 0.5)


def in_guest(bench, script):
    """Begun by its agent; not waited for."""
    arguments = {"path": "/bin/sh", "arg": ["-c", script]}
    order = json.dumps({"execute": "guest-exec", "arguments": arguments})
    ends = time.monotonic() + 30
    while True:
        try:
            libvirt_qemu.qemuAgentCommand(bench.domain, order, 5, 0)
            break
        except libvirt.libvirtError:
            assert time.monotonic() < ends
            time.sleep(0.5)


def test_a_hanging_agent_costs_consistency_not_points(bench, tmp_path):
    bench.cycle()
    stop_agent(bench, after_s=0.2, for_s=20)
    began = time.monotonic()
    result = bench.cycle(Consistency.APP)
    assert time.monotonic() - began < 25
    assert result.point.consistency is Consistency.CRASH
    assert any("not frozen" in warning for warning in result.warnings)
    before = bench.lab.http("office", IP, "/")["seq"]
    assert bench.cycle().kind is Kind.DELTA
    assert bench.lab.http("office", IP, "/")["seq"] > before
    ends = time.monotonic() + 60
    while bench.cycle(Consistency.APP).point.consistency is not Consistency.APP:
        assert time.monotonic() < ends
        time.sleep(1)
    time.sleep(0.5)
    before = bench.lab.http("office", IP, "/")["seq"]
    time.sleep(0.5)
    assert bench.lab.http("office", IP, "/")["seq"] > before  # nothing is left frozen
    bench.verify(tmp_path)


def test_an_agent_that_hangs_while_frozen_is_thawed_when_it_comes_back(bench):
    bench.cycle()
    freezer = bench.host._freezer(bench.id, bench.domain)
    script_started = time.monotonic()
    stop_agent(bench, after_s=0, for_s=12)
    freezer._marker.touch()  # as after a freeze whose thaw was never heard
    freezer.thaw()
    assert freezer._marker.exists()
    while time.monotonic() - script_started < 14:
        time.sleep(0.2)
    bench.restart()
    bench.cycle()
    assert not freezer._marker.exists()
    before = bench.lab.http("office", IP, "/")["seq"]
    time.sleep(0.5)
    assert bench.lab.http("office", IP, "/")["seq"] > before


def test_a_qemu_that_hangs_holds_up_its_own_vm_only(bench, lab, guest_factory):
    """Its backup is being begun when it stops answering."""
    bench.cycle()
    guest = guest_factory("office", "pitother", disks=(64,), ip="10.77.0.43")
    log = bench.vault.log(guest.uuid)
    other = Replicator(bench.host, log, guest.uuid, bench.pool, writer_name="test")
    other.cycle()
    hangs = bench.qemu_pid()
    with ThreadPoolExecutor(1) as own:
        os.kill(hangs, signal.SIGSTOP)
        try:
            stuck = own.submit(bench.engine.cycle)
            time.sleep(1)
            began = time.monotonic()
            for _ in range(20):
                other.cycle()
            assert time.monotonic() - began < 20
            assert not stuck.done()
        finally:
            os.kill(hangs, signal.SIGCONT)
        stuck.result(60)


def test_a_guest_reset_in_mid_cycle(bench, tmp_path):
    """The point is the instant before the reset, whatever the guest does to its disks meanwhile."""
    bench.cycle()
    bench.domain.suspend()
    expected = {}
    for target in ("vda", "vdb"):
        raw = tmp_path / f"{target}.before"
        subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", bench.image(target), str(raw)], check=True)
        expected[target] = raw.read_bytes()

    def reset(step):
        if step == "cycle-opened":
            bench.domain.resume()
            bench.domain.reset()
            time.sleep(3)

    bench.restart()
    bench.engine._on_step = reset
    point = bench.cycle().point
    bench.engine._on_step = lambda step: None
    with bench.vault.log(bench.id).open_point(point.id) as image:
        for name, data in expected.items():
            assert image.disks[name].read(0, len(data)) == data, name
    bench.lab.wait_http("office", IP, timeout_s=90)
    assert bench.cycle().kind is Kind.DELTA
    bench.verify(tmp_path)


def snapshot(bench, kind, flags=0):
    """libvirt's own, of both disks. kind: internal, or external: new overlays over them, as backup tools make."""
    disks = "".join(f"<disk name='{target}' snapshot='{kind}'/>" for target in ("vda", "vdb"))
    return bench.domain.snapshotCreateXML(
        f"<domainsnapshot><name>theirs</name><disks>{disks}</disks></domainsnapshot>", flags
    )


def merge(bench, target):
    """The overlay's data into its backing file, from which the VM goes on."""
    bench.domain.blockCommit(target, None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    ends = time.monotonic() + 30
    while True:
        try:
            bench.domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        except libvirt.libvirtError:
            assert time.monotonic() < ends
            time.sleep(0.1)
        else:
            return


def test_a_foreign_snapshot_and_its_merging_lose_nothing(bench, tmp_path):
    """As other backup tools do it: overlays over the disks, later merged again. Bitmaps move with it or are lost."""
    bench.cycle()
    before = bench.image("vda")
    made = snapshot(bench, "external", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    overlays = [bench.image(target) for target in ("vda", "vdb")]
    assert before not in overlays
    try:
        bench.lab.http("office", IP, "/burn?4", timeout_s=60)
        bench.verify(tmp_path)
        bench.lab.http("office", IP, "/burn?4", timeout_s=60)
        bench.verify(tmp_path)
    finally:
        for target in ("vda", "vdb"):
            merge(bench, target)
        made.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        for overlay in overlays:
            Path(overlay).unlink()
    assert bench.image("vda") == before
    bench.lab.http("office", IP, "/burn?4", timeout_s=60)
    bench.verify(tmp_path)
    assert bench.cycle().kind is Kind.DELTA


def test_what_was_written_before_a_foreign_snapshot_is_not_missed_when_it_goes_off(bench, tmp_path):
    """Its images, not libvirt, tell then what has changed: the bitmap in the overlay knows nothing of the time before
    it was made."""
    bench.cycle()
    bench.lab.http("office", IP, "/burn?4", timeout_s=60)
    made = snapshot(bench, "external", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    overlays = [bench.image(target) for target in ("vda", "vdb")]
    try:
        bench.host.force_off(bench.id)
        bench.kinds.clear()
        bench.verify(tmp_path)
        assert bench.kinds == [Kind.RESYNC]
    finally:
        bench.host.start(bench.id)
        bench.lab.wait_http("office", IP, timeout_s=90)
        for target in ("vda", "vdb"):
            merge(bench, target)
        made.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        for overlay in overlays:
            Path(overlay).unlink()
    bench.verify(tmp_path)


def test_a_disk_cannot_go_back_in_time_behind_the_tracking(bench, tmp_path):
    """What an internal snapshot brings back is in no bitmap; QEMU refuses it while there is one."""
    bench.cycle()
    made = snapshot(bench, "internal")
    try:
        bench.cycle()
        with pytest.raises(libvirt.libvirtError, match="dirty bitmaps"):
            bench.domain.revertToSnapshot(made, 0)
        bench.wait_off()
        bench.cycle()
        bench.host.start(bench.id)
        bench.lab.wait_http("office", IP, timeout_s=90)
        bench.verify(tmp_path)
    finally:
        made.delete(0)
    bench.verify(tmp_path)


def test_a_vm_whose_memory_was_saved_does_not_count_as_shut_down(bench, tmp_path):
    """As `virsh managedsave`, or a host that goes down, leaves it: what it had not written is there alone."""
    bench.cycle()
    bench.domain.managedSave(0)
    with pytest.raises(HypervisorError, match="memory was saved"):
        bench.host.shutdown(bench.id, 30)
    assert bench.domain.hasManagedSaveImage(0)
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)
    assert bench.host.shutdown(bench.id, 60)
    bench.verify(tmp_path)


def test_disks_resized_while_it_is_off(bench, tmp_path):
    bench.cycle()
    bench.host.force_off(bench.id)
    image = bench.image("vdb")
    subprocess.run(["qemu-img", "resize", "-q", image, "+16M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 40M 1M", image], check=True, stdout=subprocess.DEVNULL)
    bench.kinds.clear()
    bench.verify(tmp_path)
    assert bench.kinds == [Kind.DELTA]
    subprocess.run(["qemu-img", "resize", "-q", "--shrink", image, "-16M"], check=True)
    bench.verify(tmp_path)
    subprocess.run(["qemu-img", "resize", "-q", image, "+16M"], check=True)
    bench.verify(tmp_path)


def test_images_put_back_while_it_is_off(bench, tmp_path):
    """Copied while the VM is off, put back after a short run: the bitmap in them knows nothing of that run."""
    bench.cycle()
    bench.host.force_off(bench.id)
    bench.cycle()
    copies = {bench.image(target): tmp_path / f"{target}.copy" for target in ("vda", "vdb")}
    for image, copy in copies.items():
        shutil.copyfile(image, copy)
    bench.host.start(bench.id)
    bench.lab.wait_http("office", IP, timeout_s=90)
    bench.lab.http("office", IP, "/burn?4", timeout_s=60)
    bench.host.force_off(bench.id)
    bench.cycle()
    for image, copy in copies.items():
        shutil.copyfile(copy, image)
    bench.kinds.clear()
    bench.verify(tmp_path)
    assert bench.kinds == [Kind.RESYNC]
