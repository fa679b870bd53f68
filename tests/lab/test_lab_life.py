"""Up and down: repeated, killed at any time, side by side, and with nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leeward.cli.main import main
from leeward.lab import netns, processes
from leeward.lab.commands import app
from leeward.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
MakeLab = Callable[[str], Lab]


def traces(lab: Lab) -> dict[str, object]:
    """Everything on this machine that names this lab. (Other labs may come and go meanwhile.)"""
    suffix = lab.places.netns("x").removeprefix("lw-x")
    root = str(lab.places.root)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "namespaces": [entry.name for entry in Path("/run/netns").glob(f"lw-*{suffix}")],
        "mounts": [line for line in mounts if root in line or suffix in line],
        "processes": sorted(processes.strays(lab.places.root)),
        "files": sorted(str(path) for path in lab.places.root.rglob("*")) if lab.places.root.exists() else [],
        "folder": lab.places.root.exists(),
    }


NOTHING = {"namespaces": [], "mounts": [], "processes": [], "files": [], "folder": False}


def links() -> set[str]:
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def alive(pid: int) -> bool:
    """A zombie that waits for init to take notice of it has ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def run_until_killed(action: str, root: Path, seconds: float) -> bool:
    """Run Lab(root).<action> in another process and kill -9 it after `seconds`; False when it had ended before."""
    code = f"from leeward.lab.lab import Lab; Lab({str(root)!r}).{action}"
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        return True
    assert child.returncode == 0
    return False


def test_up_and_down_may_be_repeated_and_leave_nothing(make_lab: MakeLab) -> None:
    links_before = links()
    lab = make_lab("life")
    lab.up(("web",))
    try:
        guest = lab.guests("office")["web"]
        lab.wait_http("office", guest.ip)
        namespaces = [lab.places.host_netns("office"), lab.places.host_netns("recovery")]
        pids = set(netns.processes(netns.identities(namespaces)))
        assert len(pids) >= 3  # two daemons, one guest

        lab.up(("web",))
        assert lab.guests("office")["web"] == guest
        assert set(netns.processes(netns.identities(namespaces))) == pids  # nothing was started twice
        assert links() == links_before  # no link of ours outside of our namespaces
    finally:
        lab.down()
    assert traces(lab) == NOTHING
    assert not [pid for pid in pids if alive(pid)]
    lab.down()
    assert traces(lab) == NOTHING


@pytest.mark.parametrize("seconds", [0.3, 0.45, 0.6, 0.8, 1.0, 1.4])
def test_a_killed_up_is_finished_by_the_next(make_lab: MakeLab, seconds: float) -> None:
    lab = make_lab("killed")
    try:
        run_until_killed('up(("web",))', lab.places.root, seconds)
        lab.up(("web",))
        lab.wait_http("office", lab.guests("office")["web"].ip)
        assert lab.status()["up"]
    finally:
        lab.down()
    assert traces(lab) == NOTHING


@pytest.mark.parametrize("seconds", [0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.9])
def test_down_clears_after_a_killed_up(make_lab: MakeLab, seconds: float) -> None:
    lab = make_lab("cleared")
    run_until_killed('up(("web",))', lab.places.root, seconds)
    lab.down()
    assert traces(lab) == NOTHING


@pytest.mark.parametrize("seconds", [0.2, 0.3, 0.35, 0.4])
def test_a_killed_down_is_finished_by_the_next(make_lab: MakeLab, seconds: float) -> None:
    lab = make_lab("halfdown")
    lab.up(("web",))
    run_until_killed("down()", lab.places.root, seconds)
    lab.down()
    assert traces(lab) == NOTHING


def test_down_finds_processes_whose_namespace_lost_its_name(make_lab: MakeLab) -> None:
    lab = make_lab("nameless")
    lab.up(("web",))
    for role in ("office", "recovery"):
        subprocess.run(["ip", "netns", "delete", lab.places.netns(role)], check=True)
    assert list(processes.strays(lab.places.root))
    lab.down()
    assert traces(lab) == NOTHING


def test_down_does_not_reach_into_what_is_mounted_in_the_lab_folder(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab("mounted")
    lab.up(guests=())
    precious = tmp_path / "precious"
    precious.touch()
    point = lab.places.root / "point"
    point.mkdir()
    subprocess.run(["mount", "--bind", tmp_path, point], check=True)
    lab.down()
    assert precious.exists()
    assert traces(lab) == NOTHING


def test_up_restarts_a_dead_daemon_and_keeps_its_guests(make_lab: MakeLab) -> None:
    lab = make_lab("daemon")
    lab.up(("web",))
    try:
        ip = lab.guests("office")["web"].ip
        uptime = lab.wait_http("office", ip)["uptime_ms"]
        pid = int((lab.places.site("office") / "libvirtd.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.02)
        assert not lab.status()["up"]
        lab.up(("web",))
        assert lab.http("office", ip)["uptime_ms"] > uptime  # the same run of the guest
    finally:
        lab.down()


def test_two_labs_live_side_by_side_with_the_same_addresses(lab: Lab, make_lab: MakeLab) -> None:
    other = make_lab("other")
    other.up(guests=())
    try:
        here = lab.define_guest("office", "same", ip="10.77.0.50", disks=(64,))
        there = other.define_guest("office", "same", ip="10.77.0.50", disks=(64,))
        assert here.uuid != there.uuid
        lab.wait_http("office", here.ip)
        other.wait_http("office", there.ip)
        other.down()
        assert traces(other) == NOTHING
        assert lab.http("office", here.ip)["error"] == 0  # undisturbed
    finally:
        other.down()
        lab.destroy_guest("office", "same")


def test_purge_removes_a_cache_of_its_own(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = make_lab("purge").places.cache
    monkeypatch.delenv("LEEWARD_LAB_CACHE")
    lab = make_lab("purge")
    lab.places.cache.mkdir(parents=True)
    for name in ("kernel", "guest-agent"):  # spare the network
        if (shared / name).exists():
            shutil.copytree(shared / name, lab.places.cache / name)
    lab.up(guests=())
    lab.down()
    assert [entry.name for entry in lab.places.root.iterdir()] == ["cache"]
    lab.down(purge=True)
    assert traces(lab) == NOTHING


def test_the_commands_and_the_configuration_they_leave(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab("cmd")
    monkeypatch.setenv("LEEWARD_LAB", str(lab.places.root))
    runner = CliRunner()
    down = runner.invoke(app, ["status", "--json"])
    assert down.exit_code == 0
    assert '"up": false' in down.stdout
    up = runner.invoke(app, ["up"])
    assert up.exit_code == 0, up.output
    assert "answers" in up.stdout
    config = tomllib.loads(lab.places.config.read_text())
    assert config["vault"]["url"] == f"file://{lab.places.root}/vault"
    assert [(host["name"], host["site"], host["uri"]) for host in config["host"]] == [
        ("office", "source", lab.libvirt("office")),
        ("recovery", "recovery", lab.libvirt("recovery")),
    ]
    assert Path(config["host"][1]["storage"]).is_dir()
    assert config["daemon"] == {"state": f"{lab.places.root}/state", "autostart": True}
    assert runner.invoke(app, ["down"]).exit_code == 0
    assert traces(lab) == NOTHING


def test_a_bad_folder_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEEWARD_LAB", "not/absolute")
    assert main(["lab", "status"]) == 2
    told = capsys.readouterr()
    assert "absolute path" in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
