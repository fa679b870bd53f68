"""A Leeward with its parts apart, as in the field: a console at one place, an agent at each site, a vault far away.

Each is a process in the network namespace of its place; they reach each other over the wide-area link alone, by the
ways that real ones do: one-time tokens, certificates of the console's authority, an S3 server with TLS.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leeward.cli.asking import Asker
from leeward.cli.client import Client
from leeward.cli.config import read_settings
from leeward.console.authority import Authority
from leeward.domain.errors import LeewardError, NotFound, Unavailable
from leeward.lab import netns, processes, site, tools, volumes, wan
from leeward.lab.lab import Lab, require_root
from leeward.lab.places import CLOUD_ADDRESS, HQ_ADDRESS

_BUCKET = "vault"
_STORE = f"https://{CLOUD_ADDRESS}:9000"
_LINE = f"{HQ_ADDRESS}:8444"
_START_S = 60.0
_SPOOL = 8 << 20
# The agent's scratch images and spool; the disks of what is brought up at the recovery site.
_STATE_MIB, _STORAGE_MIB = 448, 448


class Parts:
    """names of parts: cloud, console, office, recovery (the agents), portal. `up` once, then `renew` as often as
    wished; the lab's `down` ends everything."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.places.root / "parts"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._vaults = 0
        self._key = ""

    # --- life -----------------------------------------------------------------------------------------

    def up(self) -> None:
        """The lab, its places without a LAN, and the server of the vault. Needs root."""
        require_root()
        if importlib.util.find_spec("moto") is None:
            raise NotFound("the S3 server of the lab is not installed", hint="pip install 'moto[server]'")
        self.folder.mkdir(parents=True, exist_ok=True)
        volumes.ensure(self.state("office"), _STATE_MIB)
        volumes.ensure(self.lab.places.images("recovery"), _STORAGE_MIB)
        self.lab.up(guests=())
        for place in ("cloud", "hq"):
            wan.join(self.lab.places, place)
        authority = Authority.open(self.folder / "authority")
        (self.folder / "ca.pem").write_bytes(authority.ca_pem)
        certificate, key = authority.server_files([CLOUD_ADDRESS])
        words = ["-m", "leeward.lab.cloud", CLOUD_ADDRESS, "9000", str(certificate), str(key), _BUCKET]
        self._spawn("cloud", "cloud", words)
        _until(lambda: self._curl(f"{_STORE}/{_BUCKET}"), "the vault's server does not answer")

    def renew(self) -> None:
        """New parts with a new vault; nothing of what was before is left."""
        self.end()
        for name in ("console", "office", "recovery"):
            _empty(self.state(name))
        self._vaults += 1
        self._configure()
        self._key = self.command("console", "vault", "init")["recovery_key"]
        (self.folder / "recovery.key").write_text(self._key)
        self.start("console")
        for name in ("office", "recovery"):
            token = self.asker("console").post("/agents/tokens", {"name": name, "expires_s": 600})["token"]
            self.command(name, "agent", "enrol", token)
            self.command(name, "vault", "unlock", "--recovery-key", self._key)
            self.start(name)

    def end(self) -> None:
        """kill -9 to all parts but the vault's server."""
        for name in ("console", "office", "recovery", "portal"):
            self.kill(name)
        self.kill_exports()

    @property
    def vault(self) -> str:
        return f"s3://{_BUCKET}/{self._vaults}"

    def state(self, part: str) -> Path:
        """Its state folder. A portal is set up on the recovery host, where the agent's is."""
        return self.folder / ("recovery" if part == "portal" else part)

    # --- parts ----------------------------------------------------------------------------------------

    def start(self, part: str) -> None:
        """Returns when a console answers; an agent is not waited for. Nothing when it runs."""
        if self.runs(part):
            return
        if part == "portal":
            self._start_portal()
            return
        words = ["serve"] if part == "console" else ["agent", "run"]
        config = ["-m", "leeward.cli.main", "--config", str(self._config(part))]
        self._spawn(part, _PLACE[part], [*config, *words])
        if part == "console":
            _until(lambda: self.asker(part).get("/hosts") is not None, "the console does not answer")

    def runs(self, part: str) -> bool:
        if part == "portal":
            return self._portal() is not None
        process = self._running.get(part)
        return process is not None and process.poll() is None

    def kill(self, part: str) -> None:
        """kill -9; nothing when it does not run."""
        if part == "portal":
            if (pid := self._portal()) is not None:
                _kill(pid)
        elif process := self._running.pop(part, None):
            process.kill()
            process.wait()

    def forget(self, part: str) -> None:
        """It was killed by somebody else."""
        if process := self._running.pop(part, None):
            process.wait()

    def exports(self) -> list[int]:
        """Ids of the export processes of this lab: they serve the disks of recovered VMs."""
        return _find(lambda words: b"leeward.recovery.export" in words and _below(words, self.folder))

    def kill_exports(self) -> int:
        """kill -9 to all of them; how many there were."""
        found = self.exports()
        _kill(*found)
        return len(found)

    def kill_libvirtd(self, name: str) -> None:
        """kill -9; its VMs go on. Nothing when it is gone already: its number may be somebody else's by now."""
        pid = int((self.lab.places.site(name) / "libvirtd.pid").read_text())
        if pid in netns.processes(netns.identities([self.lab.places.host_netns(name)])):
            _kill(pid)

    def burn(self, name: str) -> int:
        """kill -9 to every process of a site's host, VMs and all; how many there were."""
        wanted = netns.identities([self.lab.places.host_netns(name)])
        count = 0
        while found := list(netns.processes(wanted)):
            _kill(*found)
            count += len(found)
        self.forget(name)
        # What a host keeps in /run does not survive the loss of its power.
        _empty(self.lab.places.site(name) / "run")
        return count

    def start_libvirtd(self, name: str) -> None:
        site.start_daemon(self.lab.places, name)

    def _start_portal(self) -> None:
        key = self.folder / "recovery.key"
        words = ["portal", "--vault", self.vault, "--recovery-key-file", str(key), "--name", "recovery"]
        words += ["--state", str(self.state("portal")), "--uri", self.lab.libvirt("recovery")]
        words += ["--storage", str(self.lab.places.images("recovery"))]
        self._run("recovery", words)

    def _portal(self) -> int | None:
        config = os.fsencode(self._config("portal"))
        return next(iter(_find(lambda words: b"serve" in words and config in words)), None)

    # --- asking ---------------------------------------------------------------------------------------

    def asker(self, part: str) -> Asker:
        """The API of console or portal, by its unix socket: no cut of the network is in the way."""
        settings = read_settings(self._config(part))
        return Client(settings.model_copy(update={"daemon": settings.daemon.model_copy(update={"autostart": False})}))

    def command(self, part: str, *words: str) -> Any:
        """The answer of `leeward WORDS --json`, given at the part's place. Raises LeewardError."""
        return self._run(_PLACE[part], ["--config", str(self._config(part)), *words])

    def vault_command(self, *words: str) -> Any:
        """As `command`, from beside the vault: what is cut elsewhere does not matter."""
        return self._run("cloud", ["--config", str(self._config("console")), *words])

    def _run(self, place: str, words: Sequence[str]) -> Any:
        command = self._at(place, ["-m", "leeward.cli.main", *words, "--json"])
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise LeewardError(lines[-1], subject=f"leeward {' '.join(words[:4])}")
        return json.loads(done.stdout)

    def _curl(self, *words: str) -> bool:
        command = ["ip", "netns", "exec", self.lab.places.netns("cloud"), "curl", "-sf", "-o", "/dev/null"]
        return (
            subprocess.run([*command, "--cacert", str(self.folder / "ca.pem"), *words], check=False).returncode == 0
        )

    # --- insides --------------------------------------------------------------------------------------

    def _spawn(self, part: str, place: str, words: Sequence[str]) -> None:
        with (self.folder / f"{part}.log").open("ab") as log:
            self._running[part] = subprocess.Popen(
                [*tools.MORTAL, *self._at(place, words)],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def _at(self, place: str, words: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.lab.places.netns(place), sys.executable, *words]

    def _environment(self) -> dict[str, str]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("LEEWARD_", "AWS_"))}
        return mine | {
            "AWS_ENDPOINT_URL": _STORE,
            "AWS_ACCESS_KEY_ID": "lab",
            "AWS_SECRET_ACCESS_KEY": "lab-secret",
            "AWS_REGION": "us-east-1",
            "SSL_CERT_FILE": str(self.folder / "ca.pem"),
        }

    def _config(self, part: str) -> Path:
        return self.state(part) / "leeward.toml" if part == "portal" else self.folder / f"{part}.toml"

    def _configure(self) -> None:
        head = '[vault]\nurl = "{url}"\n\n[daemon]\nstate = "{state}"\nspool_limit = {spool}\n\n'
        console = f'[console]\nagents_listen = "{_LINE}"\nagents_address = "https://{_LINE}"\n'
        host = '[[host]]\nname = "{name}"\nsite = "{kind}"\nuri = "{uri}"\n'
        storage = f'storage = "{self.lab.places.images("recovery")}"\n'
        bodies = {
            "console": console,
            "office": host.format(name="office", kind="source", uri=self.lab.libvirt("office")),
            "recovery": host.format(name="recovery", kind="recovery", uri=self.lab.libvirt("recovery")) + storage,
        }
        for part, body in bodies.items():
            text = head.format(url=self.vault, state=self.state(part), spool=_SPOOL)
            self._config(part).write_text(text + body)


_PLACE = {"cloud": "cloud", "console": "hq", "office": "office", "recovery": "recovery", "portal": "recovery"}


def _until(holds: Callable[[], bool], failure: str) -> None:
    ends = time.monotonic() + _START_S
    while True:
        try:
            if holds():
                return
        except LeewardError as error:
            told = f"{failure}: {error}"
        else:
            told = failure
        if time.monotonic() > ends:
            raise Unavailable(told)
        time.sleep(0.05)


def _find(wanted: Callable[[list[bytes]], bool]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted(words):
                found.append(int(entry.name))
    return found


def _below(words: list[bytes], folder: Path) -> bool:
    return any(word.startswith(os.fsencode(folder)) for word in words)


def _kill(*pids: int) -> None:
    """kill -9; returns when they are gone. The caller has just seen that they are ours."""
    processes.end(pids, lambda _: True, numbers=(signal.SIGKILL,))


def _empty(folder: Path) -> None:
    """All that is in a folder, which may be a mount point, and stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name != "lost+found":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
