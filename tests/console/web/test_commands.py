"""What is shown to be typed on a host really does what it says; only its programs are stand-ins."""

import re
import subprocess

import pytest

from leeward.cli.config import read_settings
from leeward.console.web.commands import is_local, on_host, onto_host

STANDIN = '#!/bin/sh\necho "$(basename $0) $*" >> {log}\ncase "$*" in *enrol*) cat >> {log};; esac\n'
UNIT = "[Service]\nExecStart=/opt/leeward/bin/leeward agent run\n"


@pytest.fixture
def host(tmp_path):
    """host(script) → what was called, in order; its /etc and /opt are folders of ours."""
    log = tmp_path / "log"
    programs = tmp_path / "opt" / "leeward" / ".venv" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "opt" / "leeward" / "packaging").mkdir()
    (tmp_path / "opt" / "leeward" / "packaging" / "leeward-agent.service").write_text(UNIT)
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    for program in (programs / "leeward", programs / "systemctl"):
        program.write_text(STANDIN.format(log=log))
        program.chmod(0o755)

    def run(script):
        there = re.sub(r"(?<![|\w/])/(etc|opt)/", rf"{tmp_path}/\1/", script)
        done = subprocess.run(
            ["bash", "-euc", there], env={"PATH": f"{programs}:/usr/bin:/bin"}, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return log.read_text().splitlines()

    run.etc = tmp_path / "etc"
    return run


@pytest.mark.parametrize("site", ["source", "recovery"])
def test_a_host_is_configured_enrolled_and_started(host, site):
    called = host(on_host("kvm01", site, 's3://bucket/a"b', "lw1-token", "/var/lib/leeward/images"))
    assert called == [
        "leeward agent enrol -",
        "lw1-token",
        "leeward agent hook",
        "systemctl daemon-reload",
        "systemctl enable --now leeward-agent.service",
        "leeward vault unlock",
    ]
    settings = read_settings(host.etc / "leeward" / "leeward.toml")
    assert settings.vault.url == 's3://bucket/a"b'
    assert [(one.name, one.site, one.uri) for one in settings.host] == [("kvm01", site, "qemu:///system")]
    assert (settings.host[0].storage is not None) is (site == "recovery")
    unit = (host.etc / "systemd" / "system" / "leeward-agent.service").read_text()
    assert "ExecStart=/opt/leeward/.venv/bin/leeward agent run" in unit


def test_a_configuration_that_is_there_is_left_as_it_is(host):
    (host.etc / "leeward").mkdir()
    (host.etc / "leeward" / "leeward.toml").write_text("# mine\n")
    host(on_host("kvm01", "source", "s3://bucket", "lw1-token", "/x"))
    assert (host.etc / "leeward" / "leeward.toml").read_text() == "# mine\n"


def test_leeward_is_brought_onto_the_host_without_the_token():
    lines = onto_host("10.77.0.9").splitlines()
    assert len(lines) == 2
    assert all("ssh root@10.77.0.9" in line for line in lines)
    assert "token" not in onto_host("10.77.0.9")


def test_a_vault_in_a_folder_is_told_apart():
    assert is_local("file:///srv/vault")
    assert is_local("/srv/vault")
    assert not is_local("s3://bucket/x")
    assert not is_local("azure://container/x")
