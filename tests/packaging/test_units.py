"""The systemd units: understood by systemd, running commands that exist, and never killing what must outlive them."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parents[2] / "packaging").glob("*.service"))


def read(unit):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(unit.read_text())
    return parser


def test_both_units_are_there():
    assert [unit.name for unit in UNITS] == ["leeward-agent.service", "leeward-console.service"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd's own checker")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_it(unit, tmp_path):
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/leeward/bin/leeward", "/usr/bin/env"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_runs_a_command_that_exists(unit):
    words = read(unit)["Service"]["ExecStart"].split()[1:]
    command = [sys.executable, "-m", "leeward.cli.main", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_comes_back_and_lets_recovered_vms_run_on(unit):
    service = read(unit)["Service"]
    assert service["Restart"] == "always"
    assert service["KillMode"] == "process"
    assert read(unit)["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_console_reads_the_ssh_keys_of_root():
    """It puts agents onto hosts over SSH; where no password is given, by these."""
    assert read(UNITS[1])["Service"]["ProtectHome"] == "read-only"
