"""The networks that this machine stands on, as ranges to scan: what somebody who knows no addresses begins with."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address
from pathlib import Path

from leeward.network.discovery.ranges import MAX_ADDRESSES

# The thread's own view, as in `neighbours`.
_ROUTES = Path("/proc/thread-self/net/route")
_UP, _GATEWAY = 0x1, 0x2  # RTF_* in <linux/route.h>
# Bridges of libvirt and of containers lead to guests of this very machine.
_INSIDE = ("virbr", "docker", "br-", "veth", "lwt-", "podman", "cni", "lo")


def networks(table: str) -> tuple[str, ...]:
    """Networks that can be reached without a router and are small enough to be scanned. table: as in /proc/net/route,
    addresses in hexadecimal, the lowest byte first. Pure."""
    found: dict[str, None] = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        name, flags = fields[0], int(fields[3], 16)
        if not flags & _UP or flags & _GATEWAY or name.startswith(_INSIDE):
            continue
        first, mask = (ip_address(bytes.fromhex(fields[column])[::-1]) for column in (1, 7))
        network = IPv4Network(f"{first}/{mask}")
        if not network.is_link_local and 2 < network.num_addresses <= MAX_ADDRESSES:
            found[str(network)] = None
    return tuple(found)


def own_networks() -> tuple[str, ...]:
    try:
        return networks(_ROUTES.read_text())
    except (OSError, ValueError, IndexError):  # no such table here, or of another form: then nothing is suggested
        return ()
