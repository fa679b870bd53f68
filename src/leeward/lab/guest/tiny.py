"""The tiny guest: Debian's cloud kernel, busybox, appd and qemu-ga on a disk that boots in seconds under TCG."""

from __future__ import annotations

import shutil
from pathlib import Path

from leeward.domain.errors import BadInput
from leeward.lab.guest import assembly, cache, packages
from leeward.lab.guest.layout import MIB

SMALLEST_MIB = 48
_SOURCES = ("start.sh", "stop.sh", "tiny.py")

_INITTAB = """\
::sysinit:/etc/start
ttyS0::respawn:/bin/sh
tty1::askfirst:/bin/sh
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
    key = assembly.digest(kernel, size_mib, *map(assembly.source, _SOURCES))
    return cache.built(
        folder, f"tiny-{size_mib}M-{key}.raw", lambda made: _build(made, kernel, agent, size_mib * MIB)
    )


def second_disk(folder: Path, size_mib: int = 32) -> Path:
    """A raw image with an empty journalled ext4, for the second disk."""
    name = f"second-{size_mib}M-{cache.digest(assembly.source('assembly.py'))}.raw"
    return cache.built(folder, name, lambda made: assembly.make_ext4(made, size_mib * MIB, None))


def boot_probe(folder: Path) -> tuple[Path, Path]:
    """Kernel and an initrd whose only act is to power the machine off: what proves that a guest boots here."""
    kernel = packages.kernel(folder)
    init = b"#!/bin/sh\nmount -t devtmpfs dev /dev\necho LEEWARD-PROBE-BOOTED >/dev/ttyS0\npoweroff -f\n"
    key = assembly.digest(kernel, init)

    def build(made: Path) -> None:
        root = made.with_name("probe-root")
        assembly.install_busybox(root)
        (root / "dev").mkdir()
        assembly.write_program(root / "init", init)
        made.write_bytes(assembly.archive(root))

    return kernel.image, cache.built(folder, f"probe-{key}.initrd", build)


def _build(made: Path, kernel: packages.Kernel, agent: Path, size: int) -> None:
    root = made.with_name("root")
    _make_root(root, kernel, agent)
    assembly.assemble(made, kernel, root, size)


def _make_root(root: Path, kernel: packages.Kernel, agent: Path) -> None:
    assembly.install_busybox(root)
    for name in ("dev", "proc", "sys", "run", "tmp", "etc", "data", "data2", "root", "sbin", "var"):
        (root / name).mkdir()
    (root / "var/run").symlink_to("../run")
    (root / "sbin/init").symlink_to("../bin/busybox")
    assembly.compile_appd(root / "bin/appd")
    assembly.write_program(root / "etc/start", assembly.source("start.sh"))
    assembly.write_program(root / "etc/stop", assembly.source("stop.sh"))
    assembly.write_program(root / "sbin/shutdown", _SHUTDOWN)
    assembly.write_program(root / "etc/acpi/PWRF/00000080", _POWER_BUTTON)
    (root / "etc/inittab").write_text(_INITTAB)
    (root / "etc/passwd").write_text("root::0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    assembly.copy_modules(kernel, assembly.DEVICE_MODULES, root / "modules", "order")
    assembly.copy_modules(kernel, assembly.ACPI_MODULES, root / "modules", "acpi")
    _install_agent(root, agent / "usr/sbin/qemu-ga")


def _install_agent(root: Path, program: Path) -> None:
    shutil.copy2(program, root / "sbin/qemu-ga")
    for library in packages.libraries(program):
        copy = root / library.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)
