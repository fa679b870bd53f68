"""By the commands alone: a real VM fails over to its warm replica while the vault is away, goes home, fails over once
more, through the vault, and comes home from a site that is not asked."""

import signal
import time
from datetime import UTC, datetime

import pytest
from tests.installation import Installation, empty_recovery_site, records

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]
IP = "10.77.0.74"


@pytest.fixture
def leeward(lab, guest_factory):
    empty_recovery_site(lab)  # so that what lies there afterwards is of this VM
    guest_factory("office", "warm", disks=(64, 32), ip=IP)
    with Installation(lab, "w") as leeward:
        leeward("vault", "init")
        leeward("protect", "warm", "--rpo", "1s", "--warm", "--wait")
        yield leeward
        leeward.end()
        empty_recovery_site(lab)


def until_warm(leeward):
    """→ status, once the replica holds a point that is younger than this call."""
    begun = datetime.now(UTC).isoformat()
    return leeward.until(
        "warm", lambda row: row["replica"] and row["replica"]["state"] == "warm" and row["replica"]["time"] > begun
    )


def click(leeward, client, *words):
    """→ seconds from the command until the guest's HTTP answers at the recovery site, and what it says."""
    began = time.monotonic()
    leeward("failover", "unplanned", "warm", "--yes", "--no-wait", *words)
    status = client.wait(IP)
    return time.monotonic() - began, status


def details(leeward):
    view = leeward("failover", "show", "warm")
    print({step["name"]: step["seconds"] for step in view["steps"]}, view["rto_s"])
    return {step["name"]: step["detail"] for step in view["steps"]}


def test_away_without_the_vault_home_and_away_through_the_vault(leeward, lab):
    until_warm(leeward)
    told = lab.http("office", IP, "/")["seq"]
    assert until_warm(leeward)["replica"]["bytes"] > 0
    hidden = leeward.vault.with_name("hidden")
    leeward.vault.rename(hidden)
    leeward.end(signal.SIGKILL)  # what comes up now has never seen the vault
    leeward("status", "warm")
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        refused = leeward("failover", "planned", "warm", "--yes", code=5)
        assert refused["error"]["code"] == "store-unavailable"
        from_replica, status = click(leeward, client)
        first, second = records(status)
        assert first >= told
        assert 0 <= first - second <= 1
        steps = details(leeward)
        assert "the warm replica at recovery holds point" in steps["check"]
        assert "taken over as soon as it can be reached" in steps["epoch"]
        assert "on the disks of the warm replica" in steps["build"]
        leeward.until("warm", lambda row: row["phase"] == "away")
        assert "taken over first" in leeward("status", "warm")["reason"]
        hidden.rename(leeward.vault)
        leeward.until("warm", lambda row: row["state"] == "enabled" and row["last_point"]["epoch"] == 2)
        leeward("failover", "commit", "warm")
        away = client.wait(IP)["seq"]
        back = leeward("failover", "failback", "warm", "--yes")
        assert back["phase"] == "back", back
    first, second = records(lab.wait_http("office", IP))
    assert first >= away
    assert 0 <= first - second <= 1
    assert leeward("failover", "commit", "warm")["phase"] == "home"

    # Its images came back with that, and follow again; a failover can do without them.
    until_warm(leeward)
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        from_vault, status = click(leeward, client, "--from-vault")
        assert records(status)[0] >= away
        leeward.until("warm", lambda row: row["phase"] == "away")
        assert "replica" not in details(leeward)["build"]
        leeward.until("warm", lambda row: row["state"] == "enabled" and row["last_point"]["epoch"] == 4)
        away = client.wait(IP)["seq"]
        begun = datetime.now(UTC).isoformat()
        leeward.until("warm", lambda row: row["last_point"]["time"] > begun)
    images = {path.name.partition(".")[0] for path in lab.places.images("recovery").glob("*.qcow2")}
    assert len(images) == 1, images

    # That site is not to be trusted any more: home with what the vault has.
    back = leeward("failover", "failback", "warm", "--unplanned", "--yes")
    assert back["phase"] == "back", back
    assert "is lost" in details(leeward)["check-home"]
    first, second = records(lab.wait_http("office", IP))
    assert first >= away
    assert 0 <= first - second <= 1
    assert leeward("vault", "check", "--deep")["sound"] is True
    print(f"click to HTTP: {from_replica:.1f} s without the vault, {from_vault:.1f} s through it")
