"""What a VM's screen shows, by libvirt's screenshot over a stream (QEMU gives a PPM file)."""

from __future__ import annotations

import contextlib

import libvirt

from leeward.domain.errors import HypervisorError
from leeward.hypervisors.libvirt.connection import Connection, call, call_within

# A screen of 4K, three bytes a pixel, and some.
_MOST = 64 << 20
# A VM whose QEMU hangs must not hold up who only wants a picture.
_PATIENCE_S = 20.0


def screenshot(connection: Connection, vm_id: str) -> bytes:
    """Raises HypervisorError when it has no screen, or is off; HostBusy."""
    domain = connection.domain(vm_id)
    if "<video" not in call(vm_id, domain.XMLDesc, 0):
        raise HypervisorError("the VM has no screen", subject=vm_id)
    found: bytes = call_within(_PATIENCE_S, vm_id, _received, connection.get(), domain)
    if len(found) > _MOST:
        raise HypervisorError("its screen is larger than any that we know", subject=vm_id)
    return found


def _received(connection: libvirt.virConnect, domain: libvirt.virDomain) -> bytes:
    stream = connection.newStream(0)
    try:
        domain.screenshot(stream, 0, 0)
        found = bytearray()
        while len(found) <= _MOST and (part := stream.recv(1 << 18)):
            found += part
    except libvirt.libvirtError:
        with contextlib.suppress(libvirt.libvirtError):
            stream.abort()
        raise
    if len(found) > _MOST:
        stream.abort()
    else:
        stream.finish()
    return bytes(found)
