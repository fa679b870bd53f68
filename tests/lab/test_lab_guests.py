"""Real guests: what they serve, and that what they call durable is on their disks."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from leeward.domain.vm import Power
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab import site
from leeward.lab.guest import sequence
from leeward.lab.guests import Guest
from leeward.lab.lab import Lab

pytestmark = pytest.mark.lab
Factory = Callable[..., Guest]


@contextmanager
def domain_of(lab: Lab, guest: Guest) -> Iterator[Any]:
    with site.connect(lab.libvirt(guest.site)) as connection:
        yield connection.lookupByUUIDString(guest.uuid)


def agent(domain: Any, command: str, timeout_s: int = 10) -> Any:
    text = json.dumps({"execute": command})
    return json.loads(libvirt_qemu.qemuAgentCommand(domain, text, timeout_s, 0))["return"]


def wait_for_agent(domain: Any) -> None:
    wait_until(lambda: _pings(domain), 30)


def _pings(domain: Any) -> bool:
    try:
        agent(domain, "guest-ping", 1)
    except libvirt.libvirtError:
        return False
    return True


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def as_raw(guest: Guest, target: str, folder: Path) -> Path:
    raw = folder / f"{target}.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", guest.disks[target], raw], check=True)
    return raw


@pytest.fixture(scope="module")
def removed(lab: Lab) -> Iterator[None]:
    yield
    lab.destroy_guest("office", "plain")


@pytest.fixture
def plain(lab: Lab, removed: None) -> Guest:
    """With two disks and all that a guest has; one for several tests, and booted where it does not run."""
    guest = lab.define_guest("office", "plain", interval_ms=20)
    lab.wait_http("office", guest.ip, timeout_s=90)
    return guest


def test_a_guest_boots_serves_and_counts(lab: Lab, plain: Guest) -> None:
    guest = plain
    before = lab.http("office", guest.ip, "/reset")
    time.sleep(1)
    after = lab.http("office", guest.ip)
    assert after["seq"] > before["seq"] + 5
    assert after["error"] == 0
    first, second = after["disks"]
    assert 0 < first["fsync_us"]["p50"] <= first["fsync_us"]["p99"] <= first["fsync_us"]["max"]
    assert first["fsync_us"]["count"] <= after["seq"] - before["seq"] + 1  # the reset took effect
    assert second["fsync_us"]["count"] > 5


def test_the_interval_and_the_pace_of_burning_are_kept(lab: Lab, guest_factory: Factory) -> None:
    guest = guest_factory(name="paced", disks=(64,), interval_ms=200)
    before = lab.http("office", guest.ip)
    burnt = lab.http("office", guest.ip, "/burn?8&4", timeout_s=30)
    after = lab.http("office", guest.ip)
    assert burnt["error"] == 0
    assert burnt["megabytes"] == 8
    assert 1900 <= burnt["ms"] < 6000
    assert after["seq"] - before["seq"] <= (after["uptime_ms"] - before["uptime_ms"]) / 200 + 2
    assert len(after["disks"]) == 1
    assert lab.http("office", guest.ip, "/burn?500", timeout_s=60)["error"] != 0  # a full disk is told


def test_pulled_plug_loses_nothing_that_was_told_and_both_disks_agree(
    lab: Lab, guest_factory: Factory, tmp_path: Path
) -> None:
    guest = guest_factory(name="plug", interval_ms=0)
    told = lab.http("office", guest.ip)["seq"]
    with domain_of(lab, guest) as domain:
        domain.destroy()
    first, second = (sequence.inspect(as_raw(guest, target, tmp_path), target) for target in ("vda", "vdb"))
    assert first.clean, first.problem
    assert second.clean, second.problem
    assert first.records.first == second.records.first == 1
    assert first.records.intact
    assert second.records.intact
    assert first.records.last >= told
    assert 0 <= first.records.last - second.records.last <= 1

    lab.start_guest("office", guest.name)
    again = lab.wait_http("office", guest.ip)
    assert [disk["boot_intact"] for disk in again["disks"]] == [True, True]
    assert again["disks"][0]["boot_seq"] == first.records.last
    assert again["seq"] >= first.records.last


def test_inspecting_a_crashed_disk_changes_nothing_in_it(lab: Lab, guest_factory: Factory, tmp_path: Path) -> None:
    guest = guest_factory(name="mount", disks=(64,), format="raw")
    told = lab.http("office", guest.ip)["seq"]
    with domain_of(lab, guest) as domain:
        domain.destroy()
    raw = tmp_path / "raw"
    shutil.copy(guest.disk(), raw)
    state = sequence.inspect(raw)
    assert state.clean
    assert state.records.last >= told > 0
    assert raw.read_bytes() == guest.disk().read_bytes()  # inspecting changes nothing


def test_freeze_through_the_agent_stops_writes_until_thaw(lab: Lab, plain: Guest) -> None:
    guest = plain
    with domain_of(lab, guest) as domain:
        wait_for_agent(domain)
        assert agent(domain, "guest-fsfreeze-freeze") == 2  # root and second disk
        try:
            frozen = lab.http("office", guest.ip)["seq"]
            time.sleep(1)
            assert lab.http("office", guest.ip)["seq"] <= frozen + 1
            assert agent(domain, "guest-fsfreeze-status") == "frozen"
        finally:
            assert agent(domain, "guest-fsfreeze-thaw") == 2
        time.sleep(1)
        assert lab.http("office", guest.ip)["seq"] > frozen + 2


def test_shutdown_by_agent_leaves_clean_file_systems(lab: Lab, plain: Guest, tmp_path: Path) -> None:
    guest = plain
    with domain_of(lab, guest) as domain:
        wait_for_agent(domain)
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
        assert wait_until(lambda: not domain.isActive(), 30)
    dump = subprocess.run(
        ["dumpe2fs", "-h", as_raw(guest, "vdb", tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert "needs_recovery" not in dump


def test_the_power_button_works_without_an_agent(lab: Lab, guest_factory: Factory) -> None:
    guest = guest_factory(name="button", disks=(64,), agent=False)
    with domain_of(lab, guest) as domain:
        with pytest.raises(libvirt.libvirtError) as refused:
            agent(domain, "guest-ping", 2)
        assert refused.value.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        assert wait_until(lambda: not domain.isActive(), 30)


def test_a_deaf_guest_ignores_the_power_button(lab: Lab, guest_factory: Factory, tmp_path: Path) -> None:
    guest = guest_factory(name="deaf", disks=(64,), agent=False, acpi=False)
    host = LibvirtHost("office", lab.libvirt("office"), tmp_path)
    began = time.monotonic()
    assert host.shutdown(guest.uuid, 6) is False
    assert time.monotonic() - began < 15
    assert host.vm(guest.uuid).power is Power.RUNNING
    host.force_off(guest.uuid)
    assert host.vm(guest.uuid).power is Power.OFF


def test_a_probe_reaches_a_copy_with_the_same_address_on_an_isolated_bridge(lab: Lab, guest_factory: Factory) -> None:
    from leeward.lab import netns

    original = guest_factory("office", "twin", disks=(64,), ip="10.77.0.99")
    host = lab.places.host_netns("recovery")
    netns.ip(host, "link add iso0 type bridge", "link set iso0 up")
    try:
        guest_factory("recovery", "twin", disks=(64,), ip="10.77.0.99", bridge="iso0")
        with lab.probe("recovery", "iso0", "10.77.0.3/24") as probe:
            copy = probe.wait("10.77.0.99", timeout_s=90)
            assert copy["uptime_ms"] < lab.http("office", original.ip)["uptime_ms"]
            assert probe.run(["busybox", "ping", "-c", "1", "-W", "1", "10.77.0.99"]).returncode == 0
            assert probe.run(["busybox", "ping", "-c", "1", "-W", "1", "10.78.0.1"]).returncode != 0  # no way out
        assert not netns.exists(probe.namespace)
    finally:
        lab.destroy_guest("recovery", "twin")
        netns.ip(host, "link delete iso0")


def test_the_sites_see_each_other_over_the_link_and_clients_their_lan(lab: Lab) -> None:
    assert lab.client("office").run(["busybox", "ping", "-c", "1", "-W", "2", "10.78.0.2"]).returncode == 0
    assert lab.client("recovery").run(["busybox", "ping", "-c", "1", "-W", "2", "10.77.0.2"]).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_debian_guest_serves_freezes_and_shuts_down(lab: Lab, guest_factory: Factory, tmp_path: Path) -> None:
    guest = guest_factory(name="debian", kind="debian", disks=(1024, 32), memory_mib=512)
    with domain_of(lab, guest) as domain:
        wait_for_agent(domain)
        assert agent(domain, "guest-get-osinfo")["id"] == "debian"
        assert agent(domain, "guest-get-host-name")["host-name"] == "debian"
        assert agent(domain, "guest-fsfreeze-freeze") == 2
        frozen = lab.http("office", guest.ip)["seq"]
        assert agent(domain, "guest-fsfreeze-thaw") == 2
        time.sleep(1)
        assert lab.http("office", guest.ip)["seq"] > frozen + 2
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        assert wait_until(lambda: not domain.isActive(), 60)
    for target in ("vda", "vdb"):
        state = sequence.inspect(as_raw(guest, target, tmp_path), target)
        assert state.clean, state.problem
        assert state.records.intact
        assert state.records.last > frozen


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_debian_guest_without_agent_and_power_button(lab: Lab, guest_factory: Factory) -> None:
    guest = guest_factory(name="deafdebian", kind="debian", disks=(1024,), memory_mib=512, agent=False, acpi=False)
    with domain_of(lab, guest) as domain:
        time.sleep(5)
        assert not _pings(domain)
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        assert not wait_until(lambda: not domain.isActive(), 10)
