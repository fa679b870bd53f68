"""Exported files are byte-exact, sparse, whole or absent."""

import errno
import os
import random
import subprocess
import threading
from pathlib import Path

import pytest

from leeward.domain.errors import BadInput, Damaged, LeewardError, NotFound, Refused, StoreFull
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.recovery import image as module
from leeward.recovery.image import export_image
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.crypto import Argon2
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
MIB = 1 << 20


@pytest.fixture
def data():
    dice = random.Random(4)
    return dice.randbytes(5 * MIB) + bytes(40 * MIB) + dice.randbytes(3 * MIB + 512)


@pytest.fixture
def point(data):
    host = MemoryHypervisor()
    host.add(VM, "web", {"vda": data})
    vault, _ = Vault.create(MemoryStore(), "x", cost=Argon2(1024, 1, 1))
    with CopyPool.make(2) as pool:
        Replicator(host, vault.log(VM), VM, pool, writer_name="t").cycle()
    with vault.log(VM).open_point("latest") as opened:
        yield opened


def test_raw_is_byte_exact_and_sparse(point, data, tmp_path):
    target = tmp_path / "out.raw"
    seen = []
    assert export_image(point, "vda", target, progress=lambda done, total: seen.append((done, total))) < 9 * MIB
    assert target.read_bytes() == data
    assert target.stat().st_blocks * 512 < 12 * MIB
    assert seen[-1][0] + 65536 > seen[-1][1]
    assert [name.name for name in tmp_path.iterdir()] == ["out.raw"]


def test_qcow2_holds_the_same(point, data, tmp_path):
    target, raw = tmp_path / "out.qcow2", tmp_path / "raw"
    export_image(point, "vda", target, fmt="qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(target), str(raw)], check=True)
    assert raw.read_bytes() == data


def test_an_existing_file_is_kept_unless_forced(point, data, tmp_path):
    target = tmp_path / "out.raw"
    target.write_bytes(b"precious")
    with pytest.raises(Refused):
        export_image(point, "vda", target)
    assert target.read_bytes() == b"precious"
    export_image(point, "vda", target, force=True)
    assert target.read_bytes() == data


@pytest.mark.parametrize(
    ("disk", "fmt", "folder", "error"),
    [("vdz", "raw", ".", NotFound), ("vda", "vmdk", ".", BadInput), ("vda", "raw", "absent", NotFound)],
)
def test_wrong_wishes(point, tmp_path, disk, fmt, folder, error):
    with pytest.raises(error):
        export_image(point, disk, tmp_path / folder / "out", fmt=fmt)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_not_replaced_even_with_force(point, tmp_path):
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for target, said in ((pipe, "not a regular file"), (folder, "this is a folder"), (Path("/"), "this is a folder")):
        with pytest.raises(BadInput, match=said):
            export_image(point, "vda", target, force=True)
    assert pipe.is_fifo()
    assert folder.is_dir()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_an_image_is_for_its_owner_alone(point, tmp_path, fmt):
    target = tmp_path / "out"
    export_image(point, "vda", target, fmt=fmt)
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_image_that_qemu_img_has_no_room_for(point, tmp_path, monkeypatch):
    said = "qemu-img: error while writing at byte 0: No space left on device"
    failed = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(StoreFull) as caught:
        export_image(point, "vda", tmp_path / "out", fmt="qcow2")
    assert caught.value.subject == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_who_interrupts_qemu_img_leaves_nothing_behind(point, tmp_path, monkeypatch):
    def interrupted(command, **_):
        Path(command[-1]).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(module.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_image(point, "vda", tmp_path / "out", fmt="qcow2")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_looked_into_is_told_with_the_file_that_was_wanted(point, tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(module.Path, "stat", refuse)
    with pytest.raises(LeewardError, match="cannot be written: Permission denied") as caught:
        export_image(point, "vda", tmp_path / "out")
    assert caught.value.subject == str(tmp_path / "out")


def test_a_file_system_that_cannot_be_written_is_told_as_that(point, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(module, "_write_raw", refuse)
    monkeypatch.setattr(module.Path, "unlink", refuse)
    with pytest.raises(LeewardError, match="cannot be written: Read-only"):
        export_image(point, "vda", tmp_path / "out")


def test_too_small_a_disk_is_refused_before_anything_is_written(point, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": MIB})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StoreFull, match="only 1,048,576 are free"):
        export_image(point, "vda", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_damage_leaves_no_file(point, tmp_path, monkeypatch):
    original = type(point.disks["vda"]).read
    calls = threading.Semaphore(1)

    def read(self, offset, length):
        if not calls.acquire(blocking=False):
            raise Damaged("frame 2 is damaged", subject="vm/x/log/2")
        return original(self, offset, length)

    monkeypatch.setattr(type(point.disks["vda"]), "read", read)
    with pytest.raises(Damaged):
        export_image(point, "vda", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
