"""The whole life of a real VM between the two sites, by the commands alone."""

import time

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
IP = "10.77.0.71"


@pytest.fixture
def office(installation, guest_factory):
    guest_factory("office", "moved", disks=(64, 32), ip=IP)
    installation.run("vault", "init")
    installation.run("protect", "moved", "--rpo", "1s", "--wait")
    return installation


def records(status):
    """The newest record on each disk that the guest found when it booted."""
    assert all(disk["boot_intact"] for disk in status["disks"])
    assert status["error"] == 0
    return [disk["boot_seq"] for disk in status["disks"]]


def test_there_and_back_again(office, lab):
    run = office.run
    told = lab.http("office", IP, "/")["seq"]
    view = run("failover", "planned", "moved", "--yes")
    assert (view["state"], view["phase"]) == ("done", "away"), view
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        status = client.wait(IP)
        first, second = records(status)
        assert first >= told
        assert 0 <= first - second <= 1
        # Nothing was lost: the guest's shutdown synced what it had, and just that was found.
        shown = run("status", "moved")
        assert (shown["phase"], shown["host"]) == ("away", "recovery")
        refused = run("failover", "failback", "moved", "--yes", code=4)
        assert "commit" in refused["error"]["hint"]
        assert run("failover", "commit", "moved")["phase"] == "settled"
        office.until("moved", lambda row: row["state"] == "enabled" and row["last_point"]["epoch"] == 2)
        kinds = [event["what"] for event in run("events")]
        assert "planned done" in kinds
        away = client.wait(IP)["seq"]
        back = run("failover", "failback", "moved", "--yes")
        assert (back["state"], back["phase"]) == ("done", "back"), back
    status = lab.wait_http("office", IP)
    first, second = records(status)
    assert first >= away
    assert 0 <= first - second <= 1
    assert run("failover", "commit", "moved")["phase"] == "home"
    assert office.domains("recovery") == []
    office.until("moved", lambda row: row["state"] == "enabled" and row["last_point"]["epoch"] == 3)
    assert run("vault", "check", "--deep")["sound"] is True


def test_the_source_is_gone_and_returns(office, lab):
    run = office.run
    before = lab.http("office", IP, "/")["seq"]
    time.sleep(2.5)
    office.kill_guest("office", "moved")
    view = run("failover", "unplanned", "moved", "--yes")
    assert (view["state"], view["phase"]) == ("done", "away"), view
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        first, second = records(client.wait(IP))
    assert first >= before
    assert 0 <= first - second <= 1
    # Whoever starts it at home sees it stopped again.
    lab.start_guest("office", "moved")
    ends = time.monotonic() + 15
    while office.running("office"):
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert run("status", "moved")["host"] == "recovery"
