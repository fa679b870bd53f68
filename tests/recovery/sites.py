"""A guest at the office, a vault, and what both sites need to replicate it and to bring it up."""

import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import libvirt
from tests.anyone import anyones_folder

from leeward.hypervisors import nbd
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.recovery.copies import Copies
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Kind, Replicator
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore

MIB = 1 << 20


class Killed(BaseException):
    """Stands for the death of our process."""


class Sites:
    """office, recovery: hypervisors of the two hosts. copies: at the recovery site, until it is replaced."""

    def __init__(self, lab, guest):
        self.lab, self.guest, self.vm_id = lab, guest, guest.uuid
        root = Path(lab.places.root)
        self.root, self.folder, self.vault_dir, self.key = root, root / "t", root / "vault-sites", root / "sites.key"
        for old in (self.folder, self.vault_dir):
            shutil.rmtree(old, ignore_errors=True)
        self.vault_dir.mkdir()
        self.vault, _ = Vault.create(LocalStore(self.vault_dir), "x", cost=Argon2(1024, 1, 1))
        self.key.write_bytes(self.vault.keys.to_bytes())
        self.office = LibvirtHost("office", lab.libvirt("office"), root / "s1")
        self.recovery = LibvirtHost("recovery", lab.libvirt("recovery"), root / "s2")
        self.images = Path(lab.places.images("recovery"))
        self.pool = CopyPool.make()
        self.kinds = []
        self.copies = self.make_copies()

    def make_copies(self, **how):
        host = LibvirtRecoveryHost("recovery", self.lab.libvirt("recovery"), self.images)
        return Copies(host, self.folder, str(self.vault_dir), self.key, self.vault, **how)

    def replicator(self, hypervisor, epoch=None):
        """epoch None: opens a new one. Which kind each cycle was is in `kinds`."""
        log = self.vault.log(self.vm_id)
        return Replicator(
            hypervisor,
            log,
            self.vm_id,
            self.pool,
            writer_name="test",
            epoch=epoch,
            on_kind=lambda kind, reason: self.kinds.append(kind),
        )

    def replicate_and_stop(self):
        """The newest points have all that the guest wrote; it is off at the office. `written`: its last record."""
        engine = self.replicator(self.office)
        engine.cycle()
        self.written = self.lab.http("office", self.guest.ip, "/")["seq"]
        time.sleep(0.5)
        engine.cycle()
        self.office.force_off(self.vm_id)
        assert engine.cycle().kind is Kind.DELTA

    def successor(self):
        """Whoever replicates the VM at the recovery site; the epoch before is over."""
        engine = self.replicator(self.recovery)
        engine.open()
        self.kinds.clear()
        return engine

    def fail_over(self, on_step=lambda record: None, point="latest", networks=None):
        self.copies.build(self.vm_id, self.guest.name, point, "failover", networks or {}, on_step)
        return self.copies.start(self.vm_id, "failover", on_step)

    def record(self, purpose="failover"):
        return self.copies.record(self.vm_id, purpose)

    @contextmanager
    def domain(self, site="recovery"):
        connection = libvirt.open(self.lab.libvirt(site))
        try:
            yield connection.lookupByUUIDString(self.vm_id)
        finally:
            connection.close()

    def qemu_pid(self, site="recovery"):
        return int((self.lab.places.site(site) / "run" / "qemu" / f"{self.guest.name}.pid").read_text())

    def visit(self):
        """A neighbour of the recovered guest, which has kept its address."""
        return self.lab.probe("recovery", "br0", "10.77.0.3/24")

    def hydrate(self, between=lambda: None, seconds=120):
        """With somebody who asks about the VM without pause, which must not kill it. Returns the rounds it took."""
        ends = time.monotonic() + seconds
        rounds, over, pid = 0, threading.Event(), self.qemu_pid()

        def ask():
            while not over.is_set():
                self.recovery.vm(self.vm_id)

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            try:
                while not self.record().hydrated:
                    assert time.monotonic() < ends, "hydration does not end"
                    self.copies.supervise()
                    between()
                    rounds += 1
            finally:
                over.set()
            asking.result()
        assert self.qemu_pid() == pid
        return rounds

    def assert_point_is_what_the_paused_guest_has(self, site="recovery"):
        """Byte for byte, read through QEMU by a full backup of our own, beside whatever tracking there is."""
        with self.domain(site) as domain:
            assert domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
            socket = anyones_folder(self.lab) / "compare.sock"
            socket.unlink(missing_ok=True)
            disks = "".join(
                f"<disk name='{name}' type='file'><scratch file='{self.root}/compare.{name}'/></disk>"
                for name in ("vda", "vdb")
            )
            server = f"<server transport='unix' socket='{socket}'/>"
            domain.backupBegin(f"<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>", None, 0)
            try:
                with self.vault.log(self.vm_id).open_point("latest") as image:
                    for name, disk in image.disks.items():
                        with nbd.Nbd(socket, name) as frozen:
                            assert frozen.size == disk.size
                            for at in range(0, disk.size, MIB):
                                assert frozen.pread(MIB, at) == disk.read(at, MIB), (name, at)
            finally:
                domain.abortJob()
                while domain.jobInfo()[0]:
                    time.sleep(0.01)

    def assert_images_are_the_newest_point(self, paths):
        """Byte for byte, of images that nothing uses."""
        with self.vault.log(self.vm_id).open_point("latest") as image:
            for name, path in paths.items():
                raw = self.root / f"compare.{name}.raw"
                subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True)
                assert raw.read_bytes() == image.disks[name].read(0, image.disks[name].size), name
                raw.unlink()

    def discard(self):
        self.copies = self.make_copies()
        for purpose in ("test", "failover"):
            self.copies.discard(self.vm_id, purpose)

    def close(self):
        self.discard()
        self.office.forget(self.vm_id)
        self.pool.shutdown()
