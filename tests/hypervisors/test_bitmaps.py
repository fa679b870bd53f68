"""Bitmaps in the images of a disk, with real images and no VM."""

import subprocess

import pytest

from leeward.domain.errors import TrackingLost
from leeward.hypervisors.libvirt.bitmaps import require_in_one
from leeward.hypervisors.libvirt.domain_xml import DiskXml


def qemu_img(*words):
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    qemu_img("create", "-f", "qcow2", tmp_path / "a", "1M")
    return DiskXml("vda", "file", "qcow2", str(tmp_path / "a"))


def overlaid(disk, tmp_path):
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", disk.path, tmp_path / "b")
    return DiskXml("vda", "file", "qcow2", str(tmp_path / "b"))


def test_tracking_in_the_uppermost_image_alone_will_do(disk):
    qemu_img("bitmap", "--add", disk.path, "ours")
    require_in_one(disk, "ours")


def test_tracking_that_is_gone_is_not_told_as_an_overlay_for_sure(disk):
    with pytest.raises(TrackingLost, match=r"disk vda is not in its uppermost image, .* it is gone, or "):
        require_in_one(disk, "ours")


@pytest.mark.parametrize("where", [["a"], ["a", "b"]])
def test_tracking_that_is_in_an_image_below_is_told_as_that(disk, tmp_path, where):
    over = overlaid(disk, tmp_path)
    for image in where:
        qemu_img("bitmap", "--add", tmp_path / image, "ours")
    with pytest.raises(TrackingLost, match=r"or not in that one alone: .* has been given an overlay"):
        require_in_one(over, "ours")
