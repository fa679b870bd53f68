"""The daemon from its first start on: how it is reached, where it remembers, how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from tests.commands import leeward
from tests.loopback import free_port
from tests.state.postgres import Postgres, find_programs, short_folder

pytestmark = pytest.mark.slow

PASSWORD = "a long enough password"


class Machine:
    """One with a daemon, and another one that only has the command line."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.config = folder / "leeward.toml"
        self.process = None

    def configure(self, console=""):
        self.config.write_text(
            f'[vault]\nurl = "file://{self.folder}/vault"\n[[host]]\nname = "office"\n'
            f'uri = "qemu+unix:///system?socket={self.folder}/absent"\n[daemon]\nstate = "{self.folder}/s"\n'
            f'[console]\nlisten = "127.0.0.1:{self.port}"\n{console}\n'
        )

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "leeward.cli.main", "--config", str(self.config), "serve"],
                stdout=log,
                stderr=log,
            )
        return self

    def log(self):
        return (self.folder / "log").read_text()

    def until(self, condition, timeout_s=30.0):
        ends = time.monotonic() + timeout_s
        while not (found := condition()):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < ends, self.log()
            time.sleep(0.05)
        return found

    def stop(self, number=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40) if self.process else None

    def here(self, *words):
        return self._run({"LEEWARD_CONFIG": str(self.config)}, words)

    def elsewhere(self, *words):
        return self._run({"XDG_CONFIG_HOME": str(self.folder / "elsewhere")}, words)

    def _run(self, more, words):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LEEWARD_")}
        return leeward(words, clean | more, cwd=self.folder)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.configure()
    yield made
    if made.process and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def sign_up(machine, code, fingerprint):
    password = machine.folder / "password"
    password.write_text(PASSWORD)
    words = ["login", machine.url, "--user", "anna", "--password-file", str(password)]
    return machine.elsewhere(*words, "--fingerprint", fingerprint, "--setup-code", code, "--json")


def test_from_the_first_start_to_the_first_user_elsewhere(machine):
    machine.start()
    machine.until(lambda: "listening" in machine.log())
    code = re.search(r"--setup-code ([A-Z0-9-]{23})\n", machine.log()).group(1)
    fingerprint = re.search(r"^ +((?:[0-9A-F]{2}:){31}[0-9A-F]{2})$", machine.log(), re.MULTILINE).group(1)
    done = sign_up(machine, code, fingerprint)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["role"] == "admin"
    assert json.loads(machine.elsewhere("host", "list", "--json").stdout)[0]["name"] == "office"
    assert json.loads(machine.here("whoami", "--json").stdout)["who"] == "local"
    done = machine.here("user", "setup-code")
    assert done.returncode == 4

    assert machine.stop() == 0
    assert not (machine.folder / "s" / "leeward.sock").exists()
    before = len(machine.log())
    machine.start()
    machine.until(lambda: "listening" in machine.log()[before:])
    assert "--setup-code" not in machine.log()[before:]
    assert machine.elsewhere("whoami").returncode == 0
    assert machine.stop(signal.SIGINT) == 0


def test_nothing_is_listened_on_unless_it_is_asked_for(machine):
    machine.config.write_text(re.sub(r"\[console\][^\[]*", "", machine.config.read_text()))
    machine.start()
    machine.until((machine.folder / "s" / "leeward.sock").exists)
    machine.until(lambda: machine.here("user", "list").returncode == 0)
    assert "--setup-code" not in machine.log()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", machine.port))
    code = json.loads(machine.here("user", "setup-code", "--json").stdout)
    assert code["fingerprint"] is None


@pytest.mark.parametrize(
    ("console", "said"),
    [
        ('cert = "/absent.pem"\nkey = "/absent.key"', "certificate and key cannot be used"),
        ('database = "mysql://x"', "no database that Leeward can use"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(machine, console, said):
    machine.configure(console)
    machine.start()
    assert machine.process.wait(30) == 2
    assert said in machine.log()
    assert "Traceback" not in machine.log()


def test_a_database_server_may_come_after_the_daemon(machine):
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    postgres = Postgres(programs, short_folder())
    try:
        machine.configure(f'database = "{postgres.url()}"')
        machine.start()
        machine.until(lambda: "waiting for the database" in machine.log())
        postgres.start()
        machine.until(lambda: "listening" in machine.log())
        assert machine.here("user", "setup-code").returncode == 0
        assert not (machine.folder / "s" / "leeward.db").exists()
        postgres.stop()
        done = machine.here("events", "--json")
        assert done.returncode == 5
        assert json.loads(done.stdout)["error"]["code"] == "unavailable"
        postgres.start()
        assert machine.here("events", "--json").returncode == 0
        assert machine.stop() == 0
    finally:
        postgres.remove()
