"""The commands as a script sees them: one JSON document, documented keys, exit codes, one-line errors.

The daemon is real (own process, real unix socket, real vault); only the hypervisor has no VMs, since its libvirt is
not there. What needs running guests is in test_commands_lab.py.
"""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import Terminal

from leeward.agent.added_hosts import added_hosts, keep_added
from leeward.agent.config import HostConfig
from leeward.cli.main import main

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@contextmanager
def installation(tmp_path):
    config = tmp_path / "leeward.toml"
    config.write_text(
        f'[vault]\nurl = "file://{tmp_path}/vault"\n[[host]]\nname = "office"\n'
        f'uri = "qemu+unix:///system?socket={tmp_path}/absent"\n[daemon]\nstate = "{tmp_path}/s"\nautostart = true\n'
    )
    environment = {**os.environ, "LEEWARD_CONFIG": str(config), "LEEWARD_PASSPHRASE": "secret", "COLUMNS": "120"}

    def call(*words, **more):
        command = [sys.executable, "-m", "leeward.cli.main", *words]
        env = {**environment, **more}
        return subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    call.config, call.folder = config, tmp_path
    yield call
    pid = _daemon_pid(config)
    if pid:
        os.kill(pid, 15)


@pytest.fixture
def run(tmp_path):
    with installation(tmp_path) as call:
        yield call


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """With a vault; for tests that change nothing."""
    with installation(tmp_path_factory.mktemp("ready")) as call:
        call("vault", "init")
        yield call


def _daemon_pid(config):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(config).encode() in words and b"serve" in words:
                return int(entry.name)
    return None


@pytest.mark.slow
def test_every_command_explains_itself(run):
    text = run("--help").stdout
    commands = re.findall(r"^│ ([a-z]+) ", text, re.MULTILINE)
    assert {"protect", "unprotect", "status", "points", "export", "vault", "failover", "lab", "host", "vm"} <= set(
        commands
    )
    for command in commands:
        done = run(command, "--help")
        assert done.returncode == 0, command
        assert f"leeward {command}" in done.stdout
        assert f"`leeward {command}" in DOCS.read_text(), command


def test_vault_life(run):
    assert run("vault", "info").returncode == 3
    made = run("vault", "init", "--json")
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    assert document["passphrase"] is None
    assert len(document["recovery_key"]) == 63
    again = run("vault", "init", "--json")
    assert again.returncode == 4
    assert json.loads(again.stdout)["error"]["code"] == "refused"
    assert json.loads(run("vault", "check", "--keyless", "--json").stdout)["sound"] is True
    assert json.loads(run("vault", "info", "--json").stdout)["vms"] == []

    (run.folder / "s" / "keys" / "vault.key").unlink()
    wrong = run("vault", "unlock", LEEWARD_PASSPHRASE="Secret")
    assert wrong.returncode == 7
    assert wrong.stderr.count("\n") == 1
    assert "passphrase does not open" in wrong.stderr
    assert run("vault", "unlock", "--recovery-key", document["recovery_key"]).returncode == 0
    key = run.folder / "s" / "keys" / "vault.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_passphrase_is_made_up_where_nobody_can_be_asked(run):
    document = json.loads(run("vault", "init", "--json", LEEWARD_PASSPHRASE="").stdout)
    assert len(document["passphrase"]) >= 29
    (run.folder / "s" / "keys" / "vault.key").unlink()
    assert run("vault", "unlock", LEEWARD_PASSPHRASE=document["passphrase"]).returncode == 0


def test_damage_has_its_exit_code(run):
    run("vault", "init")
    keyring = next((run.folder / "vault" / "keyring").iterdir())
    keyring.write_text("{}")
    done = run("vault", "check", "--keyless")
    assert done.returncode == 7
    assert "keyring" in done.stderr


@pytest.mark.slow
def test_the_daemon_starts_by_itself_and_tells_of_an_unreachable_host(run):
    run("vault", "init")
    hosts = json.loads(run("host", "list", "--json").stdout)
    assert hosts[0]["reachable"] is False
    assert "libvirt does not answer" in hosts[0]["error"]
    assert json.loads(run("vm", "list", "--json").stdout) == []
    assert json.loads(run("status", "--json").stdout) == []
    second = run("serve")
    assert second.returncode == 4
    assert "another Leeward daemon" in second.stderr


def test_hosts_are_removed_where_they_were_added(run):
    keep_added(run.folder / "s", [HostConfig("north", "source", "qemu+unix:///system?socket=/absent")])
    run("vault", "init")
    assert [host["name"] for host in json.loads(run("host", "list", "--json").stdout)] == ["office", "north"]
    configured = run("host", "remove", "office")
    assert configured.returncode == 4
    assert configured.stderr.count("\n") == 1
    assert f"office: it stands in {run.config}. Take its [[host]] out there" in configured.stderr
    assert run("host", "remove", "moon").returncode == run("host", "remove", "a/b").returncode == 3
    gone = run("host", "remove", "north", "--json")
    assert gone.returncode == 0, gone.stderr
    assert json.loads(gone.stdout) == {"host": "north", "state": "removed"}
    assert [host["name"] for host in json.loads(run("host", "list", "--json").stdout)] == ["office"]
    assert added_hosts(run.folder / "s") == ()
    again = run("host", "remove", "north", "--json")
    assert again.returncode == 3
    assert json.loads(again.stdout)["error"]["hint"] == "Known hosts: office"
    assert run("events", "--json").stdout.count("host removed") == 1


def test_without_autostart_it_says_how_to_start(run):
    run.config.write_text(run.config.read_text().replace("autostart = true", "autostart = false"))
    done = run("status")
    assert done.returncode == 5
    assert f"Start it with `leeward --config {run.config} serve`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["protect", "nope"], 3, "no such VM"),
        (["protect", "nope", "--rpo", "soon"], 2, "'soon' is not a duration"),
        (["unprotect", "nope"], 3, "no such VM"),
        (["unprotect", "what? #1 50%"], 3, "what? #1 50%: there is no such VM"),
        (["failover", "show", "a/b"], 3, "no such VM"),
        (["points", "nope"], 3, "no such VM"),
        (["export", "nope", "--disk", "vda", "--to", "/tmp/x"], 3, "no such VM"),
        (["failover", "test", "nope"], 3, "no such VM"),
        (["failover", "cleanup", "nope"], 3, "no such VM"),
        (["vault", "check", "--public-key", "zz"], 2, "not hexadecimal"),
        (["nonsense"], 2, "No such command"),
        (["--config", "/absent.toml", "status"], 3, "does not exist"),
    ],
)
def test_mistakes_are_told_in_one_line_with_their_code(ready, words, code, said):
    done = ready(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if code != 2 or words[0] != "nonsense":
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_vault_prune(run, monkeypatch, capsys):
    assert run("vault", "init", "--json").returncode == 0
    from tests.vault.conftest import VM
    from tests.vault.pen import Pen

    from leeward.vault.facade import Vault
    from leeward.vault.stores.opening import open_store

    vault = Vault.open(open_store(f"file://{run.folder}/vault"), passphrase="secret")
    vault.put_document(VM, "catalog", {"name": "web", "policy": {"retain_s": 60}})
    pen = Pen(vault, VM)
    pen.resize("vda", 2)
    for number in range(100):
        pen.put("vda", number % 2, bytes([number + 1]) * 65536).commit()

    plan = json.loads(run("vault", "prune", "web", "--dry-run", "--json").stdout)
    assert plan["dry_run"] is True
    (row,) = plan["vms"]
    assert (row["vm"], row["vm_id"]) == ("web", VM)
    assert row["dropped"] + row["points"] == 100
    assert row["objects"] > 0
    assert row["bytes"] > 0
    assert len(vault.log(VM).points()) == 100

    text = run("vault", "prune")
    assert text.returncode == 0, text.stderr
    assert "web" in text.stdout
    left = len(vault.log(VM).points())
    assert left == row["points"]
    assert run("vault", "check").returncode == 0
    nothing = json.loads(run("vault", "prune", "--json").stdout)["vms"][0]
    assert (nothing["dropped"], nothing["objects"]) == (0, 0)
    for none in ("0", "0s"):
        refused = run("vault", "prune", "web", "--retain", none)
        assert refused.returncode == 2
        assert "newest point alone" in refused.stderr
    # In this process, at a terminal: what would go is shown before it goes.
    monkeypatch.setenv("LEEWARD_CONFIG", str(run.config))
    monkeypatch.setenv("LEEWARD_PASSPHRASE", "secret")
    for words in ((), ("--json",)):
        monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
        capsys.readouterr()
        assert main(["vault", "prune", "web", "--retain", "10s", *words]) == 1
        told = capsys.readouterr()
        assert re.search(rf"web: {left - 11} points would go, from [-0-9 :]+ to [-0-9 :]+; 11 stay, from ", told.err)
        assert f"{left - 11} recovery points are deleted for good. Go on?" in told.err
        assert "Nothing was done" in told.err
        assert (json.loads(told.out)["error"]["code"] == "declined") if words else not told.out
    assert len(vault.log(VM).points()) == left
    assert json.loads(run("vault", "prune", "web", "--retain", "10s", "--json").stdout)["vms"][0]["points"] == 11
    for words in (("--retain", "5s", "--yes"), ("--retain", "5s")):  # the second one finds nothing more to ask about
        monkeypatch.setattr(sys, "stdin", Terminal(""))
        assert main(["vault", "prune", "web", *words]) == 0
    assert len(vault.log(VM).points()) == 6

    missing = run("export", "web", "--disk", "vda", "--to", str(run.folder / "x"), "--point", "abc")
    assert missing.returncode == 3
    assert "web: there is no recovery point abc" in missing.stderr
    assert VM not in missing.stderr
    unknown = run("vault", "prune", "nobody")
    assert unknown.returncode == 3
    assert len(unknown.stderr.strip().splitlines()) <= 2
    assert run("vault", "prune", "--retain", "soon").returncode == 2
