"""Which network each card of a recovered VM is plugged into. Pure.

A *key* names what a card hangs on: "bridge:br0", "network:default", "direct:eth0". A *target* is the key of a bridge
or network of the recovery host, or "isolated".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from leeward.domain.errors import BadInput, Refused

ISOLATED = "isolated"
_TARGETS = ("bridge", "network")
# What of a card fits the old place only.
_PLACE = ("source", "target", "bandwidth", "filterref", "virtualport", "vlan", "backend", "portForward")


@dataclass(frozen=True, slots=True)
class Plug:
    """target: where one card goes. kept: it is the place it had, so its VLAN, its rates and its like still fit."""

    target: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """key: what it hangs on. first: what it hung on before the VM was brought up elsewhere for the first time."""

    key: str
    first: str


def cards(definition: str, original: str | None) -> list[Card]:
    """The cards of a VM, in order. original: the definition that it was made from at first, if it was moved."""
    before = {_address(interface): key(interface) for interface in _interfaces(original or "<domain/>")}
    found = [(key(interface), _address(interface)) for interface in _interfaces(definition)]
    return [Card(name, before.get(address, name) if address else name) for name, address in found]


def _interfaces(definition: str) -> list[ET.Element]:
    return ET.fromstring(definition).findall("devices/interface")


def _address(interface: ET.Element) -> str:
    mac = interface.find("mac")
    return mac.get("address", "") if mac is not None else ""


def key(interface: ET.Element) -> str:
    kind = interface.get("type", "")
    source = interface.find("source")
    attribute = {"bridge": "bridge", "network": "network", "direct": "dev"}.get(kind, "")
    return f"{kind}:{source.get(attribute, '') if source is not None else ''}"


def plan(
    cards: Sequence[Card], networks: Mapping[str, str], has: Callable[[str], bool], default: str = ""
) -> tuple[list[Plug], list[str]]:
    """Where each card goes, and warnings. networks: key → target. has: whether the host has a key.

    What a card hangs on now is looked up first, then what it hung on at first: a mapping that was made for the old
    site holds for points that were made at the new one as well. Without an entry a card goes to the same bridge or
    network, and where the host has none, to its default, else to an isolated one. Raises BadInput for a target that
    is none, Refused for one that the host does not have.
    """
    plugs, warnings = [], []
    for card in cards:
        wanted = networks.get(card.key, networks.get(card.first))
        if wanted is not None:
            if wanted != ISOLATED:
                _require(wanted, has)
            plugs.append(Plug(wanted, kept=wanted == card.key))
        elif card.key.partition(":")[0] in _TARGETS and has(card.key):
            plugs.append(Plug(card.key, kept=True))
        elif default and has(default):
            plugs.append(Plug(default))
        else:
            plugs.append(Plug(ISOLATED))
            what = f"the card on {card.key} is isolated"
            warnings.append(f"{what}: this host has no {card.key}, and it is mapped to nothing")
    return plugs, warnings


def _require(target: str, has: Callable[[str], bool]) -> None:
    kind, _, name = target.partition(":")
    if kind not in _TARGETS or not name:
        raise BadInput(
            "a card can be mapped to bridge:NAME, network:NAME or isolated", subject=target, hint="Mend the mapping"
        )
    if not has(target):
        raise Refused(
            f"the recovery host has no {kind} {name}, or it is not active",
            subject=target,
            hint="Make it there, or map the card to something else",
        )


def plug(
    devices: ET.Element, plugs: Sequence[Plug], isolated: str, has: Callable[[str], bool], warnings: list[str]
) -> None:
    """Plug each card in; its address stays. isolated: name of the host's network without any way out."""
    for interface, where in zip(devices.findall("interface"), plugs, strict=True):
        if where.kept:
            _remove(interface, ("target", "backend"))
            filtered = interface.find("filterref")
            if filtered is not None and not has(f"filter:{filtered.get('filter')}"):
                interface.remove(filtered)
                warnings.append(f"the host has no network filter {filtered.get('filter')}: the card is not filtered")
            continue
        lost = [name for name in ("filterref", "vlan", "virtualport") if interface.find(name) is not None]
        if lost:
            warnings.append(f"a card on another network has lost its {', '.join(lost)}")
        _remove(interface, _PLACE)
        kind, _, name = where.target.partition(":")
        if where.target == ISOLATED:
            kind, name = "network", isolated
        interface.set("type", kind)
        interface.append(ET.Element("source", {kind: name}))


def plug_apart(devices: ET.Element, tag: str, network: str) -> None:
    """Every card on one isolated network, with an address of its own."""
    for number, interface in enumerate(devices.findall("interface")):
        interface.set("type", "network")
        _remove(interface, (*_PLACE, "mac"))
        digest = hashlib.sha256(f"leeward mac {tag} {number}".encode()).digest()
        # 52:54:00 is the prefix that QEMU's virtual NICs use.
        address = "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])
        interface.insert(0, ET.Element("mac", {"address": address}))
        interface.insert(1, ET.Element("source", {"network": network}))


def _remove(parent: ET.Element, names: Sequence[str]) -> None:
    for name in names:
        for element in parent.findall(name):
            parent.remove(element)
