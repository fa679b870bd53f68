"""The network links of a recovered VM: down until its home site cannot be running it any more, then up for good.

Which cards were up at home is remembered in our mark on the domain: one that was down there stays down.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

import libvirt

from leeward.hypervisors.libvirt.connection import translate

_UNPLUGGED = "unplugged"


def unplug(root: ET.Element, mark: ET.Element) -> None:
    """Put every card's link down in a definition and note in `mark` which were up. Pure but for its arguments."""
    taken = []
    for interface in root.findall("devices/interface"):
        link, mac = interface.find("link"), interface.find("mac")
        if link is not None and link.get("state") == "down":
            continue
        if mac is None:
            continue  # a card without an address cannot be found again; libvirt gives one to every card it knows
        if link is None:
            link = ET.SubElement(interface, "link")
        link.set("state", "down")
        taken.append(mac.get("address", ""))
    mark.set(_UNPLUGGED, " ".join(taken))


def plug_in(domain: libvirt.virDomain, mark_path: str) -> None:
    """Put up what `unplug` put down, in the definition first: a VM that is started again stays plugged in."""
    try:
        stored = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
        mark = stored.find(mark_path)
        wanted = set(mark.get(_UNPLUGGED, "").split()) if mark is not None else set()
        for text in _up(stored, wanted):
            domain.updateDeviceFlags(text, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        if domain.isActive():
            for text in _up(ET.fromstring(domain.XMLDesc(0)), wanted):
                domain.updateDeviceFlags(text, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        raise translate(error, domain.name()) from error


def _up(root: ET.Element, macs: set[str]) -> Iterator[str]:
    """The definitions of these cards, link up, as far as they are down."""
    for interface in root.findall("devices/interface"):
        link, mac = interface.find("link"), interface.find("mac")
        if link is None or mac is None or mac.get("address") not in macs or link.get("state") != "down":
            continue
        link.set("state", "up")
        yield ET.tostring(interface, encoding="unicode")
