"""The commands run in a real shell; only ssh, apt-get and make are stand-ins, and the host is a folder."""

import os
import subprocess

import pytest

from leeward.domain.errors import BadInput
from leeward.network.discovery import installing
from leeward.network.discovery.installing import install_commands

JOIN = ["agent", "join", "--console", "https://console.example:8443/a b"]
TOKEN = 'one\'time $(reboot) "token"'


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A clone with one file, and a PATH whose programs tell of themselves."""
    monkeypatch.setattr(installing, "FOLDER", str(tmp_path / "opt"))
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log"
    scripts = {
        "ssh": f'echo "ssh $1: $#" >>{log}; shift; exec sh -c "$1"',
        "apt-get": f'echo "apt-get $*" >>{log}',
        "make": f'echo "make $*" >>{log}',
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "Makefile").write_text("all:\n")
    leeward = clone / ".venv" / "bin" / "leeward"
    leeward.parent.mkdir(parents=True)
    leeward.write_text(f'#!/bin/sh\nprintf "[%s]" "$@" >>{log}\ncat >{tmp_path}/told\n')
    leeward.chmod(0o755)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example"]
    for words in (["init", "-q"], ["add", "-A", "-f"], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=clone, check=True)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(command):
        subprocess.run(["sh", "-euc", command], cwd=clone, env=environment, check=True)

    run.folder = tmp_path
    return run


def test_the_commands_do_what_they_say(here):
    for command in install_commands("10.77.0.31", JOIN, TOKEN):
        here(command)
    log = (here.folder / "log").read_text()
    assert log.count("ssh root@10.77.0.31: 2\n") == 3
    assert "apt-get install -y make\n" in log
    assert f"make -C {installing.FOLDER} setup\n" in log
    assert log.endswith("[agent][join][--console][https://console.example:8443/a b]")
    assert TOKEN not in log
    assert (here.folder / "told").read_text() == TOKEN + "\n"


@pytest.mark.parametrize("host", ["kvm01.example", "fd00::5", "::1", "fe80::1%eth0"])
def test_hosts(host):
    assert f"ssh admin@{host} " in install_commands(host, JOIN, TOKEN, user="admin")[0]


@pytest.mark.parametrize(
    ("host", "user", "token", "join"),
    [
        ("-oProxyCommand=reboot", "root", "t", JOIN),
        ("a b", "root", "t", JOIN),
        ("", "root", "t", JOIN),
        ("web", "-l", "t", JOIN),
        ("web", "", "t", JOIN),
        ("web", "root", "", JOIN),
        ("web", "root", "t", []),
    ],
)
def test_what_cannot_be_used(host, user, token, join):
    with pytest.raises(BadInput):
        install_commands(host, join, token, user=user)
