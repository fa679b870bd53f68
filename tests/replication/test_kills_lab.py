"""kill -9 of the replicator at every named step and at random instants, on a real guest that writes all the while.

After each kill every point that was told must be there, and the newest must hold every record that the guest had
durably written before it was made. KILLS in the environment asks for another number of random kills than 100.
"""

import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest
from tests.forks import FORKS
from tests.replication.killable import live

from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.guest.sequence import inspect
from leeward.recovery.image import export_image
from leeward.replication.replicator import STEPS
from leeward.vault.check import check
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
IP = "10.77.0.61"
KILLS = int(os.environ.get("KILLS", "100"))


class Victim:
    def __init__(self, lab, guest):
        self.lab, self.guest = lab, guest
        root = Path(lab.places.root) / "kills"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        self.root, self.key, self.folder = root, root / "key", root / "vault"
        self.vault = Vault.create(LocalStore(self.folder), "x", cost=Argon2(1024, 1, 1))[0]
        self.key.write_bytes(self.vault.keys.to_bytes())
        self.told = []
        self.kinds = []

    def run(self, step="", seconds=None, points=None):
        """Run until it kills itself at `step`, or until `seconds` or `points` are over and we kill it."""
        told, telling = FORKS.Pipe(duplex=False)
        words = [self.lab.libvirt("office"), self.guest.uuid, self.root / "s", self.folder, self.key, step]
        process = FORKS.Process(target=live, args=(telling, *map(str, words)), daemon=True)
        process.start()
        telling.close()
        with told, os.fdopen(os.dup(told.fileno())) as lines:
            self.listen(process, lines, seconds, points)

    def listen(self, process, lines, seconds, points):
        assert lines.readline() == "ready\n"
        kill = process.kill
        timer = threading.Timer(seconds, kill) if seconds else threading.Timer(60, kill)
        timer.start()
        for count, line in enumerate(lines, 1):
            _, point, kind = line.split()
            self.told.append(point)
            self.kinds.append(kind)
            if points and count >= points:
                kill()
                break
        process.join()
        timer.cancel()

    def judge(self, tmp_path, *, deep=True):
        listed = [point.id for point in self.vault.log(self.guest.uuid).points()]
        assert set(self.told) <= set(listed)
        if not deep:
            return
        written = self.lab.http("office", IP, "/")["seq"]
        self.run(points=2)
        with self.vault.log(self.guest.uuid).open_point("latest") as image:
            records = {}
            for disk in ("vda", "vdb"):
                target = tmp_path / f"{disk}.raw"
                export_image(image, disk, target, force=True)
                state = inspect(target, disk)
                assert state.clean
                assert state.records.intact
                records[disk] = state.records
        assert records["vdb"].last >= written
        assert 0 <= records["vda"].last - records["vdb"].last <= 1


@pytest.fixture(scope="module")
def guest(lab):
    """It writes in every instant at which somebody is killed, and takes no notice of that."""
    made = lab.define_guest("office", "victim", disks=(64, 32), ip=IP, interval_ms=20)
    lab.wait_http("office", IP, timeout_s=90)
    time.sleep(3)  # the guest's agent connects; see leeward.hypervisors.libvirt.settling
    yield made
    lab.destroy_guest("office", "victim")


@pytest.fixture
def victim(lab, guest):
    made = Victim(lab, guest)
    yield made
    LibvirtHost("office", lab.libvirt("office"), made.root / "s").forget(guest.uuid)


@pytest.mark.parametrize("step", STEPS)
def test_at_every_named_step(victim, tmp_path, step):
    victim.run(step=step)
    victim.judge(tmp_path)
    # The first copy happened once; whatever was killed afterwards went on incrementally.
    assert victim.kinds.count("resync") == 0
    assert victim.kinds.count("initial") <= 1


def test_at_random_instants(victim, tmp_path):
    dice = random.Random(int(os.environ.get("SEED", "1")))
    for number in range(3 * KILLS):
        if number >= KILLS and len(victim.told) >= KILLS // 3:
            break  # on a slow machine more of them die before they have told anything
        victim.run(seconds=0.05 + dice.random() * 0.6)
        victim.judge(tmp_path, deep=number % 10 == 9)
    report = check(victim.vault.store, keys=victim.vault.keys, deep=True)
    assert report.troubles == []
    assert len(victim.told) >= KILLS // 3
    assert victim.kinds.count("resync") == 0
