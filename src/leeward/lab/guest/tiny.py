"""The tiny guest: Debian's cloud kernel, busybox, appd and qemu-ga on a disk that boots in seconds under TCG."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

from leeward.domain.errors import BadInput, NotFound
from leeward.lab import tools
from leeward.lab.guest import cache, layout, packages
from leeward.lab.guest.layout import MIB

SMALLEST_MIB = 48
_HERE = Path(__file__).parent
_BUSYBOX = Path("/bin/busybox")
_MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")
_DEVICE_MODULES = ("virtio_net", "virtio_console")
_ACPI_MODULES = ("evdev", "button")
_SOURCES = ("appd.c", "initrd.sh", "start.sh", "stop.sh", "tiny.py", "layout.py", "packages.py")

# tsc=reliable, no_timer_check: the calibrations they skip cost a second under TCG. panic=1: never hang silently.
_KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet loglevel=3 mitigations=off no_timer_check tsc=reliable random.trust_cpu=on panic=1"
)
_SYSLINUX_CONFIG = f"""\
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
 KERNEL /vmlinuz
 APPEND initrd=/initrd {_KERNEL_ARGUMENTS}
"""
_INITTAB = """\
::sysinit:/etc/start
ttyS0::respawn:/bin/sh
::shutdown:/etc/stop
"""
# The guest agent's shutdown command runs `/sbin/shutdown -h|-r -P +0`, which busybox does not have.
_SHUTDOWN = """\
#!/bin/sh
case "$1" in -r) exec /bin/reboot ;; *) exec /bin/poweroff ;; esac
"""
_POWER_BUTTON = "#!/bin/sh\nexec /bin/poweroff\n"


def image(folder: Path, size_mib: int = 64) -> Path:
    """The raw disk image of the tiny guest without settings, built into the cache `folder` on first use.

    Raises BadInput (too small), NotFound (a build tool is missing), Unavailable (packages cannot be fetched).
    """
    if size_mib < SMALLEST_MIB:
        raise BadInput(f"the tiny guest needs at least {SMALLEST_MIB} MiB", subject=f"{size_mib} MiB")
    kernel, agent = packages.kernel(folder), packages.guest_agent(folder)
    sources = [(_HERE / name).read_bytes() for name in _SOURCES]
    key = cache.digest(kernel.release, _BUSYBOX.stat().st_size, size_mib, *sources)
    return cache.built(
        folder, f"tiny-{size_mib}M-{key}.raw", lambda made: _build(made, kernel, agent, size_mib * MIB)
    )


def second_disk(folder: Path, size_mib: int = 32) -> Path:
    """A raw image with an empty journalled ext4, for the second disk."""
    return cache.built(folder, f"second-{size_mib}M.raw", lambda made: _make_ext4(made, size_mib * MIB, None))


def boot_probe(folder: Path) -> tuple[Path, Path]:
    """Kernel and an initrd whose only act is to power the machine off: what proves that a guest boots here."""
    kernel = packages.kernel(folder)
    init = b"#!/bin/sh\nmount -t devtmpfs dev /dev\necho LEEWARD-PROBE-BOOTED >/dev/ttyS0\npoweroff -f\n"
    key = cache.digest(kernel.release, init, _BUSYBOX.stat().st_size)

    def build(made: Path) -> None:
        root = made.with_name("probe-root")
        _install_busybox(root)
        (root / "dev").mkdir()
        _write_program(root / "init", init)
        made.write_bytes(_archive(root))

    return kernel.image, cache.built(folder, f"probe-{key}.initrd", build)


def _build(made: Path, kernel: packages.Kernel, agent: Path, size: int) -> None:
    work = made.parent
    appd = work / "appd"
    tools.run(["gcc", "-static", "-O2", "-pthread", "-o", appd, _HERE / "appd.c"])
    root = work / "root"
    _make_root(root, kernel, agent, appd)
    _make_ext4(work / "root.ext4", size - layout.ROOT_OFFSET, root)
    _make_boot(work / "boot.fat", kernel, _make_initrd(work / "initrd-root", kernel))
    with made.open("wb") as disk:
        disk.write(layout.master_boot_record(_MBR_CODE.read_bytes(), size - layout.ROOT_OFFSET))
        disk.truncate(size)
    for part, offset in (("boot.fat", layout.BOOT_OFFSET), ("root.ext4", layout.ROOT_OFFSET)):
        tools.run(["dd", f"if={work / part}", f"of={made}", "bs=1M", f"seek={offset // MIB}", "conv=notrunc,sparse"])


def _install_busybox(root: Path) -> None:
    if not _BUSYBOX.exists():
        raise NotFound("busybox is not installed", hint="Install the package busybox-static")
    folder = root / "bin"
    folder.mkdir(parents=True)
    shutil.copy2(_BUSYBOX, folder / "busybox")
    for applet in tools.run([_BUSYBOX, "--list"]).split():
        if applet != "busybox":
            (folder / applet).symlink_to("busybox")


def _write_program(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o755)


def _copy_modules(kernel: packages.Kernel, names: tuple[str, ...], folder: Path, order: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = kernel.modules(names)
    for file in files:
        (folder / file.name.removesuffix(".xz")).write_bytes(packages.module_bytes(file))
    (folder / order).write_text("".join(f"{file.name.removesuffix('.xz')}\n" for file in files))


def _make_root(root: Path, kernel: packages.Kernel, agent: Path, appd: Path) -> None:
    _install_busybox(root)
    for name in ("dev", "proc", "sys", "run", "tmp", "etc", "data", "data2", "root", "sbin", "var"):
        (root / name).mkdir()
    (root / "var/run").symlink_to("../run")
    (root / "sbin/init").symlink_to("../bin/busybox")
    shutil.copy2(appd, root / "bin/appd")
    _write_program(root / "etc/start", (_HERE / "start.sh").read_bytes())
    _write_program(root / "etc/stop", (_HERE / "stop.sh").read_bytes())
    _write_program(root / "sbin/shutdown", _SHUTDOWN)
    _write_program(root / "etc/acpi/PWRF/00000080", _POWER_BUTTON)
    (root / "etc/inittab").write_text(_INITTAB)
    (root / "etc/passwd").write_text("root::0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    _copy_modules(kernel, _DEVICE_MODULES, root / "modules", "order")
    _copy_modules(kernel, _ACPI_MODULES, root / "modules", "acpi")
    _install_agent(root, agent / "usr/sbin/qemu-ga")


def _install_agent(root: Path, program: Path) -> None:
    shutil.copy2(program, root / "sbin/qemu-ga")
    for library in packages.libraries(program):
        copy = root / library.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)


def _make_initrd(root: Path, kernel: packages.Kernel) -> bytes:
    _install_busybox(root)
    for name in ("dev", "root"):
        (root / name).mkdir()
    _copy_modules(kernel, _DISK_MODULES, root / "modules", "order")
    _write_program(root / "init", (_HERE / "initrd.sh").read_bytes())
    return _archive(root)


def _archive(root: Path) -> bytes:
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


def _make_ext4(made: Path, size: int, content: Path | None) -> None:
    with made.open("wb") as file:
        os.truncate(file.fileno(), size)
    source: list[str | Path] = ["-d", content] if content else []
    tools.run(["mke2fs", "-q", "-t", "ext4", "-O", "has_journal", "-E", "root_owner=0:0", *source, made])
