"""The watcher of a scenario: it asks both hypervisors and both LANs several times a second where each VM is.

It never trusts Leeward: what it tells is what hypervisors and guests say. What the console says of recovery points is
only noted, to be looked for in the vault at the end.
"""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import libvirt

from leeward.domain.errors import LeewardError
from leeward.lab.client import Client
from leeward.lab.guests import Guest
from leeward.lab.lab import Lab
from leeward.lab.places import SITES
from leeward.lab.scenario.sightings import Records, Sighting, Sightings, Twice

_PERIOD_S = 0.1
_HTTP_S = 0.6
# The VM keeps its address: at the recovery site a machine with one of the office's net looks for it.
_VISITOR = "10.77.0.3/24"


@dataclass
class Watched:
    """What is known of one VM. live: site → it is powered on and plugged in, None when its hypervisor is silent.

    status: the guest's own words, by site, with the time of the answer. points: ids that the console has told of.
    """

    guest: Guest
    powered: Sightings = field(default_factory=Sightings)
    answering: Sightings = field(default_factory=Sightings)
    records: Records = field(default_factory=Records)
    live: dict[str, bool | None] = field(default_factory=dict)
    on: dict[str, bool | None] = field(default_factory=dict)
    status: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)
    points: set[str] = field(default_factory=set)
    states: set[str] = field(default_factory=set)
    excused: str = ""


class Watcher:
    """ask: the status rows of whichever console is there now; raises LeewardError when none is. Use as a context."""

    def __init__(self, lab: Lab, guests: Mapping[str, Guest], ask: Callable[[], list[dict[str, Any]]]) -> None:
        self._lab = lab
        self._ask = ask
        self.vms = {name: Watched(guest) for name, guest in guests.items()}
        self.looks = 0
        self.failure = ""
        self.excused_s = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._stack = ExitStack()
        self._clients: dict[str, Client] = {}
        self._threads = [threading.Thread(target=self._look, args=(self._watch_console,), daemon=True)]
        for plan in SITES:
            self._threads.append(threading.Thread(target=self._look, args=(self._watch_host, plan.name), daemon=True))

    def __enter__(self) -> Watcher:
        visitor = self._stack.enter_context(self._lab.probe("recovery", address=_VISITOR))
        self._clients = {"office": self._lab.client("office"), "recovery": visitor}
        for site, client in self._clients.items():
            for vm in self.vms.values():
                watch = (self._watch_guest, site, client, vm)
                self._threads.append(threading.Thread(target=self._look, args=watch, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)
        self._stack.close()

    def excuse(self, vm: str, because: str) -> None:
        """From now on the VM may be at two sites; "": no longer."""
        with self._lock:
            self.vms[vm].excused = because

    def write(self, name: str, megabytes: int) -> str:
        """Have the guest write new data, as a client of its; the site where it is asked."""
        vm = self.vms[name]
        site = max(vm.status, key=lambda site: vm.status[site][0])

        def ask() -> None:
            with suppress(LeewardError):  # it may be paused for want of room, which is what is looked for
                self._clients[site].http(vm.guest.ip, f"/burn?{megabytes}", timeout_s=60)

        threading.Thread(target=ask, name="write", daemon=True).start()
        return site

    # --- looks ----------------------------------------------------------------------------------------

    def _look(self, watch: Callable[..., None], *of: Any) -> None:
        """A look that breaks must not pass for one that saw nothing wrong."""
        try:
            watch(*of)
        except Exception as error:
            with self._lock:
                self.failure = self.failure or f"the watcher broke: {error!r}"
            raise

    def _watch_host(self, site: str) -> None:
        """One connection as long as it holds; a daemon that was killed has another one soon."""
        connection: libvirt.virConnect | None = None
        while not self._over.wait(_PERIOD_S):
            for vm in self.vms.values():
                begin = time.time()
                on, live = None, None
                try:
                    connection = connection or libvirt.openReadOnly(self._lab.libvirt(site))
                    on, live = _power(connection, vm.guest.uuid)
                except libvirt.libvirtError:
                    if connection is not None:
                        with suppress(libvirt.libvirtError):
                            connection.close()
                    connection = None
                vm.on[site], vm.live[site] = on, live
                if live is not None:
                    self._note(vm, vm.powered, Sighting(site, begin, time.time(), live), "ran and was plugged in")

    def _watch_guest(self, site: str, client: Client, vm: Watched) -> None:
        while not self._over.wait(_PERIOD_S):
            begin = time.time()
            try:
                status = client.json(vm.guest.ip, timeout_s=_HTTP_S)
            except (LeewardError, ValueError):
                self._note(vm, vm.answering, Sighting(site, begin, time.time(), False), "")
                continue
            end = time.time()
            vm.status[site] = (end, status)
            with self._lock:
                vm.records.heard(end, int(status["seq"]))
            self._note(vm, vm.answering, Sighting(site, begin, end, True), "answered its clients")

    def _watch_console(self) -> None:
        while not self._over.wait(4 * _PERIOD_S):
            with suppress(LeewardError):
                for row in self._ask():
                    vm = self.vms.get(row["vm"])
                    if vm is not None:
                        vm.states.add(row["state"])
                        if row["last_point"]:
                            vm.points.add(row["last_point"]["id"])

    def _note(self, vm: Watched, sightings: Sightings, sighting: Sighting, what: str) -> None:
        with self._lock:
            self.looks += 1
            twice = sightings.saw(sighting)
            if twice is None:
                return
            if vm.excused:
                self.excused_s = max(self.excused_s, _length(sightings.twice))
            elif not self.failure:
                at = time.strftime("%H:%M:%S", time.localtime(twice.begin))
                self.failure = f"two primaries: {vm.guest.name} {what} at both sites at {at}"


def _length(found: list[Twice]) -> float:
    return found[-1].end - found[0].begin


def _power(connection: libvirt.virConnect, uuid: str) -> tuple[bool, bool]:
    """Whether the VM is on, and whether it runs with a plug in the network."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        if not domain.isActive():
            return False, False
        state = domain.state()[0]
        links = ET.fromstring(domain.XMLDesc()).findall("./devices/interface")
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            return False, False
        raise
    plugged = any((found := link.find("link")) is None or found.get("state") != "down" for link in links)
    return True, plugged and state == libvirt.VIR_DOMAIN_RUNNING
