"""The Debian guest: a real Debian with systemd, with the tiny guest's application and settings."""

from __future__ import annotations

from pathlib import Path

from leeward.domain.errors import BadInput, LeewardError, Unavailable
from leeward.lab import tools
from leeward.lab.guest import assembly, cache, packages
from leeward.lab.guest.layout import MIB

SMALLEST_MIB = 512
_PACKAGES = ("systemd-sysv", "dbus", "udev", "kmod", "iproute2", "iputils-arping", "qemu-guest-agent")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_SOURCES = ("debian.py", "debian-settings.sh")
# Clockwork that would write to the disk and take the only processor while a test measures.
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer")

_UNITS = {
    "leeward-settings.service": """\
[Unit]
Description=Settings of this guest, read from its disk
After=systemd-udevd.service local-fs.target
Before=systemd-logind.service qemu-guest-agent.service leeward-appd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/leeward-settings
""",
    "leeward-appd.service": """\
[Unit]
Description=Numbered records, served over HTTP
Requires=leeward-settings.service
After=leeward-settings.service
[Service]
EnvironmentFile=/run/leeward/appd
ExecStart=/usr/local/sbin/appd $INTERVAL_MS 80 $FILES
[Install]
WantedBy=multi-user.target
""",
    "qemu-guest-agent.service.d/leeward.conf": """\
[Unit]
Requires=leeward-settings.service
After=leeward-settings.service
ConditionPathExists=/run/leeward/agent
""",
    "systemd-logind.service.d/leeward.conf": """\
[Unit]
Wants=leeward-settings.service
After=leeward-settings.service
""",
}


def image(folder: Path, size_mib: int = 1024) -> Path:
    """The raw disk image of the Debian guest without settings, built into the cache `folder` on first use.

    Raises BadInput (too small), NotFound (a build tool is missing), Unavailable (packages cannot be fetched).
    """
    if size_mib < SMALLEST_MIB:
        raise BadInput(f"the Debian guest needs at least {SMALLEST_MIB} MiB", subject=f"{size_mib} MiB")
    kernel = packages.kernel(folder)
    key = assembly.digest(kernel, size_mib, *map(assembly.source, _SOURCES))
    return cache.built(folder, f"debian-{size_mib}M-{key}.raw", lambda made: _build(made, kernel, size_mib * MIB))


def _build(made: Path, kernel: packages.Kernel, size: int) -> None:
    root = made.with_name("root")
    _bootstrap(root)
    _install_modules(root, kernel)
    _configure(root)
    assembly.assemble(made, kernel, root, size)


def _bootstrap(root: Path) -> None:
    left_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(_PACKAGES)}", *left_out]
    try:
        tools.run(["mmdebstrap", "--quiet", *options, _release(), root], timeout_s=1200)
    except LeewardError as error:
        raise Unavailable(
            f"Debian could not be installed into the guest: {error}", hint="Check the network"
        ) from error


def _release() -> str:
    """This machine's own Debian release, whose packages and keys are at hand; else the stable one."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return "stable"


def _install_modules(root: Path, kernel: packages.Kernel) -> None:
    folder = root / "usr/lib/modules" / kernel.release
    for file in kernel.modules([*assembly.DEVICE_MODULES, *assembly.ACPI_MODULES]):
        target = folder / file.name.removesuffix(".xz")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(packages.module_bytes(file))
    tools.run(["depmod", "-b", root, kernel.release])


def _configure(root: Path) -> None:
    for name in ("data", "data2"):
        (root / name).mkdir()
    assembly.compile_appd(root / "usr/local/sbin/appd")
    assembly.write_program(root / "usr/local/sbin/leeward-settings", assembly.source("debian-settings.sh"))
    units = root / "etc/systemd/system"
    for name, text in _UNITS.items():
        (units / name).parent.mkdir(parents=True, exist_ok=True)
        (units / name).write_text(text)
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "leeward-appd.service").symlink_to("../leeward-appd.service")
    for name in _MASKED:
        (units / name).symlink_to("/dev/null")
    # Each guest draws its own at its first start.
    (root / "etc/machine-id").write_text("")
    shadow = root / "etc/shadow"
    shadow.write_text("".join(_without_password(line) for line in shadow.read_text().splitlines(keepends=True)))


def _without_password(line: str) -> str:
    """root may log in on the serial console, which only the lab's owner reaches."""
    fields = line.split(":")
    return ":".join([fields[0], "", *fields[2:]]) if fields[0] == "root" else line
