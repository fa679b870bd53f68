"""Scratch images: empty each time, of the disks' sizes, gone afterwards."""

import json
import resource
import subprocess

import pytest

from leeward.domain.errors import HypervisorError
from leeward.hypervisors.libvirt.scratch import Scratch

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"


@pytest.fixture
def scratch(tmp_path):
    return Scratch(tmp_path, VM)


def image(scratch, disk):
    return scratch.prefix.with_name(f"{scratch.prefix.name}.{disk}")


def told(path):
    done = subprocess.run(["qemu-img", "info", "--output=json", str(path)], check=True, capture_output=True)
    return json.loads(done.stdout)


def test_images_are_empty_and_as_large_as_the_disks(scratch):
    scratch.make({"vda": 64 << 20, "vdb": 2 * 2**20 + 512, "vdc": 64 << 20})
    for disk, size in (("vda", 64 << 20), ("vdb", 2 * 2**20 + 512), ("vdc", 64 << 20)):
        info = told(image(scratch, disk))
        assert (info["format"], info["virtual-size"]) == ("qcow2", size)
        subprocess.run(["qemu-img", "check", "-q", str(image(scratch, disk))], check=True)
        mapped = subprocess.run(["qemu-img", "map", "--output=json", str(image(scratch, disk))], capture_output=True)
        assert all(not extent["data"] for extent in json.loads(mapped.stdout))


def test_nothing_of_the_cycle_before_is_left(scratch):
    scratch.make({"vda": 1 << 20, "gone": 1 << 20})
    subprocess.run(["qemu-io", "-c", "write -P 7 0 64k", str(image(scratch, "vda"))], check=True, capture_output=True)
    scratch.make({"vda": 1 << 20})
    read = ["qemu-io", "-r", "-c", "read -P 0 0 64k", str(image(scratch, "vda"))]
    assert b"failed" not in subprocess.run(read, check=True, capture_output=True).stdout
    assert not image(scratch, "gone").exists()
    scratch.remove()
    assert not image(scratch, "vda").exists()


def test_nothing_that_a_crash_has_cut_short_is_used_again(scratch):
    """Of a file that was just made a power cut may leave the name alone."""
    scratch.make({"vda": 3 << 20})
    for left in scratch.folder.iterdir():
        left.write_bytes(b"")
    scratch.make({"vda": 3 << 20})
    assert told(image(scratch, "vda"))["virtual-size"] == 3 << 20
    scratch.remove()
    assert list(scratch.folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(HypervisorError, match="scratch image"):
        Scratch(tmp_path / "absent", VM).make({"vda": 1 << 20})


def test_a_folder_without_room_is_told_and_nothing_is_left(scratch):
    scratch.make({"vda": 1 << 20})  # what an empty one looks like is known from now on
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # to a program it is as good as a full disk
    try:
        with pytest.raises(HypervisorError, match="no scratch image can be made") as raised:
            scratch.make({"vda": 1 << 20})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "has room" in raised.value.hint
    assert not image(scratch, "vda").exists()


def test_a_size_that_cannot_be_made_is_told_and_takes_no_other_ones_place(scratch):
    with pytest.raises(HypervisorError, match="no scratch image can be made"):
        scratch.make({"vda": 1 << 20, "vdb": -1})
    assert not image(scratch, "vda").exists()
    scratch.make({"vda": 1 << 20})
    assert told(image(scratch, "vda"))["virtual-size"] == 1 << 20


def test_vms_whose_ids_begin_alike_do_not_share_an_image(tmp_path):
    """With hand-made ids one VM's cycle would have taken away the other one's."""
    one, other = (Scratch(tmp_path, f"00000000-0000-4000-8000-00000000000{n}") for n in (1, 2))
    one.make({"vda": 1 << 20})
    other.make({"vda": 1 << 20})
    other.remove()
    assert one.prefix.with_name(f"{one.prefix.name}.vda").exists()
