"""Putting a guest's disk together: boot loader, kernel, initrd, root; without mounts and loop devices."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

from leeward.domain.errors import NotFound
from leeward.lab import tools
from leeward.lab.guest import cache, layout, packages
from leeward.lab.guest.layout import MIB

DEVICE_MODULES = ("virtio_net", "virtio_console")
ACPI_MODULES = ("evdev", "button")
_DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")
_HERE = Path(__file__).parent
_BUSYBOX = Path("/bin/busybox")
_MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_SOURCES = ("appd.c", "initrd.sh", "assembly.py", "layout.py", "packages.py")

# tsc=reliable, no_timer_check: the calibrations they skip cost a second under TCG. panic=1: never hang silently.
# net.ifnames=0: the card is eth0 whatever slot a recovery gives it.
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet loglevel=3 mitigations=off no_timer_check tsc=reliable random.trust_cpu=on panic=1"
    " net.ifnames=0"
)
_SYSLINUX_CONFIG = f"""\
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
 KERNEL /vmlinuz
 APPEND initrd=/initrd {KERNEL_ARGUMENTS}
"""


def digest(kernel: packages.Kernel, *own: object) -> str:
    """Content hash of all that goes into a disk: what is common to all kinds of guest, and `own`."""
    sources = [source(name) for name in _SOURCES]
    return cache.digest(kernel.release, _BUSYBOX.stat().st_size, *sources, *own)


def source(name: str) -> bytes:
    """A file of this package."""
    return (_HERE / name).read_bytes()


def assemble(made: Path, kernel: packages.Kernel, root: Path, size: int) -> None:
    """Write the raw disk `made` of `size` bytes that boots `kernel` with the folder `root` as its root."""
    work = made.parent
    make_ext4(work / "root.ext4", size - layout.ROOT_OFFSET, root)
    _make_boot(work / "boot.fat", kernel, _make_initrd(work / "initrd-root", kernel))
    with made.open("wb") as disk:
        disk.write(layout.master_boot_record(_MBR_CODE.read_bytes(), size - layout.ROOT_OFFSET))
        disk.truncate(size)
    for part, offset in (("boot.fat", layout.BOOT_OFFSET), ("root.ext4", layout.ROOT_OFFSET)):
        tools.run(["dd", f"if={work / part}", f"of={made}", "bs=1M", f"seek={offset // MIB}", "conv=notrunc,sparse"])
        (work / part).unlink()


def compile_appd(made: Path) -> None:
    """Statically linked, so that it runs in every guest."""
    tools.run(["gcc", "-static", "-O2", "-pthread", "-o", made, _HERE / "appd.c"])


def install_busybox(root: Path) -> None:
    if not _BUSYBOX.exists():
        raise NotFound("busybox is not installed", hint="Install the package busybox-static")
    folder = root / "bin"
    folder.mkdir(parents=True)
    shutil.copy2(_BUSYBOX, folder / "busybox")
    for applet in tools.run([_BUSYBOX, "--list"]).split():
        if applet != "busybox":
            (folder / applet).symlink_to("busybox")


def write_program(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o755)


def copy_modules(kernel: packages.Kernel, names: tuple[str, ...], folder: Path, order: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = kernel.modules(names)
    for file in files:
        (folder / file.name.removesuffix(".xz")).write_bytes(packages.module_bytes(file))
    (folder / order).write_text("".join(f"{file.name.removesuffix('.xz')}\n" for file in files))


def _make_initrd(root: Path, kernel: packages.Kernel) -> bytes:
    install_busybox(root)
    for name in ("dev", "root"):
        (root / name).mkdir()
    copy_modules(kernel, _DISK_MODULES, root / "modules", "order")
    write_program(root / "init", (_HERE / "initrd.sh").read_bytes())
    return archive(root)


def archive(root: Path) -> bytes:
    """The folder as a gzipped newc archive, the form in which the kernel takes its initrd."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    packed = root.with_suffix(".cpio")
    # busybox's own cpio: the tool is a build need already, GNU cpio would be one more.
    listing = "".join(f"{name}\n" for name in names).encode()
    tools.run(["sh", "-c", 'exec "$0" cpio -o -H newc >"$1"', _BUSYBOX, packed.absolute()], cwd=root, stdin=listing)
    return gzip.compress(packed.read_bytes(), 1, mtime=0)


def _make_boot(made: Path, kernel: packages.Kernel, initrd: bytes) -> None:
    """A FAT16 file system with boot loader, kernel and initrd. All in user space: no mount, no loop device."""
    files = made.with_suffix(".files")
    files.mkdir()
    (files / "initrd").write_bytes(initrd)
    (files / "syslinux.cfg").write_text(_SYSLINUX_CONFIG)
    shutil.copy(kernel.image, files / "vmlinuz")
    hidden = layout.BOOT_OFFSET // layout.SECTOR
    sectors = layout.BOOT_SIZE // layout.SECTOR
    tools.run(["mformat", "-C", "-i", made, "-T", sectors, "-h", "64", "-s", "32", "-H", hidden, "::"])
    tools.run(["syslinux", "--install", made])
    tools.run(["mcopy", "-i", made, *sorted(files.iterdir()), "::/"])


def make_ext4(made: Path, size: int, content: Path | None) -> None:
    with made.open("wb") as file:
        os.truncate(file.fileno(), size)
    source: list[str | Path] = ["-d", content] if content else []
    tools.run(["mke2fs", "-q", "-t", "ext4", "-O", "has_journal", "-E", "root_owner=0:0", *source, made])
