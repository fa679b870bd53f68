"""`leeward agents …` and `leeward agent …` as an operator types them: a real console and a real agent."""

import json
import os
import signal
import subprocess
import sys

import pytest
from tests.commands import leeward
from tests.console.stand import until
from tests.loopback import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Machine:
    """One machine's configuration, its commands and its daemon."""

    def __init__(self, folder, sections=""):
        self.folder = folder
        folder.mkdir()
        self.config = folder / "leeward.toml"
        self.config.write_text(
            f'[vault]\nurl = "file://{folder.parent}/vault"\n[daemon]\nstate = "{folder}/s"\n{sections}'
            f'[[host]]\nname = "{folder.name}"\nuri = "qemu+unix:///system?socket={folder}/absent"\n'
        )
        self.environment = {
            **os.environ,
            "LEEWARD_CONFIG": str(self.config),
            "LEEWARD_PASSPHRASE": "secret",
            "COLUMNS": "160",
        }
        self.daemon = None

    def command(self, *words):
        return [sys.executable, "-m", "leeward.cli.main", *words]

    def run(self, *words, typed=""):
        return leeward(words, self.environment, typed=typed)

    def json(self, *words, typed=""):
        done = self.run(*words, "--json", typed=typed)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *words):
        log = (self.folder / "log").open("ab")
        self.daemon = subprocess.Popen(self.command(*words), env=self.environment, stdout=log, stderr=log)

    def stop(self):
        if self.daemon:
            self.daemon.send_signal(signal.SIGTERM)
            assert self.daemon.wait(20) == 0, (self.folder / "log").read_text()
            self.daemon = None


@pytest.fixture
def machines(tmp_path):
    port = free_port()
    console = Machine(
        tmp_path / "console",
        f'[console]\nagents_listen = "127.0.0.1:{port}"\nagents_address = "https://127.0.0.1:{port}"\n',
    )
    host = Machine(tmp_path / "office")
    yield console, host
    for machine in (host, console):
        if machine.daemon and machine.daemon.poll() is None:
            machine.daemon.kill()
            machine.daemon.wait()


def test_a_hosts_life(machines):
    console, host = machines
    assert console.run("vault", "init").returncode == 0
    console.start("serve")
    until(lambda: console.run("agents", "list").returncode == 0, 60)
    assert console.json("agents", "list") == []

    before = host.run("agent", "status", "--json")
    assert json.loads(before.stdout)["state"] == "stopped"
    host.start("agent", "run")
    until(lambda: host.json("agent", "status")["state"] == "unenrolled", 60)

    token = console.json("agents", "token", "--name", "branch")
    assert token["name"] == "branch"
    made = host.json("agent", "enroll", "-", typed=token["token"] + "\n")
    assert made["name"] == "branch"
    assert made["fingerprint"] == token["fingerprint"]
    again = host.run("agent", "enrol", token["token"])
    assert again.returncode == 4, "the key of the first enrolment is in use, so this is another one"
    assert "used already" in again.stderr
    assert again.stderr.count("\n") == 1

    until(lambda: host.json("agent", "status")["state"] == "connected", 30)
    [shown] = until(lambda: [a for a in console.json("agents", "list") if a["present"] and a["hosts"]], 30)
    assert shown["hosts"] == ["office"]
    assert shown["software"]
    assert "branch" in console.run("agents", "list").stdout
    assert {row["name"] for row in console.json("host", "list")} >= {"console", "office"}
    assert host.run("vault", "unlock").returncode == 0

    gone = console.json("agents", "revoke", "branch")
    assert gone["revoked"]
    until(lambda: "revoked" in host.json("agent", "status")["reason"], 30)
    assert "revoked" in console.run("agents", "list").stdout
    assert console.run("agents", "revoke", "nobody").returncode == 3
    host.stop()
    assert host.json("agent", "status")["running"] is False
    console.stop()


def test_what_cannot_be_used_is_one_line(machines):
    console, host = machines
    for words, code, said in (
        (("agent", "enrol", "nonsense"), 2, "no enrolment token"),
        (("agent", "enrol", "-"), 2, "no enrolment token"),
        (("agents", "list"), 5, "does not run"),
        (("agents", "token", "--expires", "soon"), 2, "not a duration"),
    ):
        done = host.run(*words)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    console.start("serve")
    until(lambda: console.run("agents", "list").returncode == 0, 60)
    assert console.run("agents", "token", "--expires", "90d").returncode == 2
    # A second console on the same port says so and leaves nothing running.
    other = Machine(console.folder.parent / "other", console.config.read_text().split("\n[[host]]")[0][-120:])
    other.config.write_text(console.config.read_text().replace("/console/s", "/other/s"))
    done = other.run("serve")
    assert done.returncode == 1
    assert "agents_listen" in done.stderr


def test_a_console_without_a_listener_makes_no_token(machines):
    console, _ = machines
    text = console.config.read_text()
    console.config.write_text("\n".join(line for line in text.splitlines() if "agents_" not in line))
    console.start("serve")
    until(lambda: console.run("agents", "list").returncode == 0, 60)
    done = console.run("agents", "token")
    assert done.returncode == 4
    assert "agents_listen" in done.stderr
