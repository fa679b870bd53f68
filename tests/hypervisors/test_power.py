"""Shutting down a guest that goes down by itself at that very moment, which a stand-in holds still."""

import contextlib
import time

import libvirt
import pytest

from leeward.domain.errors import HypervisorError
from leeward.hypervisors.libvirt import power


class Domain:
    """Its agent has gone already; QEMU ends a moment later. state: what libvirt tells until then."""

    def __init__(self, state):
        self.told, self.ends = state, time.monotonic() + 0.3
        self.asked = []

    def name(self):
        return "web"

    def isActive(self):  # noqa: N802 - libvirt's name
        return time.monotonic() < self.ends

    def state(self):
        asked_acpi = len(self.asked) > 1
        return [self.told if asked_acpi else libvirt.VIR_DOMAIN_RUNNING, 0]

    def agentSetResponseTimeout(self, _):  # noqa: N802
        pass

    def shutdownFlags(self, way):  # noqa: N802
        self.asked.append(way)
        libvirt.virResetLastError()  # else the error takes over what another test has left in this thread
        raise libvirt.libvirtError("domain is not running")


def test_a_guest_that_is_going_down_already_is_waited_for():
    domain = Domain(libvirt.VIR_DOMAIN_SHUTDOWN)
    assert power.shutdown(domain, 5) is True
    assert len(domain.asked) == 2


def test_a_guest_that_cannot_be_asked_is_told():
    with pytest.raises(HypervisorError, match="not running"):
        power.shutdown(Domain(libvirt.VIR_DOMAIN_RUNNING), 5)


class Leaving(Domain):
    """Its host shuts down, and saves it when it has just been asked to go."""

    def __init__(self, saved):
        super().__init__(libvirt.VIR_DOMAIN_RUNNING)
        self.saved = saved

    def state(self):
        return [libvirt.VIR_DOMAIN_RUNNING if self.isActive() else libvirt.VIR_DOMAIN_SHUTOFF, 0]

    def shutdownFlags(self, way):  # noqa: N802
        pass

    def hasManagedSaveImage(self, _):  # noqa: N802
        return self.saved


@pytest.mark.parametrize("saved", [False, True])
def test_a_guest_that_is_saved_while_it_is_asked_was_not_shut_down(saved):
    with pytest.raises(HypervisorError, match="memory was saved") if saved else contextlib.nullcontext():
        assert power.shutdown(Leaving(saved), 5) is True
