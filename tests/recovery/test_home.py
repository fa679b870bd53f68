"""New disks at home outlive a failback that was given up: what another one makes of them. libvirt is its own test
driver here, which defines, starts and stops but runs no guest; the vault and the images are real."""

import random
import subprocess
from pathlib import Path

import libvirt
import pytest
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.agent.config import HostConfig
from leeward.agent.restoring import HostHomes
from leeward.domain.errors import HypervisorError, Refused, StoreUnavailable
from leeward.recovery import images
from leeward.recovery.home import HomeDisks
from leeward.recovery.leftovers import Leftover, judge
from leeward.recovery.libvirt.home_host import HomeHost
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

URI = "test:///default"
BLOCK = 65536


class House:
    """points: the older and the newest, by id, with what the disk held."""

    def __init__(self, folder):
        self.folder, self.vault = folder, Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
        pen = Pen(self.vault, VM)
        pen.resize("vda", 8)
        for seed in (1, 2):
            pen.put("vda", seed, random.Random(seed).randbytes(BLOCK)).commit()
        self.points = dict(pen.remembered)
        self.old, self.new = self.points
        self.first = folder / "vda.qcow2"
        images.create(self.first, 8 * BLOCK)
        self.connection = libvirt.open(URI)  # what the driver has been told is forgotten with its last connection
        self.home = HomeDisks("office", URI, folder / "h", folder / "storage", self.vault)
        HomeHost("office", URI, folder)._define(self.definition(), "web")

    def definition(self):
        disk = f"<driver name='qemu' type='qcow2'/><source file='{self.first}'/><target dev='vda' bus='virtio'/>"
        return (
            f"<domain type='test'><name>web</name><uuid>{VM}</uuid><memory>1024</memory><os><type>hvm</type></os>"
            f"<devices><disk type='file'>{disk}</disk></devices></domain>"
        )

    def domain(self):
        return self.connection.lookupByUUIDString(VM)

    def image(self):
        """Of the disk that the VM is defined with."""
        text = self.domain().XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return Path(text.partition("<source file='")[2].partition("'")[0])

    def holds(self):
        raw = self.folder / "raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(self.image()), str(raw)], check=True)
        return raw.read_bytes()

    def given(self, point):
        self.home.prepare(VM, "web", point)
        self.home.switch(VM, point=point)

    def write(self):
        """What its guest does."""
        with self.image().open("r+b") as file:
            file.seek(0, 2)
            file.write(b"x")


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    domain = made.domain()
    if domain.isActive():
        domain.destroy()
    domain.undefine()
    made.connection.close()


def no_memory(monkeypatch):
    def refuse(*_):
        raise HypervisorError("no memory is left", subject="web")

    monkeypatch.setattr(HomeHost, "start", refuse)


def test_disks_of_another_point_are_made_anew(house):
    house.given(house.new)
    before = house.image()
    with pytest.raises(Refused, match="hold point"):
        house.home.switch(VM, point=house.old)
    with pytest.raises(Refused, match="hold point"):
        house.home.start(VM, point=house.old)
    with pytest.raises(Refused, match="hold point"):
        house.home.catch_up(VM, house.old)
    assert house.home.prepare(VM, "web", house.old)["point"] == house.old
    assert house.image() == house.first
    assert not before.exists()
    house.home.switch(VM, point=house.old)
    assert house.holds() == house.points[house.old]["vda"]
    house.home.start(VM, point=house.old)
    assert house.domain().isActive()


def test_of_the_same_point_they_are_kept_but_for_another_run(house):
    house.given(house.new)
    before = house.image()
    assert house.home.prepare(VM, "web", house.new)["written"] == 0
    assert house.image() == before
    house.home.prepare(VM, "web", house.new, afresh=True)
    assert house.image() == house.first
    # And a second time nothing that this run has made is thrown away.
    made = house.home.record(VM).tag
    assert house.home.prepare(VM, "web", house.new, afresh=True)["written"] == 0
    assert house.home.record(VM).tag == made


def test_only_a_run_that_they_were_made_for_or_that_took_over_from_it_takes_them_back(house):
    def away():
        raise StoreUnavailable("the vault is away")

    homes = HostHomes(HostConfig("office", "source", URI), house.folder, house.folder / "h", away)
    assert not homes.of_another(VM, ["first"])  # there are none
    house.home.prepare(VM, "web", house.old, run="first")
    house.home.prepare(VM, "web", house.new, run="later")  # what the first one has left is used
    assert homes.of_another(VM, ["first"])
    house.home.switch(VM, point=house.new)
    given = house.image()
    house.home.revert(VM, ["first"])  # an order that comes late
    assert house.image() == given != house.first
    assert not homes.of_another(VM, ["last", "later"])
    house.home.revert(VM, ["last", "later"])
    assert house.image() == house.first
    assert house.home.record(VM) is None
    house.home.prepare(VM, "web", house.new)  # by a console that does not tell for which
    house.home.revert(VM, ["first"])
    assert house.home.record(VM) is None


@pytest.mark.parametrize("then", ["taken back", "another point"])
def test_a_start_that_the_host_refused_can_be_taken_back(house, monkeypatch, then):
    house.given(house.old)
    with monkeypatch.context() as patch:
        no_memory(patch)
        with pytest.raises(HypervisorError, match="no memory"):
            house.home.start(VM)
    assert house.home.record(VM).released  # changes since an older point cannot be told: it is let go of at once
    if then == "another point":
        house.given(house.new)
        assert house.holds() == house.points[house.new]["vda"]
    house.home.revert(VM)
    assert house.image() == house.first
    assert [path.name for path in house.folder.glob("*.qcow2")] == ["vda.qcow2"]
    assert house.home.record(VM) is None


def test_death_while_it_is_taken_back_after_that_start_is_no_refusal(house, monkeypatch):
    house.given(house.old)
    with monkeypatch.context() as patch:
        no_memory(patch)
        with pytest.raises(HypervisorError):
            house.home.start(VM)
        patch.setattr("leeward.recovery.home_records.HomeRecords.forget", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            house.home.revert(VM)
    assert house.image() == house.first
    house.home.prepare(VM, "web", house.old)
    with pytest.raises(Refused, match="not been given"):  # else it would boot its old disks
        house.home.start(VM, point=house.old)
    house.home.revert(VM)
    assert house.home.record(VM) is None


def test_what_the_guest_has_written_is_never_thrown_away(house):
    house.given(house.old)
    house.home.start(VM)
    with pytest.raises(Refused, match="has been started"):  # it runs, and may write at any time
        house.home.revert(VM)
    house.write()
    house.domain().destroy()
    image = house.image()
    with pytest.raises(Refused, match="has been started") as refused:
        house.home.revert(VM)
    assert f"--point {house.old}" in refused.value.hint
    with pytest.raises(Refused, match="has run at home already") as refused:
        house.home.prepare(VM, "web", house.new, afresh=True)
    assert f"--point {house.old}" in refused.value.hint
    assert house.home.prepare(VM, "web", house.old, afresh=True)["point"] == house.old
    house.home.start(VM, point=house.old)
    assert house.image() == image


@pytest.mark.parametrize("afresh", [False, True])
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_what_becomes_of_them(same, written, afresh):
    wanted = "7" if same else "8"
    if written and not same:
        with pytest.raises(Refused):
            judge("web", "7", wanted, written=written, afresh=afresh)
    else:
        stale = not same or (afresh and not written)
        found = judge("web", "7", wanted, written=written, afresh=afresh)
        assert found is (Leftover.STALE if stale else Leftover.FITS)


def save(house):
    """As `virsh managedsave`, or a host that shuts down, does it."""
    house.domain().create()
    house.domain().managedSave(0)
    assert house.domain().hasManagedSaveImage()


def test_memory_that_was_saved_with_the_old_disks_does_not_come_back(house):
    """A start would bring the definition of then back as well, and with it the old disks."""
    save(house)
    house.home.prepare(VM, "web", house.new)
    assert house.domain().hasManagedSaveImage()  # it may yet stay with its old disks
    house.home.switch(VM, point=house.new)
    assert not house.domain().hasManagedSaveImage()
    house.home.start(VM, point=house.new)
    assert house.domain().isActive()
