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

    def run(script, code=0):
        there = re.sub(r"(?<![|\w/])/(etc|opt)/", rf"{tmp_path}/\1/", script)
        done = subprocess.run(
            ["bash", "-euc", there], env={"PATH": f"{programs}:/usr/bin:/bin"}, capture_output=True, text=True
        )
        run.said = done.stderr
        assert (done.returncode, bool(done.stderr)) == (code, bool(code)), done.stderr
        return log.read_text().splitlines() if log.exists() else []

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
        "systemctl enable leeward-agent.service",
        "systemctl restart leeward-agent.service",
        "leeward vault unlock",
    ]
    settings = read_settings(host.etc / "leeward" / "leeward.toml")
    assert settings.vault.url == 's3://bucket/a"b'
    assert [(one.name, one.site, one.uri) for one in settings.host] == [("kvm01", site, "qemu:///system")]
    assert (settings.host[0].storage is not None) is (site == "recovery")
    unit = (host.etc / "systemd" / "system" / "leeward-agent.service").read_text()
    assert "ExecStart=/opt/leeward/.venv/bin/leeward agent run" in unit


@pytest.mark.parametrize("line", ['name = "kvm.01"', "name='kvm.01' # ours", ' name  =  "kvm.01"'])
def test_an_operators_own_configuration_of_this_host_is_left_as_it_is(host, line):
    (host.etc / "leeward").mkdir()
    own = f"# mine\n[[host]]\n{line}\n"
    (host.etc / "leeward" / "leeward.toml").write_text(own)
    assert "lw1-token" in host(on_host("kvm.01", "source", "s3://bucket", "lw1-token", "/x"))
    assert (host.etc / "leeward" / "leeward.toml").read_text() == own


@pytest.mark.parametrize("own", ["# mine\n", '[[host]]\nname = "kvm011"\n', '[[host]]\nname = "kvm-01"\n'])
def test_where_the_operators_own_configuration_has_no_such_host_nothing_is_enrolled(host, own):
    (host.etc / "leeward").mkdir()
    (host.etc / "leeward" / "leeward.toml").write_text(own)
    assert host(on_host("kvm.01", "source", "s3://bucket", "lw1-token", "/x"), code=1) == []
    assert "was not written by the console and has no host kvm.01" in host.said
    assert (host.etc / "leeward" / "leeward.toml").read_text() == own


def test_a_second_try_with_another_name_and_site_is_what_counts(host):
    host(on_host("kvm01", "source", "s3://bucket", "lw1-token", "/x"))
    host(on_host("dr1", "recovery", "s3://other", "lw1-token", "/x"))
    settings = read_settings(host.etc / "leeward" / "leeward.toml")
    assert [(one.name, one.site) for one in settings.host] == [("dr1", "recovery")]
    assert settings.vault.url == "s3://other"
    assert read_settings(host.etc / "leeward" / "leeward.toml.before").host[0].name == "kvm01"


def test_an_empty_configuration_is_none(host):
    (host.etc / "leeward").mkdir()
    (host.etc / "leeward" / "leeward.toml").touch()
    host(on_host("kvm01", "source", "s3://bucket", "lw1-token", "/x"))
    assert read_settings(host.etc / "leeward" / "leeward.toml").host[0].name == "kvm01"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_what_fails_ends_it_there_however_it_is_run(host, shell, tmp_path):
    """By a shell that reads it from its input, as over SSH or when it is typed in: the shell itself goes on."""
    leeward = tmp_path / "opt" / "leeward" / ".venv" / "bin" / "leeward"
    leeward.write_text(leeward.read_text() + 'case "$*" in *hook*) exit 3;; esac\n')
    script = re.sub(
        r"(?<![|\w/])/(etc|opt)/", rf"{tmp_path}/\1/", on_host("kvm01", "source", "s3://b", "lw1-token", "/x")
    )
    path = f"{leeward.parent}:/usr/bin:/bin"
    done = subprocess.run([shell], input=f"{script}\necho $?\n", env={"PATH": path}, capture_output=True, text=True)
    assert "leeward agent hook" in (tmp_path / "log").read_text()
    assert "systemctl" not in (tmp_path / "log").read_text()
    assert done.stdout == "3\n"


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
