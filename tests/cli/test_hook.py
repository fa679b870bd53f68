"""`leeward agent hook` as an administrator of a host types it."""

import json
import subprocess
import sys

import pytest

HOSTS = """
[[host]]
name = "office"
uri = "qemu:///system"
[[host]]
name = "far"
uri = "qemu+ssh://root@far/system"
"""


@pytest.fixture
def run(tmp_path):
    config = tmp_path / "leeward.toml"
    config.write_text(f'[daemon]\nstate = "{tmp_path}/s"\n{HOSTS}')

    def call(*words):
        command = [sys.executable, "-m", "leeward.cli.main", "--config", str(config), "agent", "hook", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return call


def test_it_is_installed_once_and_removed_again(run, tmp_path):
    where = ("--folder", str(tmp_path / "hooks"))
    file = tmp_path / "hooks/qemu.d/leeward"
    done = run(*where, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"host": "office", "file": str(file), "installed": True, "changed": True}
    assert f"{tmp_path}/s/kept-off/office.list" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o755
    assert json.loads(run(*where, "--json").stdout)["changed"] is False
    assert "is gone" in run(*where, "--remove").stdout
    assert not file.exists()


def test_a_host_of_another_machine_is_refused_with_the_reason(run, tmp_path):
    done = run("--host", "far", "--folder", str(tmp_path / "hooks"))
    assert done.returncode == 2
    assert "on another machine" in done.stderr
    assert run("--host", "nobody").returncode == 3
    assert not (tmp_path / "hooks").exists()
