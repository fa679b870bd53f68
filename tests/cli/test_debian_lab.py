"""The main job for a real Debian with systemd and its own guest agent, by the commands alone."""

import subprocess
import time

import pytest
from tests.installation import Installation

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]
IP = "10.77.0.77"
VM = "server"


@pytest.fixture
def leeward(lab, guest_factory):
    guest_factory("office", VM, kind="debian", disks=(1024, 32), memory_mib=512, ip=IP, interval_ms=250, wait=False)
    lab.wait_http("office", IP, timeout_s=240)
    with Installation(lab, "debian") as made:
        yield made


def dirty(leeward, point, folder):
    """Whether the second disk's file system has a journal to replay, as of a point."""
    file = folder / "vdb.raw"
    leeward("export", VM, "--point", point, "--disk", "vdb", "--to", str(file), "--force")
    told = subprocess.run(["dumpe2fs", "-h", str(file)], check=True, capture_output=True, text=True).stdout
    return "needs_recovery" in told


def test_a_debian_server_is_protected_and_boots_elsewhere(leeward, lab, tmp_path):
    leeward("vault", "init")
    leeward("protect", VM, "--rpo", "3s", "--app-interval", "9s", "--wait")

    def frozen_points():
        return [point for point in leeward("points", VM) if point["consistency"] == "app"]

    # Its agent freezes the file systems for an instant, again and again, and never leaves them frozen.
    ends = time.monotonic() + 120
    while len(frozen_points()) < 3:
        assert time.monotonic() < ends, leeward("status", VM)
        time.sleep(1)
    status = leeward("status", VM)
    assert (status["state"], status["reason"]) == ("enabled", "")
    chosen = frozen_points()[-1]["id"]
    told = lab.http("office", IP)["seq"]
    time.sleep(1)
    now = lab.http("office", IP)
    assert now["seq"] > told
    assert now["error"] == 0

    # Nothing was left to do for the journal at that instant, as there is at any other.
    crash = next(point for point in leeward("points", VM)[1:] if point["consistency"] == "crash")["id"]
    assert (dirty(leeward, chosen, tmp_path), dirty(leeward, crash, tmp_path)) == (False, True)
    held = leeward.records(VM, tmp_path, chosen)
    assert held["vda"].last > 0
    assert 0 <= held["vda"].last - held["vdb"].last <= 1

    test = leeward("failover", "test", VM, "--point", chosen, "--wait")
    assert test["point"] == chosen
    assert test["evidence"]["agent"] == "answers", test
    with lab.probe("recovery", test["network"], "10.77.0.3/24") as probe:
        copy = probe.wait(IP, timeout_s=120)
    for told, disk in zip(copy["disks"], ("vda", "vdb"), strict=True):
        assert told["boot_intact"]
        assert told["boot_seq"] == held[disk].last
    # The original is replicated all the while.
    assert leeward("status", VM)["rpo_actual_s"] < 20
    leeward("failover", "cleanup", VM)
    assert leeward("failover", "list") == []
    assert leeward("vault", "check")["sound"]
    leeward("unprotect", VM)
