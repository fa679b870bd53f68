"""An image's own word for its size is taken only where it is the size that was seen last."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from leeward.domain.vm import Disk
from leeward.hypervisors.libvirt.domain_xml import DiskXml
from leeward.hypervisors.libvirt.sizes import DiskSizes, image_size

MIB = 1 << 20


class Domain:
    """Tells a size of its own, and counts how often it is asked."""

    def __init__(self, size):
        self.size, self.asked = size, 0

    def blockInfo(self, target):  # noqa: N802 libvirt's name
        self.asked += 1
        return [self.size, 0, 0]


@pytest.fixture
def image():
    # Not below /tmp, which may be kept in memory: that cannot be read past the page cache everywhere.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="leeward-sizes-") as folder:
        path = Path(folder) / "image.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M"], check=True)
        yield path


def disk(path, form="qcow2"):
    return DiskXml("vda", "file", form, str(path))


def test_an_image_names_its_size(image):
    assert image_size(image) == 8 * MIB
    subprocess.run(["qemu-img", "resize", "-q", str(image), "12M"], check=True)
    assert image_size(image) == 12 * MIB


def test_what_is_no_image_names_none(tmp_path, image):
    other = image.with_suffix(".raw")
    for content in (b"", b"QFI\xfb", bytes(8192), b"QFI\xfb" + bytes(30)):
        other.write_bytes(content)
        assert image_size(other) == 0, content
    assert image_size(tmp_path / "none") == 0
    assert image_size(tmp_path) == 0


def test_an_unchanged_image_spares_the_question(image):
    sizes, domain = DiskSizes(), Domain(8 * MIB)
    assert sizes.now("vm", domain, disk(image), image) == 8 * MIB
    assert domain.asked == 1  # nothing was known yet
    sizes.note("vm", [Disk("vda", 8 * MIB)])
    assert sizes.now("vm", domain, disk(image), image) == 8 * MIB
    assert domain.asked == 1
    assert (sizes.last("vm", "vda"), sizes.last("vm", "vdb"), sizes.last("other", "vda")) == (8 * MIB, 0, 0)


def test_a_grown_image_is_asked_about(image):
    sizes, domain = DiskSizes(), Domain(12 * MIB)
    sizes.note("vm", [Disk("vda", 8 * MIB)])
    subprocess.run(["qemu-img", "resize", "-q", str(image), "12M"], check=True)
    assert sizes.now("vm", domain, disk(image), image) == 12 * MIB
    assert domain.asked == 1


@pytest.mark.parametrize("form", ["raw", "vmdk"])
def test_other_formats_are_asked_about(image, form):
    sizes, domain = DiskSizes(), Domain(8 * MIB)
    sizes.note("vm", [Disk("vda", 8 * MIB)])
    sizes.now("vm", domain, disk(image, form), image)
    assert domain.asked == 1


def test_an_image_that_cannot_be_read_is_asked_about(tmp_path):
    sizes, domain = DiskSizes(), Domain(8 * MIB)
    sizes.note("vm", [Disk("vda", 8 * MIB)])
    assert sizes.now("vm", domain, disk(tmp_path / "none"), tmp_path / "none") == 8 * MIB
    assert domain.asked == 1
