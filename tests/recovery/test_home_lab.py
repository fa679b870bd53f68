"""A real guest comes home: only what differs is fetched, the old disks stay whole, and every kill is survived."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import libvirt
import pytest
from tests.recovery.sites import MIB, Killed, Sites

from leeward.domain.errors import NotFound, Refused, StoreFull
from leeward.hypervisors.libvirt.checkpoints import ours
from leeward.lab.guest.sequence import inspect
from leeward.recovery import home as module
from leeward.recovery import home_records
from leeward.recovery.home import HomeDisks
from leeward.recovery.image import export_image
from leeward.recovery.libvirt.home_host import HomeHost
from leeward.recovery.libvirt.starting import STEPS
from leeward.replication.replicator import Kind

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
IP = "10.77.0.72"
PROGRAM = Path(__file__).with_name("killable_home.py")


class House(Sites):
    """The guest runs at the recovery site; at the office lie its disks as they were when it left."""

    def __init__(self, lab, guest):
        super().__init__(lab, guest)
        shutil.rmtree(self.root / "h", ignore_errors=True)
        self.home = self.make_home()
        self.old = {name: Path(path) for name, path in guest.disks.items()}

    def make_home(self, **how):
        return HomeDisks(
            "office", self.lab.libvirt("office"), self.root / "h", self.root / "storage", self.vault, **how
        )

    def prepare(self, point="latest", **how):
        return self.home.prepare(self.vm_id, self.guest.name, point, **how)

    def new(self):
        return {name: Path(path) for name, path in self.home.record(self.vm_id).new.items()}

    def disks_at_home(self):
        """What the VM's definition at the office names now."""
        with self.domain("office") as domain:
            text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return {name for name in self.folder_at_home() if f"'{name}'" in text}

    def folder_at_home(self):
        return {str(path) for path in Path(self.lab.places.images("office")).glob(f"{self.guest.name}*.qcow2*")}

    def digests(self):
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.old.items()}

    def records(self, tmp_path):
        """The guest's records on its second disk at the newest point, as its disks tell."""
        with self.vault.log(self.vm_id).open_point("latest") as image:
            target = tmp_path / "vdb.raw"
            export_image(image, "vdb", target, force=True)
        state = inspect(target, "vdb")
        assert state.clean
        assert state.records.intact
        return state.records


@pytest.fixture(scope="module")
def away(lab):
    made = House(lab, lab.define_guest("office", "homer", disks=(64, 32), ip=IP))
    lab.wait_http("office", IP, timeout_s=90)
    made.replicate_and_stop()
    made.engine = made.successor()
    made.fail_over()
    made.copies.plug(made.vm_id, "failover")
    assert made.copies.watch(made.vm_id, "failover").evidence["agent"] == "answers"
    made.engine.cycle()
    yield made
    made.close()
    for path in made.folder_at_home():
        Path(path).unlink()
    lab.destroy_guest("office", "homer")


@pytest.fixture
def house(away):
    """Tests before the VM is really home leave it as it was."""
    yield away
    away.home = away.make_home()
    away.home.revert(away.vm_id)
    assert away.disks_at_home() == {str(path) for path in away.old.values()}


def test_preparing_fetches_what_differs_and_leaves_the_old_disks_alone(house):
    before = house.digests()
    told = []
    done = house.prepare(tell=told.append)
    assert 0 < done["fetched"] < 4 * MIB < done["written"]
    assert "100 %" in told[-2]
    assert house.digests() == before
    house.assert_images_are_the_newest_point(house.new())
    assert house.vault.pins(house.vm_id)[0].owner.startswith("failover")  # ours was for the time of reading
    with house.visit() as neighbour:
        neighbour.json(IP, "/burn?1")  # it runs on meanwhile
    house.engine.cycle()
    later = house.home.catch_up(house.vm_id, "latest")
    assert later["fetched"] < 4 * MIB
    house.assert_images_are_the_newest_point(house.new())
    assert house.prepare()["written"] == 0
    assert house.disks_at_home() == {str(path) for path in house.old.values()}
    house.home.revert(house.vm_id)
    house.home.revert(house.vm_id)
    assert house.folder_at_home() == {str(path) for path in house.old.values()}
    assert house.digests() == before


class Instants:
    """Death at the nth of all instants: before and after each record, definition, journal and deletion."""

    def __init__(self, monkeypatch, nth):
        self.left = nth

        def deadly(function):
            def run(*arguments, **named):
                self.tick()
                result = function(*arguments, **named)
                self.tick()
                return result

            return run

        monkeypatch.setattr(home_records, "save_json", deadly(home_records.save_json))
        monkeypatch.setattr("leeward.recovery.localdisks.save_json", deadly(home_records.save_json))
        monkeypatch.setattr(HomeHost, "_define", deadly(HomeHost._define))
        monkeypatch.setattr(Path, "unlink", deadly(Path.unlink))
        monkeypatch.setattr(shutil, "rmtree", deadly(shutil.rmtree))

    def tick(self):
        self.left -= 1
        if self.left == 0:
            raise Killed


def die_everywhere(house, monkeypatch, action, check):
    """Kill the action at its first instant, then at its second, … until it gets through. Returns the deaths."""
    deaths = 0
    while True:
        with monkeypatch.context() as patch:
            instants = Instants(patch, deaths + 1)
            house.home = house.make_home()
            try:
                action()
            except Killed:
                deaths += 1
            else:
                assert instants.left > 0
                return deaths
        check()


def test_death_at_any_instant_leaves_a_whole_set_of_disks(house, monkeypatch):
    old, before = {str(path) for path in house.old.values()}, house.digests()

    def whole():
        assert house.digests() == before
        used = house.disks_at_home()
        if used != old:
            record = house.home.record(house.vm_id)
            assert used == set(record.new.values())
            assert record.made
            house.assert_images_are_the_newest_point(record.new)

    assert die_everywhere(house, monkeypatch, house.prepare, whole) > 10
    assert die_everywhere(house, monkeypatch, lambda: house.home.switch(house.vm_id), whole) > 3
    assert house.disks_at_home() == set(house.home.record(house.vm_id).new.values())
    house.home.switch(house.vm_id)
    # What is looked for while it is taken back is less: the new images may be gone, the old ones never.

    def old_or_new():
        assert house.digests() == before
        for path in house.disks_at_home():
            assert Path(path).exists()

    assert die_everywhere(house, monkeypatch, lambda: house.home.revert(house.vm_id), old_or_new) > 5
    assert house.folder_at_home() == old


def test_sigkill_in_mid_write_and_at_the_switch(house):
    before = house.digests()
    for instant in ("progress", "progress", "define", "record"):
        command = [sys.executable, str(PROGRAM), house.lab.libvirt("office"), house.vm_id, str(house.root / "h")]
        command += [str(house.root / "storage"), str(house.vault_dir), str(house.key), instant]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, (instant, done.stderr)
        assert house.digests() == before
    house.home.switch(house.vm_id)
    house.assert_images_are_the_newest_point(house.new())


def test_what_cannot_be_is_refused(house, monkeypatch):
    with pytest.raises(NotFound, match="prepared"):
        house.home.switch(house.vm_id)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 20 * MIB}))
        with pytest.raises(StoreFull, match="new disks need"):
            house.prepare()

    def cancelled():
        raise Refused("the operator has taken it back")

    with pytest.raises(Refused, match="taken it back"):
        house.prepare(check=cancelled)
    with pytest.raises(Refused, match="do not hold one"):
        house.home.switch(house.vm_id)
    house.prepare()
    with pytest.raises(Refused, match="not been given"):
        house.home.start(house.vm_id)
    with house.domain("office") as domain:
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        try:
            for action in (
                house.prepare,
                lambda: house.home.switch(house.vm_id),
                lambda: house.home.revert(house.vm_id),
            ):
                with pytest.raises(Refused, match="runs here"):
                    action()
        finally:
            domain.destroy()


def test_the_way_home(away, tmp_path, monkeypatch):
    """The whole of it, and at the end the old disks are gone and nothing else."""
    house = away
    house.prepare()
    with house.visit() as neighbour:
        written = neighbour.wait(IP)["seq"]
    house.engine.cycle()
    house.recovery.force_off(house.vm_id)
    house.engine.cycle()
    later = house.home.catch_up(house.vm_id, "latest")
    assert later["fetched"] < 4 * MIB
    house.kinds.clear()
    successor = house.replicator(house.office)
    successor.open()
    house.home.switch(house.vm_id)
    house.assert_images_are_the_newest_point(house.new())

    for instant in STEPS:

        def die(name, instant=instant):
            if name == instant:
                raise Killed

        house.home = house.make_home(on_step=die)
        with pytest.raises(Killed):
            house.home.start(house.vm_id)
    house.home = house.make_home()
    assert house.home.record(house.vm_id).released
    house.home.start(house.vm_id)
    with pytest.raises(Refused, match="has been started"):
        house.home.revert(house.vm_id)
    with house.domain("office") as domain:
        assert len(ours(domain)) >= 1
        status = house.lab.wait_http("office", IP, timeout_s=90)
        assert all(disk["boot_intact"] for disk in status["disks"])
        assert status["disks"][0]["boot_seq"] >= written
        successor.cycle()
        domain.suspend()
        successor.cycle()
        # Incremental from the first write on, although the VM has checkpoints of its old disks.
        assert set(house.kinds) == {Kind.DELTA}
        assert len(ours(domain)) == 1
        house.assert_point_is_what_the_paused_guest_has("office")
        assert house.records(tmp_path).last >= written
        domain.resume()

    # A linked clone of the old system disk: it would die with it.
    clone, base = Path(house.lab.places.images("office")) / "homer-clone.qcow2", house.old["vda"]
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(clone)]
    subprocess.run(command, check=True)
    connection = libvirt.open(house.lab.libvirt("office"))
    disk = f"<driver type='qcow2'/><source file='{clone}'/><target dev='vda'/>"
    other = connection.defineXML(
        "<domain type='qemu'><name>clone</name><memory>1024</memory><os><type>hvm</type></os>"
        f"<devices><disk type='file'>{disk}</disk></devices></domain>"
    )
    house.home.settle(house.vm_id)
    assert house.old["vda"].exists()
    assert not house.old["vdb"].exists()
    other.undefine()
    connection.close()
    clone.unlink()
    house.home.settle(house.vm_id)
    assert house.home.record(house.vm_id) is None
    assert len(house.disks_at_home()) == 2
    assert house.lab.wait_http("office", IP)["error"] == 0
    assert not any((house.root / "h").rglob("*.json"))


def test_a_host_that_lost_everything_gets_all_of_it_from_the_vault(away):
    """The VM is defined anew, as it was before it left."""
    house = away
    house.discard()
    engine = house.replicator(house.office)
    engine.cycle()
    house.office.force_off(house.vm_id)
    engine.cycle()
    house.successor()
    house.fail_over()
    engine = house.replicator(house.recovery)
    engine.cycle()
    house.recovery.force_off(house.vm_id)
    engine.cycle()
    with house.domain("office") as domain:
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
    for path in house.folder_at_home():
        Path(path).unlink()
    shutil.rmtree(house.root / "h", ignore_errors=True)
    done = house.prepare()
    assert done["fetched"] > 8 * MIB
    house.replicator(house.office).open()
    with pytest.raises(Refused, match="no definition"):
        house.home.switch(house.vm_id)
    with house.vault.log(house.vm_id).open_point("latest") as image:
        definition = image.definition
    assert "leeward" in definition
    house.home.switch(house.vm_id, definition)
    assert house.home.start(house.vm_id)["tracked"]
    assert house.lab.wait_http("office", IP, timeout_s=90)["error"] == 0
    with house.domain("office") as domain:
        text = domain.XMLDesc(0)
        assert house.guest.mac in text
        assert "<source bridge='br0'/>" in text
        assert "leeward" not in text
        domain.destroy()
    for path in house.new().values():
        os.unlink(path)
