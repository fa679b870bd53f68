"""Network namespaces: made idempotently, entered by single sockets, emptied of processes."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from leeward.domain.errors import LeewardError, Unavailable
from leeward.lab import tools

_FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_libc = ctypes.CDLL(None, use_errno=True)


def exists(name: str) -> bool:
    """True for a whole namespace; a killed `ip netns add` can leave a plain file that is none."""
    try:
        return (_FOLDER / name).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def ensure(name: str) -> None:
    if exists(name):
        return
    delete(name)
    tools.run(["ip", "netns", "add", name])
    ip(name, "link set lo up")


def delete(name: str) -> None:
    """Remove the namespace and with it all its links; nothing when there is none."""
    if (_FOLDER / name).exists():
        tools.run(["ip", "netns", "delete", name])


def ip(name: str, *commands: str) -> None:
    """Run `ip` commands in the namespace, e.g. ip("lw-office", "link set br0 up"); the first failure raises."""
    for command in commands:
        tools.run(["ip", "-n", name, *command.split()])


def has_link(name: str, link: str) -> bool:
    try:
        ip(name, f"link show dev {link}")
    except LeewardError:
        return False
    return True


def set_sysctl(name: str, **values: str) -> None:
    """Set sysctls in the namespace; a double underscore in a key stands for a dot."""
    settings = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
    tools.run(["ip", "netns", "exec", name, "busybox", "sysctl", "-q", "-w", *settings])


def connect_links(first: tuple[str, str], second: tuple[str, str]) -> None:
    """A virtual cable between two (namespace, link) ends, made in one step and never visible outside of them."""
    if not has_link(*first):
        ip(first[0], f"link add {first[1]} type veth peer name {second[1]} netns {second[0]}")
    for namespace, link in (first, second):
        ip(namespace, f"link set {link} up")


def open_socket(name: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket that lives in the namespace whichever thread uses it. Raises Unavailable when there is none."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        # A thread's namespace is its own and ends with it, so no other thread ever sees the switch.
        try:
            with (_FOLDER / name).open("rb") as handle:
                if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))  # noqa: TRY301 - the handler below reports both kinds
            made.append(socket.socket(family, kind))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make, name=f"netns-{name}")
    thread.start()
    thread.join()
    if failed:
        raise Unavailable(f"cannot enter the network namespace: {failed[0]}", subject=name, hint="Is the lab up?")
    return made[0]


def identities(names: Iterable[str]) -> frozenset[int]:
    """What the namespaces are known by even after their names are gone, as long as a process lives in them."""
    return frozenset((_FOLDER / name).stat().st_ino for name in names if exists(name))


def processes(wanted: frozenset[int]) -> Iterator[int]:
    """Ids of all processes whose network is one of these (see `identities`), this process excepted."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            inode = (entry / "ns/net").stat().st_ino
        except OSError:
            continue  # it has ended meanwhile, or is a zombie
        if inode in wanted:
            yield int(entry.name)
