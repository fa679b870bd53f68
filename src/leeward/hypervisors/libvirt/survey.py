"""What a libvirt has to offer to a recovered VM: storage pools and networks."""

from __future__ import annotations

import contextlib
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

from leeward.hypervisors.libvirt.connection import Connection
from leeward.ports.recovery_provider import Pool, Survey

_INTERFACES = Path("/sys/class/net")
_OURS = "leeward-"  # networks of copies


def survey(name: str, uri: str) -> Survey:
    """name: for errors. Raises HostUnavailable, HypervisorError."""
    return Connection(name, uri).ask(_survey, name)


def _survey(connection: libvirt.virConnect) -> Survey:
    networks = [net for net in connection.listAllNetworks(0) if net.isActive() and not net.name().startswith(_OURS)]
    # Behind these libvirt itself hands out addresses: they are offered by the network's name.
    behind = set()
    for net in connection.listAllNetworks(0):
        with contextlib.suppress(libvirt.libvirtError):  # one that has no bridge
            behind.add(net.bridgeName())
    bridges = [bridge for bridge in _bridges(connection) if bridge not in behind]
    return Survey(
        software=f"libvirt {_version(connection.getLibVersion())}",
        accelerated="<domain type='kvm'" in connection.getCapabilities(),
        pools=tuple(sorted(_pools(connection), key=lambda pool: pool.name)),
        networks=(
            *sorted(f"bridge:{name}" for name in bridges),
            *sorted(f"network:{net.name()}" for net in networks),
        ),
    )


def _pools(connection: libvirt.virConnect) -> list[Pool]:
    found = []
    try:
        pools = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    except libvirt.libvirtError:
        return []  # libvirt without its storage driver
    for pool in pools:
        root = ET.fromstring(pool.XMLDesc(0))
        path = root.findtext("target/path")
        if root.get("type") in ("dir", "fs", "netfs") and path:
            found.append(Pool(pool.name(), path, int(pool.info()[3])))
    return found


def _bridges(connection: libvirt.virConnect) -> list[str]:
    """By libvirt; where it was built without its interface driver, as this machine's kernel tells."""
    try:
        interfaces = connection.listAllInterfaces(libvirt.VIR_CONNECT_LIST_INTERFACES_ACTIVE)
        return [one.name() for one in interfaces if "type='bridge'" in one.XMLDesc(0)]
    except libvirt.libvirtError:
        return [folder.parent.name for folder in _INTERFACES.glob("*/bridge")]


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
