"""A disk made from an old image and the vault: exact whatever that image holds, and only what it lacks is fetched."""

import random
import subprocess
from contextlib import ExitStack

import pytest
from tests.no_power_cut import no_power_cut  # noqa: F401
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.domain.errors import Damaged, HypervisorError
from leeward.recovery import images, seeded
from leeward.recovery.images import Image, ImageProcess
from leeward.recovery.seeded import fill
from leeward.vault.facade import Vault
from leeward.vault.image import PointDisk
from leeward.vault.stores.memory import MemoryStore

BLOCK = 65536


class CountingStore(MemoryStore):
    """read: bytes that were asked for."""

    read = 0

    def get_range(self, key, start, length):
        data = super().get_range(key, start, length)
        self.read += len(data)
        return data


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.store = CountingStore()
        self.vault = Vault.create(self.store, "x", cost=CHEAP)[0]
        self.pen = Pen(self.vault, VM)
        self.seen = []

    def raw(self, path):
        target = self.folder / "raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(target)], check=True)
        return target.read_bytes()

    def seed(self, data, fmt="raw"):
        path = self.folder / "seed.raw"
        path.write_bytes(data)
        if fmt == "qcow2":
            command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(path), str(self.folder / "seed.qcow2")]
            subprocess.run(command, check=True)
            path = self.folder / "seed.qcow2"
        return Image(path, fmt)

    def write(self, seed=None, point="latest", blank=True, progress=None, only=None):
        """The target's bytes, and how many were fetched from the vault."""
        path = self.folder / "target.qcow2"
        with self.vault.log(VM).open_point(point) as image:
            if blank:
                images.create(path, image.disks["vda"].size)
            with ExitStack() as stack:
                target = stack.enter_context(ImageProcess(Image(path), self.folder / "t", writable=True))
                source = stack.enter_context(ImageProcess(seed, self.folder / "s")) if seed else None
                fill(image, "vda", target, seed=source, blank=blank, only=only, progress=progress or self.note)
            return self.raw(path), image.fetched

    def note(self, done, total, fetched):
        self.seen.append((done, total, fetched))


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def disk(bench):
    """Data, a hole, data again, and an end within a block."""
    dice = random.Random(1)
    bench.pen.resize("vda", 200, tail=512)
    bench.pen.put("vda", 0, dice.randbytes(60 * BLOCK)).put("vda", 150, dice.randbytes(51 * BLOCK))
    bench.pen.commit()
    return bytes(bench.pen.disks["vda"])


def test_without_a_seed_all_of_it_comes_from_the_vault_and_holes_stay_holes(bench, disk):
    content, fetched = bench.write()
    assert content == disk
    assert fetched > 110 * BLOCK
    assert (bench.folder / "target.qcow2").stat().st_blocks * 512 < 120 * BLOCK
    assert bench.seen[-1][:2] == (111 * BLOCK, 111 * BLOCK)
    assert [done for done, _, _ in bench.seen] == sorted(done for done, _, _ in bench.seen)


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_what_the_seed_has_is_not_fetched(bench, disk, fmt):
    """Two patches differ: two frames at most are read, besides the tables of hashes."""
    seed = bytearray(disk)
    seed[5 * BLOCK + 7] ^= 1
    seed[160 * BLOCK : 162 * BLOCK] = bytes(2 * BLOCK)
    seed[100 * BLOCK : 101 * BLOCK] = b"x" * BLOCK  # a hole in the point
    before = bench.store.read
    content, fetched = bench.write(bench.seed(seed, fmt))
    assert content == disk
    assert 0 < fetched < 40 * BLOCK
    assert bench.store.read - before < 45 * BLOCK


@pytest.mark.parametrize("length", [0, 512, 59 * BLOCK + 512, 200 * BLOCK, 300 * BLOCK])
def test_a_seed_of_another_size_serves_as_far_as_it_goes(bench, disk, length):
    content, fetched = bench.write(bench.seed(disk[:length].ljust(length, b"y")) if length else None)
    assert content == disk
    whole = min(length // BLOCK, 60)
    assert fetched < (111 - whole + 32) * BLOCK


def test_a_seed_that_is_nothing_but_noise_does_no_harm(bench, disk):
    assert bench.write(bench.seed(random.Random(9).randbytes(len(disk))))[0] == disk


# On a loaded machine all of the seed may be read before it is killed.
@pytest.mark.flaky(reruns=3)
def test_a_seed_that_breaks_while_it_is_read_is_done_without(bench, disk, monkeypatch):
    path = bench.folder / "target.qcow2"
    images.create(path, len(disk))
    with (
        bench.vault.log(VM).open_point("latest") as image,
        ImageProcess(Image(path), bench.folder / "t", writable=True) as target,
        ImageProcess(bench.seed(disk), bench.folder / "s") as source,
    ):

        def progress(done, total, fetched):
            source._process.kill()

        fill(image, "vda", target, seed=source, blank=True, progress=progress)
        assert image.fetched > 10 * BLOCK
    assert bench.raw(path) == disk


class Killed(BaseException):
    pass


@pytest.mark.parametrize("seed", range(6))
def test_what_a_killed_attempt_left_is_gone_on_with(bench, disk, seed):
    """Killed anywhere, then gone on with towards another point: exact, and what was there is not fetched again."""
    dice = random.Random(seed)
    stop = dice.randrange(1, 111) * BLOCK

    def die(done, total, fetched):
        if done >= stop:
            raise Killed

    with pytest.raises(Killed):
        bench.write(progress=die)
    for _ in range(3):
        bench.pen.put("vda", dice.randrange(190), dice.randbytes(2 * BLOCK))
        bench.pen.put("vda", dice.randrange(60), bytes(BLOCK))
    bench.pen.commit()
    content, fetched = bench.write(blank=False)
    assert content == bytes(bench.pen.disks["vda"])
    assert fetched < 111 * BLOCK - stop + 40 * BLOCK


def test_only_what_may_differ_is_looked_at(bench, disk):
    bench.write()
    old = bench.vault.log(VM).open_point("latest")
    bench.pen.put("vda", 30, random.Random(3).randbytes(BLOCK)).put("vda", 155, bytes(3 * BLOCK))
    bench.pen.commit()
    with bench.vault.log(VM).open_point("latest") as new:
        only = new.differs_from(old)["vda"]
    content, fetched = bench.write(blank=False, only=only)
    assert content == bytes(bench.pen.disks["vda"])
    assert fetched < 3 * BLOCK
    assert bench.seen[-1][1] == BLOCK


def test_large_ranges_are_zeroed_and_checked_by_the_image_itself(bench, disk, monkeypatch):
    monkeypatch.setattr(seeded, "_READ_BACK", 4)
    bench.write()
    bench.pen.put("vda", 10, bytes(40 * BLOCK)).commit()
    assert bench.write(blank=False)[0] == bytes(bench.pen.disks["vda"])
    monkeypatch.setattr("leeward.hypervisors.nbd.Nbd.zero", lambda self, length, offset: None)
    for limit in (4, 1024):
        monkeypatch.setattr(seeded, "_READ_BACK", limit)
        bench.pen.put("vda", 160, bytes(20 * BLOCK)).commit()
        with pytest.raises(HypervisorError, match="do not read as zeros"):
            bench.write(blank=False)


def test_a_block_that_does_not_have_its_hash_is_never_written(bench, disk, monkeypatch):
    original = PointDisk.read

    def read(self, offset, length):
        data = bytearray(original(self, offset, length))
        data[-1] ^= 1
        return bytes(data)

    monkeypatch.setattr(PointDisk, "read", read)
    with pytest.raises(Damaged, match="does not have the hash"):
        bench.write()


def test_a_storage_that_loses_writes_is_found_out(bench, disk, monkeypatch):
    monkeypatch.setattr("leeward.hypervisors.nbd.Nbd.pwrite", lambda self, view, offset: None)
    with pytest.raises(HypervisorError, match="does not read back"):
        bench.write()


def test_an_image_of_the_wrong_size_is_refused(bench, disk):
    path = bench.folder / "small.qcow2"
    images.create(path, BLOCK)
    with (
        bench.vault.log(VM).open_point("latest") as image,
        ImageProcess(Image(path), bench.folder / "t", writable=True) as target,
        pytest.raises(HypervisorError, match="65536 bytes"),
    ):
        fill(image, "vda", target)


def test_memory_is_bounded(bench, monkeypatch):
    """Of a large disk only a few chunks are under way at once."""
    bench.pen.resize("vda", 500)
    bench.pen.put("vda", 0, random.Random(2).randbytes(500 * BLOCK)).commit()
    under_way, most = [0], [0]
    original = seeded._Filler.bring

    def bring(self, chunk):
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        try:
            return original(self, chunk)
        finally:
            under_way[0] -= 1

    monkeypatch.setattr(seeded._Filler, "bring", bring)
    assert bench.write()[0] == bytes(bench.pen.disks["vda"])
    assert most[0] <= seeded._THREADS
