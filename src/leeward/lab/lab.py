"""The lab: an office and a recovery site on one machine, with guests, clients and a link between them."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from leeward.domain.errors import LeewardError, Refused
from leeward.lab import kvm, netns, processes, site, tools, wan
from leeward.lab.client import Client
from leeward.lab.guest import cache
from leeward.lab.guests import Guest, Guests, Wish
from leeward.lab.places import BRIDGE, DEFAULT_ROOT, SITES, Places

DEMO_GUESTS = ("web",)

_CONFIG = """\
# Written by `leeward lab up`.
[vault]
url = "{vault}"

[[host]]
name = "office"
site = "source"
uri = "{office}"

[[host]]
name = "recovery"
site = "recovery"
uri = "{recovery}"
storage = "{storage}"

[daemon]
state = "{state}"
autostart = true
"""
# Where people look at it: only the lab that they start by hand, not those of tests, which live side by side.
_DASHBOARD = """
[console]
listen = "127.0.0.1:{port}"
"""
_PORTS = range(8443, 8464)


class Lab:
    """One lab. Site names are "office" and "recovery". Every method may be called again after a kill at any point."""

    def __init__(self, root: Path | str | None = None) -> None:
        """root: the lab folder; see Places.choose for what holds without it."""
        self.places = Places.choose(root)

    # --- life -------------------------------------------------------------------------------------------

    def up(self, guests: Sequence[str] = DEMO_GUESTS) -> None:
        """Bring up both sites and these guests at the office, whatever is there already. Needs root."""
        require_root()
        with cache.exclusive(self.places.lock):
            self.places.cache.mkdir(parents=True, exist_ok=True)
            site.build_networks(self.places)
            for plan in SITES:
                site.start_daemon(self.places, plan.name)
            for folder in (self.places.vault, self.places.state, self.places.probes):
                folder.mkdir(exist_ok=True)
            self._write_config()
            for name in guests:
                self.define_guest("office", name)

    def down(self, *, purge: bool = False) -> None:
        """End and remove everything; the build cache stays unless `purge` (and it lies in the lab folder). Needs
        root."""
        require_root()
        if not self.places.root.exists():
            return
        with cache.exclusive(self.places.lock):
            names = self._namespaces()
            identities = netns.identities(names)
            self._end_processes(identities)
            for name in names:
                netns.delete(name)
            self._end_processes(identities)  # one that was just entering; from now on nobody can
            _unmount_below(self.places.root)
            keep = set() if purge else {self.places.cache}
            for entry in self.places.root.iterdir():
                if entry in keep or entry == self.places.lock:
                    continue
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            self.places.lock.unlink()
        if not any(self.places.root.iterdir()):
            self.places.root.rmdir()

    def status(self) -> dict[str, Any]:
        """What is up, as plain data (documented in docs/cli.md). Needs root: to others all would seem to be off."""
        require_root()
        sites = [self._site_status(plan.name) for plan in SITES]
        return {
            "folder": str(self.places.root),
            "up": all(entry["libvirt"] for entry in sites),
            "config": str(self.places.config),
            "sites": sites,
        }

    # --- guests -----------------------------------------------------------------------------------------

    def define_guest(
        self, site_name: str, name: str, wish: Wish | None = None, *, start: bool = True, **wishes: Any
    ) -> Guest:
        """Make a guest (fields of Wish may be given by keyword) and start it; an existing one is kept as it is."""
        guests = Guests(self.places, site_name)
        guest = guests.define(name, replace(wish or Wish(), **wishes))
        if start:
            guests.start(name)
            site.remember_capabilities(self.places, site_name)
        return guest

    def start_guest(self, site_name: str, name: str) -> None:
        Guests(self.places, site_name).start(name)

    def destroy_guest(self, site_name: str, name: str) -> None:
        Guests(self.places, site_name).destroy(name)

    def guests(self, site_name: str) -> dict[str, Guest]:
        return Guests(self.places, site_name).known()

    @property
    def kvm(self) -> bool:
        """Whether guests run under KVM here, as a probe guest showed."""
        return kvm.usable(self.places.cache)

    # --- reaching things --------------------------------------------------------------------------------

    def libvirt(self, site_name: str) -> str:
        """libvirt URI of a site, usable from anywhere on this machine."""
        return self.places.uri(site_name)

    def client(self, site_name: str) -> Client:
        """The client machine on the LAN of a site."""
        return Client(self.places.client_netns(site_name))

    def http(self, site_name: str, ip: str, path: str = "/", timeout_s: float = 5.0) -> dict[str, Any]:
        """GET as JSON from the site's client."""
        return self.client(site_name).json(ip, path, timeout_s)

    def wait_http(self, site_name: str, ip: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The guest's status as soon as it answers the site's client."""
        return self.client(site_name).wait(ip, timeout_s=timeout_s)

    @contextmanager
    def probe(self, site_name: str, bridge: str = BRIDGE, address: str = "10.77.0.3/24") -> Iterator[Client]:
        """A temporary machine on any bridge of a site's host, e.g. the isolated network of a test failover."""
        mark = secrets.token_hex(3)
        name, host = self.places.netns(f"p{mark}"), self.places.host_netns(site_name)
        record = self.places.probes / name
        record.touch()
        try:
            netns.ensure(name)
            site.attach(host, bridge, f"p{mark}", name, "eth0")
            netns.ip(name, f"addr replace {address} dev eth0")
            site.quicken_neighbours(name)
            yield Client(name)
        finally:
            netns.delete(name)
            record.unlink(missing_ok=True)

    # --- insides ----------------------------------------------------------------------------------------

    @property
    def dashboard(self) -> str:
        """The address of the console's pages, "" where the lab has none."""
        try:
            listen = tomllib.loads(self.places.config.read_text()).get("console", {}).get("listen", "")
        except FileNotFoundError:
            return ""
        return f"https://{listen}" if listen else ""

    def _write_config(self) -> None:
        text = _CONFIG.format(
            vault=self.places.vault.as_uri(),
            office=self.libvirt("office"),
            recovery=self.libvirt("recovery"),
            storage=self.places.images("recovery"),
            state=self.places.state,
        )
        if self.places.root == DEFAULT_ROOT:
            known = self.dashboard.rpartition(":")[2]
            text += _DASHBOARD.format(port=known or _free_port())
        written = self.places.config.with_suffix(".new")
        written.write_text(text)
        written.rename(self.places.config)

    def _namespaces(self) -> list[str]:
        names = [
            namespace(plan.name) for plan in SITES for namespace in (self.places.client_netns, self.places.host_netns)
        ]
        names += wan.namespaces(self.places)
        if self.places.probes.is_dir():
            names += [record.name for record in self.places.probes.iterdir()]
        return names

    def _end_processes(self, namespaces: frozenset[int]) -> None:
        """The daemons first, so that they do not see their guests die; then all that lives in our namespaces."""

        def ours() -> set[int]:
            return {*netns.processes(namespaces), *processes.strays(self.places.root)}

        daemons = {int(text) for plan in SITES if (text := _read(self.places.site(plan.name) / "libvirtd.pid"))}
        processes.end(daemons & ours(), lambda pid: pid in ours())
        while left := ours():  # what was forking when we looked has one more
            processes.end(left, lambda pid: pid in ours())

    def _site_status(self, name: str) -> dict[str, Any]:
        answers = site.daemon_answers(self.places, name)
        guests = Guests(self.places, name)
        running = guests.running() if answers else set()
        return {
            "name": name,
            "libvirt": answers,
            "uri": self.libvirt(name),
            "guests": [
                {
                    "name": guest.name,
                    "running": guest.name in running,
                    "ip": guest.ip,
                    "http": self._answers(name, guest),
                }
                for guest in guests.known().values()
            ],
        }

    def _answers(self, site_name: str, guest: Guest) -> bool:
        try:
            self.http(site_name, guest.ip, timeout_s=0.5)
        except LeewardError:
            return False
        return True


def require_root() -> None:
    if os.geteuid() != 0:
        raise Refused("the lab needs root: it makes network namespaces and runs libvirt", hint="Use sudo")


def take_down_dead(labs: Path, prefix: str) -> None:
    """The labs in folders named PREFIX, a process id, and anything more, whose process is gone: it was killed."""
    for folder in labs.glob(f"{prefix}*"):
        pid = folder.name.removeprefix(prefix).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            Lab(folder).down()
            shutil.rmtree(folder, ignore_errors=True)


def _read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _unmount_below(root: Path) -> None:
    """Let go what somebody mounted inside the lab folder, so that removing the folder does not reach into it."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in points if root in point.parents), reverse=True):
        tools.run(["umount", "--lazy", point])


def _free_port() -> int:
    """The first of a few that nobody on this machine listens on."""
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Refused("no port is free for the lab's dashboard", hint=f"Free one of {_PORTS[0]} to {_PORTS[-1]}")
