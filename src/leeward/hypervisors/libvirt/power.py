"""Starting and stopping VMs."""

from __future__ import annotations

import time

import libvirt

from leeward.domain.errors import HypervisorError
from leeward.domain.vm import Power
from leeward.hypervisors.libvirt.connection import call, translate

# The guest agent's answer to a shutdown may never come, since the guest is gone by then.
_AGENT_TIMEOUT_S = 5
_POLL_S = 0.1


def power_of(domain: libvirt.virDomain) -> Power:
    """Raises libvirtError."""
    state = domain.state()[0]
    if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_SHUTDOWN):
        return Power.RUNNING
    if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
        return Power.PAUSED
    return Power.OFF


def is_halted(domain: libvirt.virDomain) -> bool:
    """Whether QEMU has paused the guest since a disk's image could not be read or written. Raises HypervisorError."""
    state, reason = call(domain.name(), domain.state)
    return (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)


def start(domain: libvirt.virDomain) -> None:
    """Start, or let a paused VM go on. Nothing when it runs."""
    try:
        power = power_of(domain)
        if power is Power.OFF:
            domain.create()
        elif power is Power.PAUSED:
            domain.resume()
    except libvirt.libvirtError as error:
        raise translate(error, domain.name()) from error


def shutdown(domain: libvirt.virDomain, timeout_s: float) -> bool:
    """Ask through the agent, then through ACPI, and wait. True when the VM is off.

    Both calls may report success although nobody listens inside, so only the VM's state counts. Raises
    HypervisorError also of one that was not shut down but saved, before it was asked or meanwhile (its host may be
    shutting down): what its memory had not written is on no disk.
    """
    off = _ask(domain, time.monotonic() + timeout_s)
    if off and _is_saved(domain):
        raise HypervisorError(
            "it was not shut down: its memory was saved to a file, and may hold what its disks do not",
            subject=domain.name(),
            hint="Start it, so that it can shut down; or give the memory up with `virsh managedsave-remove`",
        )
    return off


def _ask(domain: libvirt.virDomain, ends: float) -> bool:
    """True when it is off, for whatever reason."""
    ways = (libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT, libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    for way in ways:
        try:
            power = power_of(domain)
            if power is not Power.RUNNING:
                return power is Power.OFF  # a paused guest hears nothing; what is asked now it would do when resumed
            if way == libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT:
                domain.agentSetResponseTimeout(_AGENT_TIMEOUT_S)
            domain.shutdownFlags(way)
        except libvirt.libvirtError as error:
            if _is_off(domain):
                return True
            # Of a guest that is going down already libvirt says that it does not run, although QEMU still does.
            if not _goes_down(domain):
                if way == libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT:
                    continue  # no agent, or one that hangs: ACPI is next
                raise translate(error, domain.name()) from error
        # Half of what is left goes to the agent's way, so that ACPI still gets its chance.
        left = max(0.0, ends - time.monotonic())
        share = left / 2 if way == libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT else left
        if _wait_off(domain, share):
            return True
    return _is_off(domain)


def _is_saved(domain: libvirt.virDomain) -> bool:
    try:
        return power_of(domain) is Power.OFF and bool(domain.hasManagedSaveImage(0))
    except libvirt.libvirtError as error:
        raise translate(error, domain.name()) from error


def pause(domain: libvirt.virDomain) -> bool:
    """See `leeward.ports.hypervisor.Hypervisor.pause`. QEMU writes its caches out before this returns."""
    try:
        if power_of(domain) is not Power.RUNNING:
            return False
        domain.suspend()
    except libvirt.libvirtError as error:
        if _is_off(domain):
            return False
        raise translate(error, domain.name()) from error
    return True


def resume(domain: libvirt.virDomain) -> bool:
    """See `leeward.ports.hypervisor.Hypervisor.resume`."""
    try:
        if tuple(domain.state()) != (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER):
            return False
        domain.resume()
    except libvirt.libvirtError as error:
        if _is_off(domain):
            return False
        raise translate(error, domain.name()) from error
    return True


def force_off(domain: libvirt.virDomain) -> None:
    try:
        if power_of(domain) is not Power.OFF:
            domain.destroy()
    except libvirt.libvirtError as error:
        if not _is_off(domain):
            raise translate(error, domain.name()) from error


def _wait_off(domain: libvirt.virDomain, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if _is_off(domain):
            return True
        time.sleep(_POLL_S)
    return _is_off(domain)


def _goes_down(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.state()[0] == libvirt.VIR_DOMAIN_SHUTDOWN)
    except libvirt.libvirtError:
        return False


def _is_off(domain: libvirt.virDomain) -> bool:
    try:
        return not domain.isActive()
    except libvirt.libvirtError:
        return False
