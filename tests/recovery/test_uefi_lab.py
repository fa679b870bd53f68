"""A UEFI guest with a TPM: what its firmware keeps outside of its disks comes along, and its copy boots by it."""

import shutil
from pathlib import Path

import pytest

from leeward.domain.vm import FirmwareState, Power
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.domains import UEFI_STORE
from leeward.lab.guest.variables import added, variables
from leeward.recovery.copies import Copies
from leeward.recovery.home import HomeDisks
from leeward.recovery.libvirt import definition
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore

# Under emulation a firmware with a TPM takes its time.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]
IP = "10.77.0.46"
PATIENCE_S = 240


class World:
    """A UEFI guest at the office, and a recovery site."""

    def __init__(self, lab, guest):
        self.lab, self.guest = lab, guest
        root = Path(lab.places.root)
        self.folder, vault_dir, key = root / "u", root / "vault-uefi", root / "uefi.key"
        vault_dir.mkdir()
        self.vault, _ = Vault.create(LocalStore(vault_dir), "x", cost=Argon2(1024, 1, 1))
        key.write_bytes(self.vault.keys.to_bytes())
        self.host = LibvirtHost("office", lab.libvirt("office"), root / "scratch-uefi")
        self.pool = CopyPool.make()
        log = self.vault.log(guest.uuid)
        self.replicator = Replicator(self.host, log, guest.uuid, self.pool, writer_name="test")
        self.recovery = LibvirtRecoveryHost("recovery", lab.libvirt("recovery"), lab.places.images("recovery"))
        self.copies = Copies(self.recovery, self.folder, str(vault_dir), key, self.vault)

    def store(self):
        """The guest's variable store at home."""
        return self.lab.places.daemon_state("office") / "qemu/nvram/uefi_VARS.fd"

    def tpm(self, site, vm_id):
        folder = self.lab.places.daemon_state(site) / "swtpm" / vm_id / "tpm2"
        return tuple((path.name, path.read_bytes()) for path in sorted(folder.iterdir()) if path.name != ".lock")

    def tpm_log(self, site):
        """What swtpm and its set-up wrote."""
        return "".join(file.read_text() for file in self.lab.places.site(site).glob("swtpm-log/**/*.log"))

    def placed(self, record, vm_id):
        """What lies ready at the recovery site for a copy."""
        store = self.lab.places.images("recovery") / f"{record.tag}.nvram.fd"
        return FirmwareState(store.read_bytes(), self.tpm("recovery", vm_id))

    def nothing_left(self, record, vm_id):
        images = list(self.lab.places.images("recovery").glob(f"{record.tag}*"))
        return not images and not (self.lab.places.daemon_state("recovery") / "swtpm" / vm_id).exists()

    def held(self, point="latest"):
        with self.vault.log(self.guest.uuid).open_point(point) as image:
            return image.firmware

    def close(self):
        for purpose in ("test", "failover"):
            self.copies.discard(self.guest.uuid, purpose)
        self.host.forget(self.guest.uuid)
        self.pool.shutdown()
        for name in ("u", "vault-uefi", "scratch-uefi"):
            shutil.rmtree(Path(self.lab.places.root) / name, ignore_errors=True)


@pytest.fixture
def world(lab, guest_factory):
    made = World(lab, guest_factory("office", "uefi", disks=(64,), ip=IP, uefi=True, tpm=True, wait=False))
    yield made
    made.close()


def comes_home(world, point):
    """The state of a point is put beside what there is at home; taken back, home is as it was; settled, it stays."""
    guest, vault = world.guest, world.vault
    here = FirmwareState(world.store().read_bytes(), world.tpm("office", guest.uuid))
    with vault.log(guest.uuid).open_point(point) as image:
        away = image.firmware
    assert away != here
    images = world.lab.places.images("office")
    place = Path(world.lab.places.root) / "h"
    home = HomeDisks("office", world.lab.libvirt("office"), place, images, vault)

    def now():
        cycle = world.host.open_cycle(guest.uuid, base=None, new="look")
        cycle.abort()
        return cycle.vm.firmware

    before = world.host.vm(guest.uuid).definition
    home.prepare(guest.uuid, "uefi", point)
    assert now() == here
    home.switch(guest.uuid, "")
    assert now() == away
    home.revert(guest.uuid)
    assert now() == here
    assert world.host.vm(guest.uuid).definition == before
    home.prepare(guest.uuid, "uefi", point)
    home.switch(guest.uuid, "")
    home.settle(guest.uuid)
    assert now() == away
    left = [path.name for path in (world.lab.places.daemon_state("office") / "swtpm").iterdir()]
    assert left == [guest.uuid]


def test_variables_and_tpm_go_with_the_points_and_the_copy_boots_by_them(world):
    lab, guest = world.lab, world.guest
    lab.wait_http("office", guest.ip, timeout_s=PATIENCE_S)
    first = world.replicator.cycle()
    assert first.warnings == ()
    assert world.held().nvram == world.store().read_bytes() != UEFI_STORE.read_bytes()
    assert world.held().tpm == world.tpm("office", guest.uuid) != ()
    assert world.tpm("office", guest.uuid)[0][0] == "tpm2-00.permall"

    # Off, somebody changes a variable: seen without a word from anybody, though the disks are as they were.
    assert world.host.shutdown(guest.uuid, 60)
    world.replicator.cycle()
    assert world.replicator.cycle().point is None
    world.store().write_bytes(added(world.store().read_bytes(), "LeewardWasHere", b"1234"))
    changed = world.replicator.cycle()
    assert changed.point is not None
    assert changed.stored < 64 << 10
    assert world.replicator.cycle().point is None
    final = world.held()
    assert final == FirmwareState(world.store().read_bytes(), world.tpm("office", guest.uuid))
    assert world.held(first.point.id).nvram != final.nvram

    comes_home(world, first.point.id)

    # The VM itself, on the other side: made ready, and given up again.
    moved = world.copies.build(guest.uuid, "uefi", "latest", "failover", {"br0": "isolated"})
    assert world.placed(moved, guest.uuid) == final
    world.copies.discard(guest.uuid, "failover")
    assert world.nothing_left(moved, guest.uuid)

    copy = world.copies.build(guest.uuid, "uefi", "latest", "test")
    assert copy.copy_id == definition.test_id(copy.tag)
    assert world.placed(copy, copy.copy_id) == final
    world.copies.start(guest.uuid, "test")
    copy = world.copies.watch(guest.uuid, "test", PATIENCE_S)
    # From libvirt's template it would not find its kernel: the entry in the variable store is all that names it.
    assert copy.evidence["agent"] == "answers"
    assert "<tpm " in world.recovery._connection.domain(copy.copy_id).XMLDesc(0)
    now = world.placed(copy, copy.copy_id)
    assert "LeewardWasHere" in [name for name, _, _ in variables(now.nvram)]
    # The seeds by which a TPM is itself came along: none was made here.
    assert now.tpm[0][0] == "tpm2-00.permall"
    assert "manufacturing" in world.tpm_log("office")
    assert "manufacturing" not in world.tpm_log("recovery")

    world.copies.discard(guest.uuid, "test")
    assert world.nothing_left(copy, copy.copy_id)
    assert world.store().exists()
    assert world.host.vm(guest.uuid).power is Power.OFF
