"""The networks of a recovery host: what it has, and isolated ones for copies."""

from __future__ import annotations

import contextlib
import hashlib

import libvirt

from leeward.hypervisors.libvirt.connection import Connection, call, translate


def name_of(tag: str) -> str:
    """Of a copy's isolated network."""
    return f"leeward-{tag}"


def bridge_of(tag: str) -> str:
    """Of its bridge; interface names have at most 15 characters."""
    return f"lwt-{tag}"[:15]


def shared_tag(shared: str) -> str:
    """In place of a copy's tag, for a network that several share. Tags of copies are hexadecimal: never this."""
    return f"s{hashlib.sha256(shared.encode()).hexdigest()[:10]}"


class Networks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def has(self, wanted: str) -> bool:
        """Whether the host has bridge:NAME, an active network:NAME or filter:NAME. A host that cannot say has it."""
        kind, _, name = wanted.partition(":")
        connection = self._connection.get()
        try:
            match kind:
                case "network":
                    return bool(connection.networkLookupByName(name).isActive())
                case "filter":
                    return bool(connection.nwfilterLookupByName(name))
                case "bridge":
                    return "type='bridge'" in connection.interfaceLookupByName(name).XMLDesc(0)
        except libvirt.libvirtError as error:
            return bool(error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT)
        return False

    def isolated(self, tag: str, *, lasting: bool) -> str:
        """Make sure of a switch without any way out: no uplink, no address, no DHCP. Returns the network's name.

        lasting: it is there again after the host was started anew.
        """
        name = name_of(tag)
        connection = self._connection.get()
        xml = f"<network><name>{name}</name><bridge name='{bridge_of(tag)}' stp='off' delay='0'/></network>"
        try:
            network = connection.networkLookupByName(name)
        except libvirt.libvirtError:
            if not lasting:
                call(name, connection.networkCreateXML, xml)
                return name
            network = call(name, connection.networkDefineXML, xml)
        if lasting and not call(name, network.isActive):
            call(name, network.setAutostart, 1)
            call(name, network.create)
        return name

    def sweep(self) -> None:
        """Remove the shared networks that no VM of this host refers to any more."""
        names = self._connection.ask(lambda connection: connection.listNetworks(), self._connection.name)
        shared = {name: name.removeprefix(name_of("")) for name in names if name.startswith(name_of("s"))}
        ours = {name: tag for name, tag in shared.items() if len(tag) == len(shared_tag(""))}
        if not ours:
            return
        domains = self._connection.ask(lambda connection: connection.listAllDomains(0), self._connection.name)
        texts = []
        for domain in domains:
            with contextlib.suppress(libvirt.libvirtError):  # undefined since the list was made
                texts.append(domain.XMLDesc(0))
        for name, tag in ours.items():
            if not any(f"network='{name}'" in text for text in texts):
                self.remove(tag)

    def remove(self, tag: str) -> None:
        """Idempotent."""
        name = name_of(tag)
        try:
            network = self._connection.get().networkLookupByName(name)
            if network.isActive():
                network.destroy()
            if network.isPersistent():
                network.undefine()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                raise translate(error, name) from error
