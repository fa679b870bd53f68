import lzma
from pathlib import Path

import pytest

from leeward.domain.errors import NotFound
from leeward.lab.guest import packages
from leeward.lab.guest.packages import Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    folder = tmp_path / "lib/modules/6.1"
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text(
        "k/virtio.ko: k/virtio_ring.ko\nk/virtio_ring.ko:\nk/virtio-pci.ko.xz: k/virtio.ko k/virtio_ring.ko\n"
        "k/virtio_blk.ko: k/virtio.ko k/virtio_ring.ko\n"
    )
    (folder / "modules.builtin").write_text("k/ext4.ko\n")
    return Kernel("6.1", tmp_path)


def test_modules_come_in_the_order_of_loading_each_once(kernel: Kernel) -> None:
    names = [file.name for file in kernel.modules(["virtio_pci", "virtio_blk", "ext4"])]
    assert names == ["virtio_ring.ko", "virtio.ko", "virtio-pci.ko.xz", "virtio_blk.ko"]


def test_a_module_that_is_nowhere_is_told(kernel: Kernel) -> None:
    with pytest.raises(NotFound, match="no module e1000"):
        kernel.modules(["e1000"])


def test_packed_modules_are_unpacked(tmp_path: Path) -> None:
    packed, plain = tmp_path / "a.ko.xz", tmp_path / "b.ko"
    packed.write_bytes(lzma.compress(b"\x7fELF"))
    plain.write_bytes(b"\x7fELF2")
    assert packages.module_bytes(packed) == b"\x7fELF"
    assert packages.module_bytes(plain) == b"\x7fELF2"
