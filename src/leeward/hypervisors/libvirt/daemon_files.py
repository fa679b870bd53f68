"""Files that libvirt names, as this process sees them.

A daemon may have a mount namespace of its own, and then other folders under the same names. Only one with a socket of
its own is suspected of that; the kernel tells its process, and /proc what that sees.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from leeward.domain.errors import HypervisorError

# Where the drivers for all users keep TPMs and variable stores; those for one user have both below one folder
# (libvirt: qemu_conf.c).
_SYSTEM_TPM, _SYSTEM_NVRAM = Path("/var/lib/libvirt/swtpm"), Path("/var/lib/libvirt/qemu/nvram")
_SYSTEM_VMS = Path("/var/lib/libvirt/qemu")
_USER = "libvirt/qemu"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class DaemonFiles:
    """uri: of the connection. The daemon must run on this machine. Thread-safe."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self._socket = parse_qs(parts.query).get("socket", [""])[0]
        self._user = parts.path == "/session"
        self._lock = threading.Lock()
        self._known: tuple[int, str] | None = None

    def path(self, named: str | Path) -> Path:
        """Raises HypervisorError when the daemon cannot be found."""
        if not self._socket:
            return Path(named)
        return Path(f"/proc/{self._process()}/root") / str(named).lstrip("/")

    def tpm_folder(self, vm_id: str, version: str) -> Path:
        """Where the daemon keeps the TPM of a VM whose definition names no place. version: "1.2" or "2.0"."""
        return self.tpm_folders / vm_id / ("tpm1.2" if version == "1.2" else "tpm2")

    @property
    def tpm_folders(self) -> Path:
        """Where the daemon keeps a folder for each VM with an emulated TPM."""
        return _users_folder() / "swtpm" if self._user else _SYSTEM_TPM

    def variable_store(self, vm_name: str) -> Path:
        """Where the daemon keeps the UEFI variables of a VM whose definition names no place."""
        base = _users_folder() / "nvram" if self._user else _SYSTEM_NVRAM
        return base / f"{vm_name}_VARS.fd"

    def vm_folder(self, number: int) -> Path:
        """The folder that the daemon made for a running VM, as it names it. QEMU may make sockets there, whatever
        user it runs as and with AppArmor too (libvirt: virDomainDefGetShortName, virt-aa-helper.c).

        number: the running VM's. Raises HypervisorError: it has just ended.
        """
        base = _users_folder() / "lib" if self._user else _SYSTEM_VMS
        for found in self.path(base).glob(f"domain-{number}-*"):
            return base / found.name
        raise HypervisorError("libvirt has no folder for this VM: it has just ended", subject=f"domain {number}")

    def _process(self) -> int:
        """The daemon's number. Asked of the socket only when it was started anew: each question is a connection."""
        with self._lock:
            if self._known is None or _born(self._known[0]) != self._known[1]:
                pid = _owner(self._socket)
                self._known = (pid, _born(pid))
            return self._known[0]


def _users_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / _USER


def _owner(path: str) -> int:
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(path)
        except OSError as error:
            raise HypervisorError(f"libvirt's socket does not answer: {error.strerror}", subject=path) from error
        found = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[0])


def _born(pid: int) -> str:
    """When the process was started, "" when it is gone: a number alone may have been given to another one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name, in parentheses, may have anything in it; the 20th word after it is the time of birth. One that is dead
    # (Z), and that nobody has taken note of, has no folders any more.
    words = text.rpartition(")")[2].split()
    return "" if words[0] == "Z" else words[19]
