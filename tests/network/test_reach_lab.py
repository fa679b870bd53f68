"""Looking at real guests from their host: on its LAN, and on a switch without any way out."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from leeward.agent.jobs import Context
from leeward.agent.probing import ProbeTasks
from leeward.lab import netns
from leeward.network import namespaces
from leeward.network.reach import LibvirtReach
from leeward.wire.jobs import Job, JobKind

pytestmark = [pytest.mark.lab, pytest.mark.timeout(500)]


class OneCopy:
    def __init__(self, guest, purpose):
        self.copy = SimpleNamespace(vm_id="original", purpose=purpose, copy_id=guest.uuid)

    def reports(self):
        return [self.copy]


def probe(reach, guest, purpose, **wanted):
    told = []
    arguments = {"purpose": purpose, "port": 0, "path": "/", "status": 200, "address": "", "timeout_s": 180, **wanted}
    job = Job(id="1", kind=JobKind.PROBE, vm_id="original", host="recovery", arguments=arguments)
    tasks = ProbeTasks({"recovery": OneCopy(guest, purpose)}, {"recovery": reach})
    return tasks.probe(Context(job, told.append))


@pytest.fixture
def reach(lab):
    made = LibvirtReach("recovery", lab.libvirt("recovery"))
    yield made
    assert list(Path("/run/netns").glob("lwp-*")) == []


def test_a_guest_on_the_lan(lab, guest_factory, reach):
    guest = guest_factory("recovery", "onlan", disks=(64,), ip="10.78.0.41")
    assert probe(reach, guest, "failover", kind="agent")["passed"]
    assert reach.addresses(guest.uuid) == ["10.78.0.41/24"]
    assert probe(reach, guest, "failover", kind="tcp", port=80)["passed"]
    found = probe(reach, guest, "failover", kind="http", port=80)
    assert (found["passed"], "status 200" in found["detail"]) == (True, True)
    refused = probe(reach, guest, "failover", kind="tcp", port=81, timeout_s=0)
    assert not refused["passed"]
    assert "refused" in refused["detail"]
    other = probe(reach, guest, "failover", kind="http", port=80, status=404, timeout_s=0)
    assert "answers with status 200" in other["detail"]


def test_a_guest_whose_net_was_left_behind(lab, guest_factory, reach):
    """On the recovery site's LAN with the address that it had at home, where its original still answers."""
    original = guest_factory("office", "original", disks=(64,), ip="10.77.0.43")
    assert lab.client("recovery").http("10.77.0.43")
    moved = guest_factory("recovery", "moved", disks=(64,), ip="10.77.0.43", wait=False)
    found = probe(reach, moved, "failover", kind="http", port=80)
    assert found["passed"], found
    lab.destroy_guest("recovery", "moved")
    moved = guest_factory("recovery", "moved", disks=(64,), ip="10.77.0.44", wait=False)
    # This one does not have the address: the check must not be answered by the original.
    assert probe(reach, moved, "failover", kind="agent")["passed"]
    other = probe(reach, moved, "failover", kind="tcp", port=80, address="10.77.0.43", timeout_s=0)
    assert not other["passed"], other
    assert lab.http("office", original.ip)


def test_a_guest_on_an_isolated_switch(lab, guest_factory, reach):
    host = lab.places.host_netns("recovery")
    netns.ip(host, "link add iso0 type bridge", "link set iso0 up")
    try:
        # The very address that the host itself has on its LAN: what is isolated never meets it.
        guest = guest_factory("recovery", "apart", disks=(64,), ip="10.78.0.1", bridge="iso0")
        # A second one takes the address that would be tried first.
        guest_factory("recovery", "neighbour", disks=(64,), ip="10.78.0.254", bridge="iso0")
        found = probe(reach, guest, "test", kind="http", port=80)
        assert found["passed"], found
        named = probe(reach, guest, "test", kind="http", port=80, address="10.78.0.1")
        assert named["passed"], named
        lan = probe(reach, guest, "failover", kind="tcp", port=80, timeout_s=0)
        assert not lan["passed"]
        ports = namespaces.run("ip", "-n", host, "-br", "link", "show", "master", "iso0")
        assert "lwp" not in ports
    finally:
        netns.ip(host, "link delete iso0")
