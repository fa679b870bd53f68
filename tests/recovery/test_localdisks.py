"""Images that follow a log: exact at every point that was reached, whatever was killed on the way."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.no_power_cut import no_power_cut  # noqa: F401
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.domain.retention import Retention
from leeward.recovery import images, localdisks
from leeward.recovery.images import Image
from leeward.recovery.localdisks import LocalDisks
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.memory import MemoryStore

BLOCK = 65536
PROGRAM = Path(__file__).with_name("bringer.py")


class Killed(BaseException):
    pass


class Follower:
    """paths: where the images stand."""

    def __init__(self, folder, vault):
        self.folder, self.vault = folder, vault
        self.pen = Pen(vault, VM)
        self.paths = {name: folder / f"{name}.qcow2" for name in ("vda", "vdb")}
        self.disks = self.reopened()

    def reopened(self):
        return LocalDisks(self.folder / "j", self.vault.log(VM))

    def reach(self, point="latest", progress=None, seeds=None):
        with self.vault.log(VM).open_point(point) as image:
            how = {"progress": progress} if progress else {}
            return self.disks.reach(image, self.paths, seeds, **how)

    def check(self, point):
        for name, data in self.pen.remembered[point].items():
            raw = self.folder / "raw"
            subprocess.run(["qemu-img", "convert", "-O", "raw", str(self.paths[name]), str(raw)], check=True)
            assert raw.read_bytes() == data, (point, name)
        assert self.disks.point == point


@pytest.fixture
def follower(tmp_path):
    made = Follower(tmp_path, Vault.create(MemoryStore(), "x", cost=CHEAP)[0])
    made.pen.resize("vda", 100, tail=512).resize("vdb", 40)
    made.pen.put("vda", 3, random.Random(1).randbytes(50 * BLOCK)).put(
        "vdb", 0, random.Random(2).randbytes(9 * BLOCK)
    )
    made.pen.commit()
    return made


def newest(follower):
    return list(follower.pen.remembered)[-1]


def change(follower, dice):
    """What may happen to a VM between two points."""
    pen = follower.pen
    for _ in range(dice.randrange(4)):
        disk = dice.choice(list(pen.disks))
        blocks = max(1, len(pen.disks[disk]) // BLOCK)
        data = dice.choice([bytes, dice.randbytes])(dice.randrange(1, 8) * BLOCK)
        pen.put(disk, dice.randrange(blocks), data)
    what = dice.random()
    if what < 0.15:
        pen.resize("vda", dice.randrange(60, 140), tail=dice.choice([0, 512, 4096]))
    elif what < 0.2 and "vdb" in pen.disks:
        pen.remove("vdb")
        pen.commit(compare=True)
    elif what < 0.3 and "vdb" not in pen.disks:
        pen.resize("vdb", 40).put("vdb", 1, dice.randbytes(BLOCK))
    return pen.commit().id


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 9))])
def test_any_way_through_the_log_with_any_deaths_ends_exact(follower, seed, monkeypatch):
    dice = random.Random(seed)
    for _ in range(10):
        change(follower, dice)
        target = dice.choice([newest(follower), newest(follower), dice.choice(list(follower.pen.remembered))])
        if dice.random() < 0.5:
            steps = [dice.randrange(1, 12)]

            def die(*args, steps=steps):
                steps[0] -= 1
                if steps[0] == 0:
                    raise Killed

            with monkeypatch.context() as patch, pytest.raises((Killed, StopIteration)):
                original = localdisks.save_json

                def save(path, content, original=original, die=die):
                    die()
                    original(path, content)
                    die()

                patch.setattr(localdisks, "save_json", save)
                follower.reach(target, progress=die)
                raise StopIteration  # it was done before death came
            follower.disks = follower.reopened()
        if dice.random() < 0.7:
            follower.reach(target)
            follower.check(target)
    target = newest(follower)
    follower.reach(target)
    follower.check(target)
    follower.disks.remove()
    assert [path.name for path in follower.folder.iterdir() if path.suffix != ""] == []


def test_a_later_point_brings_only_what_differs(follower):
    follower.reach()
    follower.pen.put("vda", 20, random.Random(5).randbytes(2 * BLOCK)).put("vda", 5, bytes(BLOCK)).commit()
    seen = []
    reached = follower.reach(progress=lambda *told: seen.append(told))
    assert reached.written == 3 * BLOCK
    assert reached.fetched < 4 * BLOCK
    follower.check(newest(follower))
    # Blocks that need not be looked at count as done from the start.
    assert seen[0][0] >= seen[0][1] - (2 + 9) * BLOCK
    assert follower.reach().written == 0


def test_until_it_is_whole_for_the_first_time_an_image_has_no_name(follower):
    def die(done, total, fetched):
        assert not follower.paths["vda"].exists()
        raise Killed

    with pytest.raises(Killed):
        follower.reach(progress=die)
    assert follower.reopened().point == ""
    assert not follower.paths["vda"].exists()
    assert follower.paths["vda"].with_name("vda.qcow2.part").exists()
    follower.reach()
    follower.check(newest(follower))


def test_points_that_are_gone_from_the_log_cost_a_comparison_and_nothing_else(follower):
    follower.reach()
    for n in range(6):
        follower.pen.put("vda", 60 + n, random.Random(n).randbytes(BLOCK)).commit()
    follower.pen.prune(Retention(1.0))
    assert len(follower.pen.remembered) < 4
    reached = follower.reach()
    assert reached.written == 6 * BLOCK
    assert reached.fetched < 12 * BLOCK
    follower.check(newest(follower))


def test_what_lay_behind_a_cut_does_not_come_back_with_the_growth(follower):
    pen = follower.pen
    pen.put("vda", 0, random.Random(4).randbytes(101 * BLOCK)).commit()
    follower.reach()
    pen.resize("vda", 60, tail=512).commit()
    follower.reach()
    pen.resize("vda", 90)
    pen.dirty.clear()  # a host that does not report the block through which the cut went
    pen.commit()
    follower.reach()
    follower.check(newest(follower))


def test_images_that_somebody_wrote_to_are_looked_through(follower):
    follower.reach()
    subprocess.run(
        ["qemu-io", "-c", "write -P 7 0 640k", str(follower.paths["vda"])], check=True, capture_output=True
    )
    assert follower.reach().written == 0  # nobody has told it
    follower.disks.distrust()
    assert follower.reopened().point == ""
    assert follower.reach().written == 10 * BLOCK
    follower.check(newest(follower))


def test_damaged_and_missing_images_are_made_anew(follower):
    follower.reach()
    follower.paths["vdb"].unlink()
    follower.reach()
    follower.check(newest(follower))
    point = follower.pen.put("vda", 1, b"x").commit().id
    follower.disks.journals["vda"].towards = [point]
    with follower.paths["vda"].open("r+b") as file:
        file.write(bytes(65536))
    assert not images.sound(follower.paths["vda"])
    follower.reach()
    follower.check(point)


def test_a_seed_that_cannot_be_opened_is_done_without(follower):
    follower.reach(seeds={"vda": Image(follower.folder / "absent"), "vdb": Image(follower.folder, kind="block")})
    follower.check(newest(follower))


@pytest.mark.slow
def test_sigkill_in_mid_write(tmp_path):
    """A process is killed again and again while it makes and advances images; the next one goes on."""
    (tmp_path / "v").mkdir()
    vault = Vault.create(LocalStore(tmp_path / "v"), "x", cost=CHEAP)[0]
    (tmp_path / "key").write_bytes(vault.keys.to_bytes())
    follower = Follower(tmp_path, vault)
    follower.pen.resize("vda", 900).resize("vdb", 40)
    follower.pen.put("vda", 0, random.Random(1).randbytes(900 * BLOCK)).commit()
    words = [tmp_path / "v", tmp_path / "key", VM, tmp_path / "j", tmp_path]
    dice = random.Random(7)
    killed = 0
    for number in range(14):
        if number >= 6:
            follower.pen.put("vda", dice.randrange(500), dice.randbytes(300 * BLOCK)).commit()
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *map(str, words), newest(follower)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(dice.randrange(1, 30)):
            process.stdout.readline()
        process.kill()
        killed += process.wait() < 0
    assert killed > 8
    follower.disks = follower.reopened()
    before = vault.log(VM).open_point("latest")
    follower.disks.reach(before, follower.paths)
    assert before.fetched < 700 * BLOCK
    follower.check(newest(follower))
