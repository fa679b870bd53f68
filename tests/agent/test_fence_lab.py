"""libvirt itself refuses to start a VM that stands down, however it is asked to; all others it starts as before."""

import os
import signal
import time
from pathlib import Path

import libvirt
import pytest

from leeward.agent.fence import Fence, install_hook, remove_hook
from leeward.lab import site

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(300)]
REASON = "it runs at recovery since 2026-11-24"


class Office:
    """The site's libvirt, and two guests that are off."""

    def __init__(self, lab):
        self.lab = lab
        self.folder = Path(lab.places.site("office"))
        self.hooks = self.folder / "etc/hooks"  # the daemon sees it as /etc/libvirt/hooks
        self.fence = Fence(Path(lab.places.root) / "kept-off", ["office"])
        self.ids = {
            name: lab.define_guest("office", name, disks=(64,), ip=ip, memory_mib=64, start=False).uuid
            for name, ip in (("held", "10.77.0.95"), ("free", "10.77.0.96"))
        }

    def close(self):
        remove_hook(self.hooks)
        for name in self.ids:
            self.lab.destroy_guest("office", name)

    def boot(self):
        """libvirtd ends and starts again as it does when a host boots: VMs that are to start by themselves do."""
        pid = int((self.folder / "libvirtd.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        ends = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < ends
            time.sleep(0.05)
        (self.folder / "run/qemu/autostarted").unlink(missing_ok=True)
        site.start_daemon(self.lab.places, "office")

    def domain(self, connection, name):
        return connection.lookupByUUIDString(self.ids[name])

    def running(self):
        """Those that libvirt has looked at: a job of its own is on one that it has not found again yet."""
        with libvirt.open(self.lab.libvirt("office")) as connection:
            found = {name: self.domain(connection, name) for name in self.ids}
            return {name for name, domain in found.items() if domain.isActive() and domain.memoryStats() is not None}

    def until(self, running):
        ends = time.monotonic() + 30
        while self.running() != running:
            assert time.monotonic() < ends, self.running()
            time.sleep(0.1)


@pytest.fixture
def office(lab):
    made = Office(lab)
    yield made
    made.close()


def test_who_stands_down_does_not_start_and_all_others_do(office):
    install_hook(office.hooks, office.fence.path("office"))
    office.boot()  # libvirt looks once whether there are hooks
    office.fence.keep([("office", office.ids["held"], REASON)])
    with libvirt.open(office.lab.libvirt("office")) as connection:
        held, free = office.domain(connection, "held"), office.domain(connection, "free")
        for flags in (0, libvirt.VIR_DOMAIN_START_PAUSED):
            with pytest.raises(libvirt.libvirtError, match=REASON) as refused:
                held.createWithFlags(flags)
            assert "leeward failover failback held" in str(refused.value)
        free.create()
        held.setAutostart(1)
    assert office.running() == {"free"}

    # The host boots: what is to start by itself is refused as well.
    office.boot()
    office.until({"free"})  # libvirt finds what runs by and by
    with libvirt.open(office.lab.libvirt("office")) as connection:
        office.domain(connection, "free").destroy()
        office.domain(connection, "free").setAutostart(1)
    office.boot()
    office.until({"free"})

    # A running VM that libvirt finds again goes on, whatever the list says: ending it is the guard's business.
    office.fence.keep([("office", vm_id, REASON) for vm_id in office.ids.values()])
    office.boot()
    office.until({"free"})
    time.sleep(1)
    assert office.running() == {"free"}

    # Taken back: it may start at once, nobody has to be told.
    office.fence.keep([])
    with libvirt.open(office.lab.libvirt("office")) as connection:
        office.domain(connection, "held").create()
    assert office.running() == {"free", "held"}
