"""Two real consoles on one real PostgreSQL, agents of two sites beside them: whatever happens to the one that works,
the other takes its place and carries its runs on."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from tests.commands import leeward
from tests.console.stand import until
from tests.loopback import free_port
from tests.state.postgres import Postgres, find_programs, short_folder
from tests.vault.conftest import CHEAP

from leeward.agent.keys import save_keys
from leeward.console.authority import Authority
from leeward.console.seat import DEPOSED, LASTS_S
from leeward.lab.tools import MORTAL
from leeward.state.seat import Member, SeatBook
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
WITHIN_S = 30.0


class Way:
    """From one console to the database; it can be cut."""

    def __init__(self, server):
        self.folder, self.server = short_folder(), server
        self.folder.chmod(0o755)
        self.is_cut = False
        self._ends = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self.folder}/.s.PGSQL.5432")
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                if self.is_cut:
                    raise ConnectionRefusedError
                far.connect(f"{self.server}/.s.PGSQL.5432")
            except OSError:
                near.close()
                continue
            self._ends += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        self.is_cut = True
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends = []

    def mend(self):
        self.is_cut = False

    def close(self):
        self._listener.close()
        self.cut()
        shutil.rmtree(self.folder)


class Console:
    def __init__(self, folder, name, vault, server, more=""):
        self.folder, self.name = folder / name, name
        self.way = Way(server)
        self.state = self.folder / "s"
        self.state.mkdir(parents=True, mode=0o700)
        self.port, self.agents_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.database = f"postgresql+psycopg://leeward@/leeward?host={self.way.folder}"
        self.config = self.folder / "leeward.toml"
        self.config.write_text(
            f'[vault]\nurl = "{vault.as_uri()}"\n[daemon]\nstate = "{self.state}"\n'
            f'[console]\nname = "{name}"\ndatabase = "{self.database}"\n'
            f'listen = "127.0.0.1:{self.port}"\naddress = "{self.url}"\n'
            f'agents_listen = "127.0.0.1:{self.agents_port}"\n'
            f'agents_address = "https://127.0.0.1:{self.agents_port}"\n{more}'
        )
        self.process = None

    def start(self):
        with (self.folder / "log").open("ab") as log:
            command = [*MORTAL, sys.executable, "-m", "leeward.cli.main", "--config", str(self.config), "serve"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=clean())
        return self

    def log(self):
        return (self.folder / "log").read_text()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def end(self, number=signal.SIGKILL):
        """→ exit code"""
        if self.alive():
            self.process.send_signal(number)
        return self.process.wait(40) if self.process else None

    def ask(self, method, path, body=None):
        """(status, answer) as the machine's root; (0, None) when nobody answers."""
        transport = httpx.HTTPTransport(uds=str(self.state / "leeward.sock"), verify=False)  # loads no certificates
        with httpx.Client(transport=transport, base_url="http://leeward", timeout=20) as client:
            try:
                answer = client.request(method, path if path == "/healthz" else f"/api/v1{path}", json=body)
            except httpx.TransportError:
                return 0, None
            return answer.status_code, answer.json()

    def get(self, path):
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def active(self):
        status, answer = self.ask("GET", "/healthz")
        return status == 200 and answer == {"state": "active", "console": self.name}

    def stands_by(self):
        status, answer = self.ask("GET", "/healthz")
        return status == 503 and answer == {"state": "standby", "console": self.name}

    def leeward(self, *words, **more):
        return leeward(words, clean() | more, cwd=self.folder)

    def here(self, *words):
        return self.leeward("--config", str(self.config), *words)


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("LEEWARD_")}


class Pair:
    """The whole of it. `active` and `standby`: the consoles as they are now."""

    def __init__(self, folder, postgres):
        self.folder, self.postgres = folder, postgres
        vault, _ = Vault.create(LocalStore(folder / "vault"), "x", cost=CHEAP)
        save_keys(folder, vault.keys)
        self.consoles = [Console(folder, name, folder / "vault", postgres._folder) for name in ("north", "south")]
        Authority.open(self.consoles[0].state / "authority")
        for console in self.consoles:
            save_keys(console.state, vault.keys)
        shutil.copytree(self.consoles[0].state / "authority", self.consoles[1].state / "authority")
        self.sites = None

    def both(self):
        """One works, the other stands by."""
        for console in self.consoles:
            if not console.alive():
                console.start()
        until(
            lambda: sorted((c.active(), c.stands_by()) for c in self.consoles) == [(False, True), (True, False)],
            40,
            every_s=0.1,
        )
        return self

    @property
    def active(self):
        return next(console for console in self.consoles if console.active())

    @property
    def standby(self):
        return next(console for console in self.consoles if console.stands_by())

    def start_sites(self):
        tokens = [json.loads(self.active.here("agents", "token", "--json").stdout)["token"] for _ in range(2)]
        with (self.folder / "sites.log").open("ab") as log:
            command = [*MORTAL, sys.executable, "-m", "tests.cli.two_sites", str(self.folder), *tokens]
            self.sites = subprocess.Popen(command, stdout=log, stderr=log, env=clean(), cwd=ROOT)
        active = self.active
        until(lambda: len([host for host in active.get("/hosts") if host["reachable"]]) == 2, 60, every_s=0.1)
        assert active.ask("PUT", "/vms/web/protection", {"rpo_s": 1, "app_interval_s": 0})[0] == 200
        until(lambda: active.get("/status?vm=web")[0]["failover_possible"], 60, every_s=0.1)

    def gate(self, open_):
        path = self.folder / "gate"
        path.touch() if open_ else path.unlink(missing_ok=True)

    def running(self):
        return json.loads((self.folder / "running").read_text())

    def jobs(self, what):
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[2] for line in lines if line.startswith(what)]

    def in_mid_run(self, path, body):
        """A run at the active one that waits in the middle; its id."""
        self.gate(False)
        active = self.active
        status, run = active.ask("POST", path, body)
        if status == 409:  # left by the first of two tries
            self.gate(True)
            until(lambda: active.get("/runs?vm=web&limit=1")[0]["state"] in ("done", "stalled"), 60, every_s=0.05)
            self.cleaned_up()
            self.gate(False)
            status, run = active.ask("POST", path, body)
        assert status == 202, run
        run_id = active.get("/runs?vm=web&limit=1")[0]["id"]

        def at_the_gate():
            steps = {step["name"]: step["state"] for step in active.get(f"/runs/{run_id}")["steps"]}
            return steps["build"] == "running" and any(run_id in job for job in self.jobs("begin copy-build"))

        until(at_the_gate, 60, every_s=0.05)
        return run_id

    def cleaned_up(self):
        active = self.active
        assert active.ask("DELETE", "/vms/web/test-failover")[0] == 200
        until(lambda: active.get("/runs?vm=web&limit=1")[0]["state"] == "done", 60, every_s=0.05)

    def ends(self, console, run_id, began):
        """Seconds from `began` until the run has come to its end at this console."""
        self.gate(True)
        until(lambda: console.active(), WITHIN_S, every_s=0.05)
        taken = time.monotonic() - began
        until(lambda: console.get(f"/runs/{run_id}")["state"] == "done", WITHIN_S, every_s=0.05)
        took = time.monotonic() - began
        print(f"taken over after {taken:.1f} s, the run at its end after {took:.1f} s")
        return took

    def close(self):
        for process in [console.process for console in self.consoles] + [self.sites]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for console in self.consoles:
            console.way.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    postgres = Postgres(programs, short_folder())
    made = None
    try:
        postgres.start()
        postgres.execute("CREATE DATABASE leeward")
        made = Pair(tmp_path_factory.mktemp("pair"), postgres)
        made.consoles[0].start()
        until(made.consoles[0].active, 60)
        made.both().start_sites()
        yield made
    finally:
        if made:
            made.close()
        postgres.remove()


def test_frozen_past_its_seat_it_wakes_up_and_does_nothing(pair):
    pair.both()
    run_id = pair.in_mid_run("/vms/web/test-failover", {})
    frozen, heir = pair.active, pair.standby
    began = time.monotonic()
    frozen.process.send_signal(signal.SIGSTOP)
    assert pair.ends(heir, run_id, began) < WITHIN_S
    jobs, events = pair.jobs("begin"), heir.get("/events")
    frozen.process.send_signal(signal.SIGCONT)
    assert frozen.process.wait(10) == DEPOSED
    assert '"event": "this console stops at once"' in frozen.log()
    assert (pair.jobs("begin"), heir.get("/events")) == (jobs, events)
    assert len(jobs) == len(set(jobs)), "a job was begun twice"
    pair.both()
    assert pair.active is heir
    pair.cleaned_up()


def test_a_console_that_loses_the_database_lets_the_other_one_work(pair):
    pair.both()
    run_id = pair.in_mid_run("/vms/web/test-failover", {})
    cut_off, heir = pair.active, pair.standby
    began = time.monotonic()
    cut_off.way.cut()
    assert cut_off.process.wait(WITHIN_S) == DEPOSED
    assert not heir.active()  # nobody took the seat before its holder had let go of it
    assert pair.ends(heir, run_id, began) < WITHIN_S
    cut_off.way.mend()
    pair.both()
    assert pair.active is heir
    pair.cleaned_up()


def test_a_restart_of_the_database_changes_nothing(pair):
    pair.both()
    run_id = pair.in_mid_run("/vms/web/test-failover", {})
    active, standby = pair.active, pair.standby
    pair.postgres.stop()
    time.sleep(3)
    pair.postgres.start()
    pair.ends(active, run_id, time.monotonic())
    time.sleep(4)  # a renewal later
    assert (pair.active, pair.standby) == (active, standby)
    pair.cleaned_up()


def test_people_are_told_who_works_and_find_him_by_themselves(pair):
    pair.both()
    active, standby = pair.active, pair.standby
    status, answer = standby.ask("GET", "/status")
    assert (status, answer["error"]["code"], answer["error"]["exit_code"]) == (503, "standby", 5)
    done = standby.here("status")
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert f"the active one is {active.name}" in done.stderr
    assert active.url in done.stderr
    states = {row["name"]: row["state"] for row in json.loads(active.here("console", "list", "--json").stdout)}
    assert states == {active.name: "active", standby.name: "standby"}

    active.here("user", "add", "anna", "--role", "admin", "--password-file", password(pair))
    both, home = f"{standby.url},{active.url}", {"XDG_CONFIG_HOME": str(pair.folder / "anna")}
    fingerprint = Authority.open(active.state / "authority").fingerprint
    words = ["--user", "anna", "--fingerprint", fingerprint, "--password-file", password(pair)]
    done = standby.leeward("login", both, *words, **home)
    assert done.returncode == 0, done.stderr
    assert standby.leeward("status", **home).returncode == 0

    run_id = pair.in_mid_run("/vms/web/test-failover", {})
    began = time.monotonic()
    assert active.end(signal.SIGTERM) == 0
    ended = time.monotonic()
    until(standby.active, WITHIN_S)
    assert time.monotonic() - ended < LASTS_S, "a seat that is given up is not waited for"
    assert standby.leeward("status", **home).returncode == 0
    states = {row["name"]: row["state"] for row in standby.get("/consoles")}
    assert states == {active.name: "stopped", standby.name: "active"}
    assert standby.here("console", "forget", active.name, "--json").returncode == 0
    assert [row["name"] for row in standby.get("/consoles")] == [standby.name]
    pair.ends(standby, run_id, began)
    pair.cleaned_up()
    book, ghost = SeatBook(standby.database), Member("ghost", "g")
    book.join(ghost)
    assert standby.here("console", "forget", "ghost", "--database").returncode == 4  # it may live
    book.leave(ghost)
    assert standby.here("console", "forget", "ghost", "--database").returncode == 0
    assert [known.member.name for known in book.all()] == [standby.name]
    book.close()


def password(pair):
    path = pair.folder / "password"
    path.write_text("a long enough password")
    return str(path)


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("hosts", 4, "has hosts of its own"),
        ("authority", 4, "the consoles of this database have another authority"),
        ("no authority", 4, "this console has no authority yet"),
        ("key", 4, "the key of another vault"),
        ("no key", 4, "does not hold the vault's key"),
        ("name", 4, "another console of this name works"),
    ],
)
def test_a_console_that_could_not_take_over_is_refused(pair, tmp_path, what, code, said):
    """At its start, with a hint, and without a traceback; those that work go on."""
    pair.both()
    host = '[[host]]\nname = "x"\nuri = "qemu+unix:///system?socket=/absent"\n' if what == "hosts" else ""
    name = pair.standby.name if what == "name" else "third"
    third = Console(tmp_path, name, pair.folder / "vault", pair.postgres._folder, host)
    try:
        if what == "authority":
            Authority.open(third.state / "authority")
        elif what != "no authority":
            shutil.copytree(pair.active.state / "authority", third.state / "authority")
        if what == "key":
            save_keys(third.state, Vault.create(LocalStore(tmp_path / "other"), "x", cost=CHEAP)[0].keys)
        elif what != "no key":
            shutil.copytree(pair.active.state / "keys", third.state / "keys")
        third.start()
        assert third.process.wait(60) == code, third.log()
        assert said in third.log()
        assert "Traceback" not in third.log()
    finally:
        third.end()
        third.way.close()
    assert sorted(row["name"] for row in pair.active.get("/consoles")) == ["north", "south"]
    pair.both()


def test_killed_in_mid_run_the_other_carries_it_on(pair):
    pair.both()
    run_id = pair.in_mid_run("/vms/web/failover/planned", {})
    dead, heir = pair.active, pair.standby
    began = time.monotonic()
    dead.end(signal.SIGKILL)
    assert pair.ends(heir, run_id, began) < WITHIN_S
    until(lambda: pair.running() == ["recovery"], 5)
    assert len(pair.jobs("begin")) == len(set(pair.jobs("begin"))), "a job was begun twice"
