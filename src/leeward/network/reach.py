"""How a libvirt host reaches the VMs that run on it: these very VMs, and no others that have the same address.

Sockets are opened where QEMU lives, which mostly is where we live too. Where the host has no foot in the guest's net
(a switch without any way out; a net that was left behind at home) it is visited from a stub: a namespace of its own,
plugged into the guest's bridge with an address of the guest's net, so that none of these meets one of the host's.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import random
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu

from leeward.domain.errors import HypervisorError, VmGone
from leeward.hypervisors.libvirt.connection import Connection, call_within
from leeward.network import namespaces

# The guest agent's answers; one that hangs must not hold a check up for long.
_AGENT_S = 5
# How long another guest may take to say that an address is its own.
_ARP_S = 0.3
_ETH_ARP = 0x0806
_numbers = itertools.count()

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class _Card:
    """mac: of the guest's end. tap: the host's end. bridge: what it hangs on, "" when that is no bridge of Linux's
    own. taken: addresses that the guest has."""

    mac: str
    tap: str
    bridge: str
    mtu: int
    taken: frozenset[Any]


class LibvirtReach:
    """See `leeward.agent.probing.Reach`."""

    def __init__(self, name: str, uri: str) -> None:
        self._connection = Connection(name, uri)
        namespaces.sweep()

    def agent_answers(self, vm_id: str) -> bool:
        domain = self._connection.domain(vm_id)
        try:
            return bool(libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": "guest-ping"}), _AGENT_S, 0))
        except libvirt.libvirtError:
            return False

    def addresses(self, vm_id: str) -> list[str]:
        return [str(address) for _, address in self._told(vm_id)]

    def _told(self, vm_id: str) -> list[tuple[str, Interface]]:
        """(hardware address, address) as the guest's agent tells them; loopback and link-local ones left out."""
        domain = self._connection.domain(vm_id)
        source = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
        try:
            told: dict[str, Any] = call_within(_AGENT_S, vm_id, domain.interfaceAddresses, source) or {}
        except VmGone:
            raise
        except HypervisorError:
            return []
        return usable_addresses(told)

    @contextmanager
    def connect(
        self, vm_id: str, address: str, port: int, timeout_s: float, *, isolated: bool
    ) -> Iterator[socket.socket]:
        wanted = ipaddress.ip_interface(address if "/" in address else f"{address}/{_prefix(address)}")
        home = network_of(vm_id)
        card = self._card(vm_id, home, wanted)
        if not isolated and (not card.bridge or _next_door(home, wanted, card.bridge)):
            with namespaces.inside(home, lambda: _connect(str(wanted.ip), port, timeout_s)) as connected:
                yield connected
            return
        if not card.bridge:
            raise HypervisorError("its card hangs on no bridge that could be visited", subject=card.tap)
        with namespaces.made() as stub:
            self._plug(home, stub, wanted, card)
            there = namespaces.path_of(stub)
            with namespaces.inside(there, lambda: _connect(str(wanted.ip), port, timeout_s)) as connected:
                yield connected

    def _card(self, vm_id: str, home: Path, wanted: Interface) -> _Card:
        """The card that has the address."""
        told = self._told(vm_id)
        having = next((mac for mac, address in told if address.ip == wanted.ip), "")
        mac, tap = card_of(self._connection.domain(vm_id).XMLDesc(0), having)
        link = _link(home, tap)
        bridge = str(link.get("master", ""))
        if bridge and _link(home, bridge).get("linkinfo", {}).get("info_kind") != "bridge":
            bridge = ""  # a switch of another kind, which nothing can be plugged into like this
        taken = {address.ip for _, address in told} | {wanted.ip}
        return _Card(mac, tap, bridge, int(link["mtu"]), frozenset(taken))

    def _plug(self, home: Path, stub: str, wanted: Interface, card: _Card) -> None:
        """Into the switch on which the card hangs, with an address that it takes for a neighbour's."""
        enter = ("nsenter", f"--net={home}")
        port = f"lwp{os.getpid() % 100_000}-{next(_numbers) % 10_000}"
        eth = ("type", "veth", "peer", "name", "eth0", "netns", stub)
        namespaces.run(*enter, "ip", "link", "add", port, "mtu", str(card.mtu), *eth)
        namespaces.run(*enter, "ip", "link", "set", port, "master", card.bridge, "up")
        namespaces.run("ip", "-n", stub, "link", "set", "eth0", "up")
        ours = namespaces.inside(namespaces.path_of(stub), lambda: _free_address(wanted, card.taken))
        plain = ("nodad",) if wanted.version == 6 else ()
        namespaces.run("ip", "-n", stub, "addr", "add", f"{ours}/{wanted.network.prefixlen}", "dev", "eth0", *plain)
        # Asked by ARP, the host would answer too where one of its own addresses is the same, whichever card has it.
        known = ("lladdr", card.mac, "dev", "eth0", "nud", "permanent")
        namespaces.run("ip", "-n", stub, "neigh", "replace", str(wanted.ip), *known)


def _link(home: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        namespaces.run("nsenter", f"--net={home}", "ip", "-d", "-j", "link", "show", "dev", name)
    )[0]
    return found


def _next_door(home: Path, wanted: Interface, bridge: str) -> bool:
    """Whether the host itself has a foot in the guest's net, on the very bridge on which the guest hangs. Any other
    way could lead to somebody else who has the same address: the original at home."""
    try:
        told = namespaces.run("nsenter", f"--net={home}", "ip", "-j", "route", "get", str(wanted.ip))
    except HypervisorError:
        return False
    route = json.loads(told)[0]
    return route.get("dev") == bridge and "gateway" not in route and route.get("type", "unicast") == "unicast"


def usable_addresses(told: dict[str, Any]) -> list[tuple[str, Interface]]:
    """(hardware address, address) out of libvirt's answer. Pure."""
    found = []
    for card in told.values():
        for entry in card.get("addrs") or ():
            address = ipaddress.ip_interface(f"{entry['addr'].split('%')[0]}/{entry['prefix']}")
            if not (address.is_loopback or address.is_link_local):
                found.append((str(card.get("hwaddr") or "").lower(), address))
    return found


def card_of(xml: str, having: str) -> tuple[str, str]:
    """(hardware address, the host's end) of the card with this hardware address, or of the first card. Pure."""
    cards = {}
    for interface in ET.fromstring(xml).findall("devices/interface"):
        mac, target = interface.find("mac"), interface.find("target")
        if mac is not None and target is not None and target.get("dev"):
            cards[mac.get("address", "").lower()] = target.get("dev", "")
    if not cards:
        raise HypervisorError("it has no card to reach it by", hint="Is it running?")
    mac_address = having if having in cards else next(iter(cards))
    return mac_address, cards[mac_address]


def _prefix(address: str) -> int:
    """Of an address that was given without one."""
    return 64 if ":" in address else 24


def network_of(vm_id: str) -> Path:
    """The network namespace in which QEMU runs this VM."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(words[n : n + 2] == [b"-uuid", vm_id.encode()] for n in range(len(words))):
                return entry / "ns" / "net"
    raise HypervisorError("it does not run", subject=vm_id)


def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    return socket.create_connection((host, port), timeout_s)


def _free_address(wanted: Interface, taken: Collection[Any]) -> Any:
    """An address of the guest's net that nobody on its switch has: the last ones are tried first. Of a net so large
    that chance is enough, a random one. To be called inside the stub."""
    network = wanted.network
    if wanted.version == 6:
        return network[random.randrange(1 << 16, 1 << 32)] if network.prefixlen <= 64 else network[-2]
    last = int(network.broadcast_address) - (1 if network.prefixlen < 31 else 0)
    for number in range(last, max(int(network.network_address), last - 50), -1):
        address = ipaddress.ip_address(number)
        if address not in taken and not _answers(address.packed):
            return address
    raise HypervisorError("its net has no free address to look from", subject=str(network))


def _answers(address: bytes) -> bool:
    """Ask by ARP, from no address of our own, whether somebody has this one."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ARP)) as raw:
        raw.bind(("eth0", _ETH_ARP))
        mac = raw.getsockname()[4]
        ask = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), address)
        raw.send(b"\xff" * 6 + mac + struct.pack("!H", _ETH_ARP) + ask)
        ends = time.monotonic() + _ARP_S
        while (left := ends - time.monotonic()) > 0:
            raw.settimeout(left)
            try:
                frame = raw.recv(128)
            except TimeoutError:
                return False
            if len(frame) >= 32 and frame[28:32] == address:
                return True
    return False
