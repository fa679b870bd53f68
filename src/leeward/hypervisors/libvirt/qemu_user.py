"""The user that a host's QEMU runs as."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET

from leeward.hypervisors.libvirt.connection import Connection
from leeward.ports.hypervisor import Owner


def qemu_user(connection: Connection) -> Owner:
    """As libvirt tells it; ourselves where it runs QEMU as whoever started it. Takes it some milliseconds."""
    return parse_user(connection.ask(lambda host: str(host.getCapabilities()), connection.name))


def parse_user(capabilities: str) -> Owner:
    """From `<secmodel><model>dac</model><baselabel type='kvm'>+64055:+107</baselabel></secmodel>`."""
    for model in ET.fromstring(capabilities).iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            for label in model.iterfind("baselabel"):
                uid, _, gid = (label.text or "").replace("+", "").partition(":")
                if uid.isdigit() and gid.isdigit():
                    return Owner(int(uid), int(gid))
    return Owner(os.geteuid(), os.getegid())
