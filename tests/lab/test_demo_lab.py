"""The README's first command: what `make demo ONCE=1` runs once all is installed."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_demo_goes_through_and_leaves_nothing(make_lab):
    lab = make_lab("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEEWARD_CON")}
    environment |= {"LEEWARD_LAB": str(lab.places.root), "COLUMNS": "200"}
    command = [sys.executable, "-m", "leeward.cli.main", "lab", "demo", "--once"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    assert "Nothing is missing, both disks are of one instant" in done.stdout
    assert done.stdout.count("Nothing was lost.") == 2  # there, and home again
    assert "Sound: " in done.stdout
    assert "The demo went through." in done.stdout
    assert not lab.places.config.exists()
    assert not lab.places.vault.exists()
