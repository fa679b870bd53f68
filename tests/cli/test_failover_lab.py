"""The whole life of a real VM between the two sites, by the commands alone."""

import os
import signal
import time
from pathlib import Path

import libvirt
import pytest
from tests.installation import Installation, empty_recovery_site, records

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
IP = "10.77.0.71"


@pytest.fixture
def office(lab, guest_factory):
    guest_factory("office", "moved", disks=(64, 32), ip=IP)
    with Installation(lab, "f") as leeward:
        leeward.recovery_key = leeward("vault", "init")["recovery_key"]
        leeward("protect", "moved", "--rpo", "1s", "--wait")
        yield leeward
        leeward.end()
        empty_recovery_site(lab)


def domains(lab, site):
    """name → running, of all VMs of a site."""
    connection = libvirt.open(lab.libvirt(site))
    try:
        return {domain.name(): bool(domain.isActive()) for domain in connection.listAllDomains(0)}
    finally:
        connection.close()


def test_there_and_back_again(office, lab):
    told = lab.http("office", IP, "/")["seq"]
    view = office("failover", "planned", "moved", "--yes")
    assert (view["state"], view["phase"]) == ("done", "away"), view
    assert domains(lab, "office") == {"moved": False}
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        first, second = records(client.wait(IP))
        assert first >= told
        assert 0 <= first - second <= 1
        assert office("status", "moved")["host"] == "recovery"
        refused = office("failover", "failback", "moved", "--yes", code=4)
        assert "commit" in refused["error"]["hint"]
        assert office("failover", "commit", "moved")["phase"] == "settled"
        # The other direction goes on incrementally, from the guest's first write on.
        office.until("moved", lambda row: row["state"] == "enabled" and row["last_point"]["epoch"] == 2)
        away = client.wait(IP)["seq"]
        back = office("failover", "failback", "moved", "--yes")
        assert (back["state"], back["phase"]) == ("done", "back"), back
    first, second = records(lab.wait_http("office", IP))
    assert first >= away
    assert 0 <= first - second <= 1
    assert office("failover", "commit", "moved")["phase"] == "home"
    assert domains(lab, "recovery") == {}
    office.until("moved", lambda row: row["state"] == "enabled" and row["last_point"]["epoch"] == 3)
    assert office("vault", "check", "--deep")["sound"] is True


def test_the_source_dies_and_its_vm_stays_off(office, lab):
    before = lab.http("office", IP, "/")["seq"]
    time.sleep(2.5)
    qemu = Path(lab.places.site("office")) / "run" / "qemu" / "moved.pid"
    os.kill(int(qemu.read_text()), signal.SIGKILL)
    view = office("failover", "unplanned", "moved", "--yes")
    assert (view["state"], view["phase"]) == ("done", "away"), view
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        first, second = records(client.wait(IP))
    assert first >= before
    assert 0 <= first - second <= 1
    # Whoever starts it at home sees it stopped again.
    lab.start_guest("office", "moved")
    ends = time.monotonic() + 15
    while domains(lab, "office")["moved"]:
        assert time.monotonic() < ends
        time.sleep(0.2)


def test_the_office_burns_and_a_portal_recovers(office, lab):
    key = office.root / "recovery.key"
    office.end(signal.SIGKILL)
    before = lab.http("office", IP, "/")["seq"]
    lab.destroy_guest("office", "moved")
    key.write_text(office.recovery_key)
    portal = office.root / "p"
    words = ["portal", "--vault", office.vault.as_uri(), "--recovery-key-file", str(key), "--state", str(portal)]
    words += ["--uri", lab.libvirt("recovery"), "--storage", str(lab.places.images("recovery")), "--name", "recovery"]
    shown = office(*words)
    assert [row["failover_possible"] for row in shown["vms"]] == [True]
    office.config = portal / "leeward.toml"
    office.environment["LEEWARD_CONFIG"] = str(office.config)
    view = office("failover", "unplanned", "moved", "--yes")
    assert (view["state"], view["phase"]) == ("done", "away"), view
    assert "cannot be reached" in next(step["detail"] for step in view["steps"] if step["name"] == "fence")
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        first, second = records(client.wait(IP))
    # What was written within the last second or two before the end may be lost, no more.
    assert first >= before - 150
    assert 0 <= first - second <= 1
