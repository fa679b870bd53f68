"""A replica holds a whole point at every instant, follows the log, and can be lent to a copy."""

import random
import subprocess

import pytest
from tests.no_power_cut import no_power_cut  # noqa: F401
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.domain.errors import Damaged, Refused, StoreFull, StoreUnavailable
from leeward.domain.retention import Retention
from leeward.recovery import images
from leeward.recovery import replica as module
from leeward.recovery.replica import Replicas
from leeward.vault import keyspace
from leeward.vault.facade import Vault
from leeward.vault.log import Consent
from leeward.vault.stores.memory import MemoryStore

BLOCK = 65536


class Killed(BaseException):
    pass


class Away(MemoryStore):
    """A store that can go away."""

    away = False

    def get(self, key):
        self._ask()
        return super().get(key)

    def get_range(self, key, start, length):
        self._ask()
        return super().get_range(key, start, length)

    def scan(self, prefix, start_after=""):
        self._ask()
        return super().scan(prefix, start_after)

    def _ask(self):
        if self.away:
            raise StoreUnavailable("no route")


class Stand:
    """A vault, its writer, and the replicas of a host."""

    def __init__(self, folder):
        self.folder, self.store = folder, Away()
        self.vault = Vault.create(self.store, "x", cost=CHEAP)[0]
        self.pen = Pen(self.vault, VM)
        self.pen.resize("vda", 80).resize("vdb", 20)
        self.pen.put("vda", 2, random.Random(1).randbytes(40 * BLOCK)).put("vdb", 0, b"x" * BLOCK).commit()
        self.replicas = self.made()

    def made(self):
        return Replicas(self.folder / "r", self.folder / "images", self.vault)

    @property
    def record(self):
        return self.replicas.record(VM)

    def newest(self):
        return list(self.pen.remembered)[-1]

    def image(self, disk, tag=None):
        return self.folder / "images" / f"{tag or self.record.tag}.{disk}.qcow2"

    def raw(self, path):
        raw = self.folder / "raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True)
        return raw.read_bytes()

    def check_whole(self):
        """The point that the record tells is there: in the images, or together with what is staged."""
        for name, data in self.pen.remembered[self.record.point].items():
            overlay = self.folder / "images" / f"{self.record.tag}.{name}.next"
            path = overlay if self.record.staged and overlay.exists() else self.image(name)
            assert self.raw(path) == data


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path)


def test_it_follows_the_log_and_brings_only_what_differs(stand):
    assert stand.replicas.whole(VM) is None
    stand.replicas.advance(VM)
    stand.check_whole()
    assert stand.replicas.advance(VM) is None
    stand.pen.put("vda", 5, random.Random(2).randbytes(2 * BLOCK)).put("vda", 20, bytes(3 * BLOCK)).commit()
    reached = stand.replicas.advance(VM)
    assert reached.written == 5 * BLOCK
    assert reached.fetched < 4 * BLOCK
    stand.check_whole()
    whole = stand.replicas.whole(VM)
    assert (whole.point, whole.sizes) == (stand.newest(), {"vda": 80 * BLOCK, "vdb": 20 * BLOCK})
    assert whole.token.startswith("t")
    assert "<vm" in whole.definition
    for n in range(6):
        stand.pen.put("vda", 60 + n, b"y" * BLOCK).commit()
    stand.pen.prune(Retention(1.0))  # the point that it holds is gone
    assert stand.replicas.advance(VM).written == 6 * BLOCK
    stand.check_whole()
    stand.pen.resize("vda", 90).put("vda", 85, b"z" * BLOCK).commit()
    stand.replicas.advance(VM)
    stand.check_whole()
    assert {path.suffix for path in (stand.folder / "images").iterdir()} == {".qcow2"}
    stand.replicas.remove(VM)
    stand.replicas.remove(VM)
    assert list((stand.folder / "images").iterdir()) == []
    assert stand.replicas.records() == []


def test_it_knows_who_had_the_log_and_what_its_images_take(stand):
    stand.replicas.advance(VM)
    assert (stand.record.epoch, stand.record.moved_to) == (1, "")
    assert stand.replicas.records() == [stand.record]
    assert stand.replicas.sizes()[stand.record.tag] > 40 * BLOCK
    stand.vault.log(VM).take_epoch(1, {"writer": "x", "host": "elsewhere", "reason": "failover", "run": "r"})
    assert stand.replicas.advance(VM) is None  # no new point
    assert (stand.record.epoch, stand.record.moved_to) == (2, "elsewhere")


def test_a_look_reads_what_came_and_nothing_else(stand):
    for _ in range(30):
        stand.pen.put("vda", 3, random.Random(5).randbytes(BLOCK)).commit()
    stand.replicas.advance(VM)
    asked = []

    def counted(name, original):
        def ask(*arguments):
            asked.append((name, arguments[0]))
            return original(*arguments)

        return ask

    for name in ("get", "get_range", "scan", "size"):
        setattr(stand.store, name, counted(name, getattr(stand.store, name)))
    assert stand.replicas.advance(VM) is None  # what it does not know is whether its point is the log's end
    asked.clear()
    assert stand.replicas.advance(VM) is None
    assert len({key for _, key in asked}) == 2
    stand.pen.put("vda", 7, random.Random(6).randbytes(2 * BLOCK)).put("vda", 3, bytes(BLOCK)).commit()
    asked.clear()
    assert stand.replicas.advance(VM).written == 3 * BLOCK
    assert len({key for _, key in asked}) < 10, asked
    stand.check_whole()
    # Epochs and moved blocks bring no point; what is older than what it holds, or far ahead, is reached all the same.
    stand.pen.reopen(new_epoch=True)
    assert stand.replicas.advance(VM) is None
    assert stand.record.epoch == 2
    points = stand.vault.log(VM).points()
    stand.replicas.advance(VM, points[4].id)
    stand.check_whole()
    for n in range(300):
        stand.pen.put("vdb", n % 20, n.to_bytes(2, "big") * (BLOCK // 2)).commit()
    assert stand.vault.log(VM).since(points[-1].id, points[-1].time_ns, "", stand.record.state) is None
    stand.replicas.advance(VM)
    assert stand.record.point == stand.newest()
    stand.check_whole()


@pytest.mark.slow
def test_at_every_instant_it_holds_a_whole_point(stand, monkeypatch):
    """Killed at the first instant of an advance, then at its second, …"""
    stand.replicas.advance(VM)
    deaths, dice = 0, random.Random(3)
    while True:
        with monkeypatch.context() as patch:
            left = [deaths + 1]

            def tick(left=left):
                left[0] -= 1
                if left[0] == 0:
                    raise Killed

            def deadly(function, tick=tick):
                def run(*arguments, **named):
                    tick()
                    result = function(*arguments, **named)
                    tick()
                    return result

                return run

            for owner, name in (
                (module, "save_json"),
                (module, "fill"),
                (images, "create_overlay"),
                (images, "merge"),
            ):
                patch.setattr(owner, name, deadly(getattr(owner, name)))
            patch.setattr("pathlib.Path.unlink", deadly(type(stand.folder).unlink))
            stand.pen.put("vda", dice.randrange(70), dice.randbytes(BLOCK)).put(
                "vdb", 1, dice.randbytes(BLOCK)
            ).commit()
            try:
                stand.replicas.advance(VM, progress=lambda *_, tick=tick: tick())
            except Killed:
                deaths += 1
            else:
                break
        stand.replicas = stand.made()
        stand.check_whole()
    assert deaths > 15
    assert stand.record.point == stand.newest()
    stand.check_whole()


def test_what_was_staged_is_merged_without_the_vault(stand, monkeypatch):
    stand.replicas.advance(VM)
    stand.pen.put("vda", 9, b"n" * BLOCK).commit()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(images, "merge", lambda *_: (_ for _ in ()).throw(Killed()))
        stand.replicas.advance(VM)
    stand.store.away = True
    stand.replicas = stand.made()
    assert stand.replicas.whole(VM).point == stand.newest()
    paths = stand.replicas.take(VM, "copy")
    for name, data in stand.pen.remembered[stand.newest()].items():
        assert stand.raw(paths[name]) == data


def test_a_vault_that_goes_in_mid_advance_leaves_the_point_before(stand, monkeypatch):
    stand.replicas.advance(VM)
    before = stand.newest()
    stand.pen.put("vda", 0, random.Random(4).randbytes(70 * BLOCK)).commit()

    def go(*arguments, original=images.create_overlay):
        original(*arguments)
        stand.store.away = True

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr(images, "create_overlay", go)
        stand.replicas.advance(VM)
    assert stand.replicas.whole(VM).point == before
    stand.check_whole()
    stand.store.away = False
    stand.replicas.advance(VM)
    stand.check_whole()


def test_its_images_are_lent_to_one_copy_and_mended_when_they_come_back(stand):
    with pytest.raises(Refused, match="no whole replica"):
        stand.replicas.take(VM, "copy")
    stand.replicas.advance(VM)
    with pytest.raises(Refused, match="holds point"):
        stand.replicas.take(VM, "copy", "999")
    paths = stand.replicas.take(VM, "copy")
    assert (
        paths == stand.replicas.take(VM, "copy") == {name: str(stand.image(name, "copy")) for name in ("vda", "vdb")}
    )
    assert stand.replicas.whole(VM) is None
    with pytest.raises(Refused, match="another copy"):
        stand.replicas.take(VM, "other")
    with pytest.raises(Refused, match="has the replica"):
        stand.replicas.remove(VM)
    subprocess.run(["qemu-img", "bitmap", "--add", paths["vda"], "lw-1"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 0 256k", paths["vda"]], check=True, capture_output=True)
    stand.pen.put("vda", 50, b"w" * BLOCK).commit()
    assert stand.replicas.advance(VM) is None
    stand.replicas.give_back(VM, "other")
    stand.replicas.give_back(VM, "copy")
    stand.replicas.give_back(VM, "copy")
    assert stand.replicas.whole(VM) is None
    # What the VM was tracked by would be in the way when a checkpoint of the same name is made.
    said = subprocess.run(["qemu-img", "info", str(stand.image("vda"))], check=True, capture_output=True, text=True)
    assert "lw-1" not in said.stdout
    assert stand.replicas.advance(VM).written == 5 * BLOCK
    stand.check_whole()
    stand.replicas.take(VM, "copy")
    stand.image("vda", "copy").unlink()  # by somebody else
    stand.replicas.give_back(VM, "copy")
    stand.replicas.advance(VM)
    stand.check_whole()


def test_no_room_is_told_before_anything_is_written(stand, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(StoreFull, match="are free"):
        stand.replicas.advance(VM)
    assert list((stand.folder / "images").iterdir()) == []


def test_what_is_staged_leaves_room_to_others(stand, monkeypatch):
    stand.replicas.advance(VM)
    before = stand.newest()
    stand.pen.put("vda", 0, random.Random(4).randbytes(70 * BLOCK)).commit()
    left = iter([1 << 40, 1 << 40])  # others write as well: only the first looks find room
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": next(left, 100 << 20)})
    )
    with pytest.raises(StoreFull, match="leaves at least that to others"):
        stand.replicas.advance(VM)
    assert stand.replicas.whole(VM).point == before
    stand.check_whole()


@pytest.mark.parametrize("damaged", [True, False])
def test_what_the_vault_has_lost_stays_until_the_log_has_gone_on(stand, damaged):
    """A replica may hold the last good copy of the newest point: it is not brought back to an older one by itself."""
    stand.pen.put("vda", 5, b"n" * BLOCK).commit()
    stand.replicas.advance(VM)
    held, key = stand.record.point, keyspace.log(VM, int(stand.record.point))
    hurt = bytearray(stand.store.get(key))
    hurt[60] ^= 1
    stand.store.delete(key)
    if damaged:
        stand.store.put(key, [bytes(hurt)])
        with pytest.raises(Damaged):
            stand.replicas.advance(VM)
    else:
        assert stand.replicas.advance(VM) is None
    assert stand.record.point == held
    stand.check_whole()
    # The vault has gone on from what it has: for some time by the very number that is held here.
    older = stand.vault.log(VM).points()[-1].id
    breach = stand.vault.log(VM).breach()
    consent = Consent(int(older), breach.unread) if breach else None
    stand.pen.writer = stand.vault.log(VM).take_epoch(1, {"writer": "there"}, consent)
    stand.pen.disks = {name: bytearray(data) for name, data in stand.pen.remembered[older].items()}
    for n in range(2):
        stand.pen.put("vda", 50 + n, b"o" * BLOCK).commit(compare=True)
        stand.replicas.advance(VM)
        assert stand.record.point == stand.newest()
        stand.check_whole()
