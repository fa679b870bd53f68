"""A recovery plan over real guests, by the commands alone; the daemon dies in the middle of it."""

import os
import signal
import time

import libvirt
import pytest
from tests.installation import Installation, empty_recovery_site

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]
DB, APP = "10.77.0.81", "10.77.0.82"
PLAN = """
name: pair
groups:
  - name: database
    vms: [pdb]
    checks:
      - {vm: pdb, kind: agent}
      - {vm: pdb, kind: tcp, port: 80}
  - name: application
    vms: [papp]
    delay: 1s
    approval: true
    checks:
      - {vm: papp, kind: http, port: 80}
    after:
      - run: told.sh
        kinds: [test, planned]
"""


@pytest.fixture
def office(lab, guest_factory):
    guest_factory("office", "pdb", disks=(64,), ip=DB)
    guest_factory("office", "papp", disks=(64,), ip=APP)
    with Installation(lab, "plans") as installation:
        installation("vault", "init")
        for name in ("pdb", "papp"):
            installation("protect", name, "--rpo", "1s", "--wait")
        script = installation.state / "scripts" / "told.sh"
        script.parent.mkdir(mode=0o700, exist_ok=True)
        script.write_text("#!/bin/sh\necho $LEEWARD_KIND $LEEWARD_GROUP $LEEWARD_VMS\n")
        script.chmod(0o755)
        file = installation.root / "pair.yaml"
        file.write_text(PLAN)
        installation("plan", "create", str(file))
        yield installation
        installation.end()
        empty_recovery_site(lab)


def until_waiting(run):
    run.call("plan", "status", "pair", "--watch")
    view = run("plan", "status", "pair")
    assert view["state"] == "waiting", view["failure"]
    return view


def networks(lab):
    connection = libvirt.open(lab.libvirt("recovery"))
    try:
        return len(connection.listNetworks())
    finally:
        connection.close()


def by_act(view):
    return [(step["act"], step["vm"] or step["group"]) for step in view["steps"]]


def until_drill(run, condition, timeout_s=240.0):
    """The console looks twice a minute."""
    ends = time.monotonic() + timeout_s
    while True:
        (drill,) = run("drill", "list")
        if condition(drill):
            return drill
        assert time.monotonic() < ends, (drill, run("plan", "status", "pair"))
        time.sleep(1.0)


def test_a_pair_is_drilled_and_moved(office, lab):
    """The plan's test comes round by its schedule: nobody begins it, approves of it, or cleans up."""
    run = office
    run("drill", "set", "--plan", "pair", "--every", "1d", "--run", "--keep", "1h")
    drill = until_drill(run, lambda drill: drill["last_outcome"])
    tested = run("plan", "status", "pair")
    assert (drill["last_outcome"], drill["overdue"], drill["last_run"]) == ("passed", False, tested["id"]), tested
    assert tested["complete"], tested
    assert [step["by"] for step in tested["steps"] if step["act"] == "approve"] == ["drill"]
    for name in ("pdb", "papp"):
        newest = run("evidence", name)[0]
        assert (newest["by"], newest["plan"], newest["outcome"]) == ("drill", "pair", "passed")
        assert newest["picture_bytes"], newest["no_picture"]
    assert [step["output"] for step in tested["steps"] if step["act"] == "script"] == ["test application papp"]
    assert lab.wait_http("office", DB, timeout_s=60)["error"] == 0  # production has gone on
    # Both copies are on one switch, so that they find each other there; it goes with the last of them.
    switches = {copy["network"] for copy in run("failover", "list")}
    assert len(switches) == 1, switches
    run("failover", "cleanup", "pdb")
    assert networks(lab) == 1
    run("drill", "set", "--plan", "pair", "--every", "1d", "--run", "--keep", "0s")
    ends = time.monotonic() + 120
    while run("plan", "status", "pair")["state"] != "cleaned":
        assert time.monotonic() < ends, run("plan", "status", "pair")
        time.sleep(1.0)
    assert run("failover", "list") == []
    assert networks(lab) == 0

    run("plan", "run", "pair", "--planned", "--yes")
    waiting = until_waiting(run)
    done = [step for step in by_act(waiting) if step[0] in ("stop", "start")]
    assert done == [("stop", "papp"), ("stop", "pdb"), ("start", "pdb"), ("start", "papp")]
    assert run("failover", "show", "papp")["reversible"] is True
    os.kill(run.daemon(), signal.SIGKILL)
    moved = run("plan", "approve", "pair", "--note", "db is well", "--wait")
    assert moved["complete"], moved
    assert next(step["detail"] for step in moved["steps"] if step["act"] == "approve") == "db is well"
    with lab.probe("recovery", "br0", "10.77.0.3/24") as client:
        for address in (DB, APP):
            status = client.wait(address)
            assert all(disk["boot_intact"] for disk in status["disks"])
    assert [run("status", name)["phase"] for name in ("pdb", "papp")] == ["away", "away"]
