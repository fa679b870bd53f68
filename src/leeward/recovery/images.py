"""Disk images on this host: made, mended, and read and written through qemu-nbd."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leeward.domain.errors import HypervisorError, NotFound
from leeward.hypervisors.nbd import Nbd
from leeward.logs import log

_START_S = 10.0
# Closing a qcow2 writes back what QEMU holds of its tables; a busy disk takes its time for that.
_END_S = 60.0
_EXPORT = "disk"


@dataclass(frozen=True, slots=True)
class Image:
    """format: raw, qcow2, … kind: file, or block for a device."""

    path: Path
    format: str = "qcow2"
    kind: str = "file"


def create(path: Path, size: int) -> None:
    """A new, empty qcow2 that reads as zeros; an existing file is replaced."""
    path.unlink(missing_ok=True)
    _qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=1.1", str(path), str(size))


def create_overlay(path: Path, base: Path, size: int) -> None:
    """A new, empty qcow2 that reads as `base`, a qcow2; an existing file is replaced."""
    path.unlink(missing_ok=True)
    options = ("-b", str(base.absolute()), "-F", "qcow2")
    _qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=1.1", *options, str(path), str(size))


def merge(overlay: Path, base: Path) -> None:
    """Write what an overlay has into its base, durably. Repeat after a kill; the overlay stays as it is."""
    _qemu_img("commit", "-q", "-d", "-f", "qcow2", str(overlay))
    descriptor = os.open(base, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def resize(path: Path, size: int) -> None:
    """Cut a qcow2, or let it grow by zeros, to `size` bytes; nothing when it has them."""
    if virtual_size(path) != size:
        _qemu_img("resize", "-q", "-f", "qcow2", "--shrink", str(path), str(size))


def virtual_size(path: Path) -> int:
    return int(_info(path)["virtual-size"])


def drop_bitmaps(path: Path) -> None:
    """Remove the change tracking that a VM which used the image has left in it."""
    details = _info(path).get("format-specific", {}).get("data", {})
    for bitmap in details.get("bitmaps", []):
        _qemu_img("bitmap", "--remove", "-f", "qcow2", str(path), bitmap["name"])


def _info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_qemu_img("info", "-U", "-f", "qcow2", "--output=json", str(path)))
    return found


def sound(path: Path) -> bool:
    """Whether a qcow2 that a killed process left can be used; space that it lost is given back."""
    command = ["qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks", str(path)]
    # 0: sound, also after mending; 3: leaks are left. Everything else is damage, or no qcow2 at all.
    return subprocess.run(command, capture_output=True, check=False).returncode in (0, 3)


def _qemu_img(*arguments: str) -> str:
    try:
        done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotFound("qemu-img is not installed", hint="Install the package qemu-utils") from None
    if done.returncode:
        raise HypervisorError(
            f"qemu-img {arguments[0]} failed: {done.stderr.strip()}",
            subject=arguments[-2] if arguments[0] in ("create", "resize", "bitmap") else arguments[-1],
            hint="See whether the host's storage has room and the image is not in use",
        )
    return done.stdout


class ImageProcess:
    """A qemu-nbd process for one image. Use it as a context manager; connections must be closed before it is.

    It ends by itself when its last connection closes, so it does not outlive us; one that was killed with its maker
    before the first connection is found by its socket and ended.
    """

    def __init__(self, image: Image, socket: Path, *, writable: bool = False) -> None:
        self.image = image
        self._socket = socket
        _end_leftover(socket)
        socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            _command(image, socket, writable),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            self._first = self._await()  # keeps it alive
        except BaseException:
            self._kill()
            raise
        self.size = self._first.size

    def _await(self) -> Nbd:
        ends = time.monotonic() + _START_S
        while True:
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                text = self._process.stderr.read().decode(errors="replace").strip()
                raise HypervisorError(f"qemu-nbd cannot open the image: {text}", subject=str(self.image.path))
            with contextlib.suppress(HypervisorError):  # the socket is there a moment before somebody listens
                if self._socket.exists():
                    return self.connect()
            if time.monotonic() > ends:
                raise HypervisorError("qemu-nbd did not start in time", subject=str(self.image.path))
            time.sleep(0.005)

    def connect(self, contexts: Sequence[str] = ()) -> Nbd:
        """A connection of its own, for one thread."""
        return Nbd(self._socket, _EXPORT, contexts)

    def flush(self) -> None:
        self._first.flush()

    def close(self) -> None:
        """Returns when the image is closed. Idempotent."""
        self._first.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            log.warning("qemu-nbd did not end by itself", image=str(self.image.path))
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
        self._socket.unlink(missing_ok=True)

    def __enter__(self) -> ImageProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _command(image: Image, socket: Path, writable: bool) -> list[str]:
    # A comma in a file name is written twice in QEMU's option syntax.
    path = str(image.path).replace(",", ",,")
    driver = "host_device" if image.kind == "block" else "file"
    options = f"driver={image.format},file.driver={driver},file.filename={path}"
    command = ["qemu-nbd", "--shared=0", f"--socket={socket}", f"--export-name={_EXPORT}", "--image-opts"]
    # Past the page cache: what is read back was read from the disk, and a restore pushes out nothing of others.
    command.append(f"--cache={'none' if _direct(image.path) else 'writeback'}")
    if writable:
        return [*command, "--discard=unmap", options]
    return [*command, "--read-only", f"{options},force-share=on"]


def _direct(path: Path) -> bool:
    """Whether the file system can do without its page cache (a tmpfs cannot)."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


def _end_leftover(socket: Path) -> None:
    """End the server that a killed predecessor left at this socket; it holds the image's lock."""
    wanted = f"--socket={socket}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"qemu-nbd") and wanted in words:
                    os.kill(int(entry.name), signal.SIGKILL)
                    _wait_gone(entry)


def _wait_gone(entry: Path) -> None:
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        try:
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.005)
