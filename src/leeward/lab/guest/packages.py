"""Kernel and guest agent, taken from Debian packages that are unpacked into the cache and never installed."""

from __future__ import annotations

import lzma
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from leeward.domain.errors import LeewardError, NotFound, Unavailable
from leeward.lab import tools
from leeward.lab.guest import cache

KERNEL_META_PACKAGE = "linux-image-cloud-amd64"
AGENT_PACKAGE = "qemu-guest-agent"


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked Debian kernel: `release` as in `uname -r`, `root` the folder it was unpacked into."""

    release: str
    root: Path

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"

    def modules(self, names: Sequence[str]) -> list[Path]:
        """The files of these modules and all they need, in the order of loading; built-in ones are left out."""
        folder = self.root / "lib" / "modules" / self.release
        needs = _dependencies(folder / "modules.dep")
        builtin = {_module_name(line) for line in (folder / "modules.builtin").read_text().split()}
        order: list[Path] = []
        for name in names:
            if name in builtin:
                continue
            if name not in needs:
                raise NotFound(f"the kernel has no module {name}", subject=self.release)
            order += [folder / file for file in needs[name] if folder / file not in order]
        return order


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _dependencies(table: Path) -> dict[str, list[str]]:
    """modules.dep as module name → its files, deepest need first (the file lists them last)."""
    needs = {}
    for line in table.read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[_module_name(file)] = [*reversed(rest.split()), file]
    return needs


def module_bytes(file: Path) -> bytes:
    """A module as `insmod` wants it; newer Debian kernels ship them as .ko.xz."""
    data = file.read_bytes()
    return lzma.decompress(data) if file.suffix == ".xz" else data


def kernel(folder: Path) -> Kernel:
    """The newest cloud kernel that apt offers, fetched on first use; later the one in the cache."""
    root = cache.built(folder, "kernel", _unpack_kernel)
    release = next((root / "lib" / "modules").iterdir()).name
    return Kernel(release, root)


def guest_agent(folder: Path) -> Path:
    """The folder with the unpacked guest agent; its program is usr/sbin/qemu-ga."""
    return cache.built(folder, "guest-agent", lambda made: _unpack([AGENT_PACKAGE], made))


def libraries(program: Path) -> Iterator[Path]:
    """The shared libraries and the loader that `program` needs, as this machine has them."""
    for line in tools.run(["ldd", program]).splitlines():
        if "not found" in line:
            raise NotFound(f"a library is missing on this machine: {line.strip()}", subject=str(program))
        found = re.search(r"(/\S+) \(0x", line)
        if found:
            yield Path(found.group(1))


def _unpack_kernel(made: Path) -> None:
    listing = _apt(["apt-cache", "depends", KERNEL_META_PACKAGE])
    found = re.search(r"Depends: (linux-image-\S+)", listing)
    if not found:
        raise LeewardError(f"apt knows no kernel for {KERNEL_META_PACKAGE}", hint="Run apt-get update")
    _unpack([found.group(1)], made)
    release = next((made / "lib" / "modules").iterdir()).name
    tools.run(["depmod", "-b", made, release])


def _unpack(names: Sequence[str], made: Path) -> None:
    downloads = made.with_name("downloads")
    downloads.mkdir()
    _apt(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names], cwd=downloads)
    made.mkdir()
    for package in sorted(downloads.glob("*.deb")):
        tools.run(["dpkg-deb", "-x", package, made])
    shutil.rmtree(downloads)


def _apt(argv: Sequence[str], cwd: Path | None = None) -> str:
    """Run apt; when its package lists are missing or stale, renew them once."""
    try:
        return tools.run(argv, cwd=cwd)
    except NotFound:
        raise
    except LeewardError:
        try:
            tools.run(["apt-get", "-q", "update"])
            return tools.run(argv, cwd=cwd)
        except LeewardError as error:
            raise Unavailable(f"apt cannot fetch the guest's packages: {error}", hint="Check the network") from error
